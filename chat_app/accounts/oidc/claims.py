"""What a provider says about a person, and what of it counts here. Nothing of it is believed before it was verified."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chat_app.accounts.identity import ROLES

LATEST_S = 10**11
"""Seconds since 1970 that no clock shows."""


@dataclass(frozen=True, slots=True)
class Claims:
    """A person as the provider knows them."""

    subject: str
    """Who they are there, for good. An e-mail address may pass to somebody else, this does not."""
    email: str
    """Empty if the provider does not say that it is theirs."""
    name: str
    groups: frozenset[str]
    session: str
    """The provider's name for this sign-in; empty if it gives none."""
    signed_in_at: int
    """Seconds since 1970 of when they proved who they are; 0 if the provider does not say."""

    @classmethod
    def read(cls, found: Mapping[str, Any], *, groups: str, trust_email: bool) -> "Claims":
        """From an ID token's claims and the userinfo's. `groups` is the claim that lists them; a dot leads into an
        object, as in Keycloak's `realm_access.roles`."""
        verified = trust_email or found.get("email_verified") in (True, "true")
        at = found.get("auth_time")
        return cls(
            subject=str(found["sub"]),
            email=_text(found.get("email")) if verified else "",
            name=_text(found.get("name")) or _text(found.get("preferred_username")),
            groups=_listed(_inner(found, groups)),
            session=_text(found.get("sid")),
            signed_in_at=at if isinstance(at, int) and 0 < at < LATEST_S else 0,
        )


def role_of(groups: frozenset[str], roles: Mapping[str, str]) -> str | None:
    """The highest role that one of the groups has, `user` if none has one; None where `roles` names no groups."""
    if not roles:
        return None
    return max((roles[group] for group in groups if group in roles), key=ROLES.index, default="user")


def plan_of(groups: frozenset[str], plans: Mapping[str, str]) -> str | None:
    """The plan of the first group, in the order of `plans`, that the person is in."""
    return next((plan for group, plan in plans.items() if group in groups), None)


def _inner(found: Any, path: str) -> Any:
    if isinstance(found, Mapping) and path in found:
        return found[path]  # Auth0's claims are addresses, with dots of their own.
    for part in path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _listed(value: Any) -> frozenset[str]:
    values = value if isinstance(value, list) else [value]
    return frozenset(item for item in values if isinstance(item, str) and item)


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
