"""What a turn's rows say in the ledger's words: whose account it is, what is held, what was used."""

from chat_app.billing.ledger import Account, Amount
from chat_app.sessions.generations import GenerationRow
from chat_app.sessions.steps import Step


def account(row: GenerationRow) -> Account:
    """Whose money it is, in the month in which the turn began."""
    return Account(row.tenant_id, row.user_id, row.id, row.period, row.api_key_id)


def held(row: GenerationRow) -> Amount:
    """What the running step holds."""
    return Amount(row.held_tokens, row.held_micro)


def used(step: Step) -> Amount:
    """What a finished model step costs."""
    return Amount(step.prompt_tokens + step.completion_tokens, step.cost_micro)
