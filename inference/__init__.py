"""The inference service: a process of its own that turns prompts into tokens.

Knows models, engines, tokens, slots and queues. Knows nothing of chats, people or money, and imports nothing of
chat_app. `protocol` and `client` are what others use; `python -m inference` is the process.
"""
