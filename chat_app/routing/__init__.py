"""Model router: which of the engine's models answers a turn.

Knows the models on offer. Does not know the prompt's cost, the person's balance, or the engine's address.
Its own tables: none.
"""
