"""What stands between a socket and the pages' states. Whoever opens a socket can send whatever they like.

It knows which events a page may send with which arguments (`events`), whose session a state belongs to (`owner`), and
how much may come from one address (`door`). It does not know what an event does. It has no tables.
"""
