"""Who is asking, and what can be wrong with an account. Plain data; it does not know how it was proven."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ROLES = ("user", "staff", "admin")
NO_PASSWORD = ""
"""Stands for the hash where an account has no password. No password has it."""
COLUMNS = (
    "u.id, u.tenant_id, u.email, u.name, u.role, u.plan_id, u.factor_at,"
    f" CASE WHEN u.password_hash = '{NO_PASSWORD}' THEN 0 ELSE 1 END AS has_password"
)
"""What a query selects from `users u` to make an identity."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person within a tenant, as the database had them at this moment. Ask anew for each request; keep
    none."""

    user_id: str
    tenant_id: str
    email: str
    name: str
    role: str
    plan_id: str
    has_second_factor: bool = False
    has_password: bool = True
    """If not, they sign in through the provider of identities, which asks for what it wants."""

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    @property
    def is_staff(self) -> bool:
        """Staff, or an administrator."""
        return self.role in ("staff", "admin")

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Identity":
        """From a row that holds `COLUMNS`."""
        return cls(
            row["id"],
            row["tenant_id"],
            row["email"],
            row["name"],
            row["role"],
            row["plan_id"],
            row["factor_at"] is not None,
            bool(row["has_password"]),
        )


@dataclass(frozen=True, slots=True)
class Person:
    """A line of the administrator's list of people. Times in milliseconds UTC."""

    identity: Identity
    created_at: int
    disabled: bool


class AccountError(Exception):
    """What a person asked of their account cannot be done. `message` is in plain words, `code` for programs.

    Codes: bad_email, bad_name, bad_password, weak_password, bad_role, email_taken, signup_closed, bad_credentials,
    account_disabled, bad_setup_code, too_many_attempts and busy (with `retry_after` in seconds), not_found,
    plan_unknown, last_admin, too_many_keys, bad_key, second_factor_needed, sign_in_again, bad_code, factor_on,
    factor_off, factor_unreadable.
    """

    def __init__(self, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after = retry_after


class SecondFactorNeeded(AccountError):
    """The password was right, and a code is asked for. `proof` is a token for a cookie, good for the code alone."""

    def __init__(self, proof: str) -> None:
        super().__init__("second_factor_needed", "Enter the code of your authenticator app, or a recovery code.")
        self.proof = proof
