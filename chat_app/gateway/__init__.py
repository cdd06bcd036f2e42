"""The API gateway: what programs and forms speak with over HTTP.

Knows HTTP, the OpenAI shape, cookies' headers and health. Does not know how a turn runs, what it costs, or
the pages. It has no tables.
"""
