"""Whose rows a query may touch. Rooms take this instead of an identity, so that none has to know another room."""

from typing import Protocol


class Owner(Protocol):
    """A person within a tenant; `chat_app.accounts.identity.Identity` is one."""

    @property
    def user_id(self) -> str: ...

    @property
    def tenant_id(self) -> str: ...
