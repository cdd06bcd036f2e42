"""Prompt orchestration: what the model is given.

Knows the parts of a prompt and the window they have to fit. Does not know who asks, what it costs, or how the engine
works. Its own tables: none.
"""
