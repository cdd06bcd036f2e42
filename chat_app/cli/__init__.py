"""The command line: what the person who runs an installation does without a browser.

Works while the server runs: it opens the same database and takes none of the server's locks. Knows the rooms that it
administers. Does not know pages, turns or how an engine is started.
"""
