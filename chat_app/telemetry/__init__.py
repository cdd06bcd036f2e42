"""Observability: events, their export to Parquet, metrics, and logs without content.

Knows what is measured and recorded about turns. Does not know what was said, nor how a turn works.
Its own tables: event.
"""
