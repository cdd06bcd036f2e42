"""A key that is in force no more, or was shown with a secret that is not, ends what it runs, wherever it was ended."""

from contextlib import AbstractContextManager

from chat_app.accounts.grant import Grant
from chat_app.gateway.caller import NOT_VALID
from chat_app.gateway.connection import Connection
from chat_app.gateway.errors import ApiError
from chat_app.wiring import Parley


class KeyEnded(ApiError):
    """The key was in force when the call began, and is no more."""

    def __init__(self) -> None:
        super().__init__(401, "invalid_api_key", f"This API key is not valid any more: {NOT_VALID}.")


def while_in_force(parley: Parley, grant: Grant, connection: Connection) -> AbstractContextManager[None]:
    """Within `async with connection`: ends it with `KeyEnded` within a second after the end of the key, or of the
    secret that was shown."""
    return parley.key_watch.watching(grant.secret, lambda: connection.interrupt(KeyEnded()))
