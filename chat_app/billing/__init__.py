"""Rate limits and billing: plans as data, the ledger of tokens and money.

Knows plans, prices, quotas and the ledger. Does not know what a conversation says or which engine runs.
Its own tables: plan, price, quota, ledger.
"""
