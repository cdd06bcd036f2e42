"""Safety and moderation: what may go to a model, and what of its answer may go to a person.

Knows text, rules about text, and the queue of refusals that a person reviews. Does not know who asks, which model
answers, or what a turn costs. Its own tables: review.
"""
