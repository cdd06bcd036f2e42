"""Prompt orchestration: what the model is given.

Knows the window and the system prompt. Does not know who asks, what it costs, or how the engine works.
Its own tables: none.
"""
