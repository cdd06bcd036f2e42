"""The audit trail: who did what to what, from where, in one chain that shows what was tampered with.

Knows the form of an entry and of the chain. Does not know what any act means, nor who may read of it.
Its own tables: audit, audit_head.
"""
