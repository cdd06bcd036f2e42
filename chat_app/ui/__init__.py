"""The web pages. They know the turn and read-only views of the rooms through `wiring.parley()`; a page's state holds
only what the page shows, and the URL and the database rebuild it at any time. No tables of their own.
Every event handler can be called by anyone who opens a socket, so each asks the database who is calling.
"""
