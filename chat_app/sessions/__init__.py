"""Session management: threads, their messages, and the generations that write the answers.

Knows conversations and durable jobs. Does not know what a turn costs or how an engine is spoken to.
Its own tables: thread, message, generation, step, checkpoint.
"""
