"""What an API key lets a program do, and as whom. Plain data and its bounds; it does not know how a key is proven."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from chat_app.accounts.identity import AccountError, Identity
from chat_app.data.ids import now_ms

SCOPES = ("chat", "models", "generations", "admin")
"""Routes that a key may use: completions, the list of models, answers that have begun, administration."""
USUAL = SCOPES[:3]
MOST_MODELS, LONGEST_MODEL = 50, 256
MOST = 1_000_000_000_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rights:
    """What a key may, within what its owner may. No `models`: all. None: no limit of the key's own.

    `monthly_tokens` are prompt and answer together, `expires_at` is in milliseconds UTC.
    """

    scopes: tuple[str, ...] = USUAL
    models: tuple[str, ...] = ()
    monthly_tokens: int | None = None
    requests_per_minute: int | None = None
    expires_at: int | None = None

    def checked(self) -> "Rights":
        """The same in the order of `SCOPES`. Raises `AccountError` (bad_key)."""
        if unknown := [scope for scope in self.scopes if scope not in SCOPES]:
            raise _bad(f"There is no scope {unknown[0]!r}; there are: {', '.join(SCOPES)}.")
        if not self.scopes:
            raise _bad(f"A key needs a scope: {', '.join(SCOPES)}.")
        if len(self.models) > MOST_MODELS or not all(_is_name(model) for model in self.models):
            raise _bad(f"A key names at most {MOST_MODELS} models, of up to {LONGEST_MODEL} characters each.")
        for what, value in (("tokens a month", self.monthly_tokens), ("calls a minute", self.requests_per_minute)):
            if value is not None and not 1 <= value <= MOST:
                raise _bad(f"A key has between 1 and {MOST:,} {what}, or no limit of its own.")
        if self.expires_at is not None and self.expires_at <= now_ms():
            raise _bad("A key expires in the future, or never.")
        scopes = tuple(scope for scope in SCOPES if scope in self.scopes)
        return Rights(scopes, self.models, self.monthly_tokens, self.requests_per_minute, self.expires_at)

    @property
    def values(self) -> tuple[str, str, int | None, int | None, int | None]:
        """As the columns `RIGHTS` hold them."""
        models = orjson.dumps(self.models).decode() if self.models else ""
        return " ".join(self.scopes), models, self.monthly_tokens, self.requests_per_minute, self.expires_at

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Rights":
        """From a row that holds `RIGHTS`."""
        models = tuple(orjson.loads(row["models"])) if row["models"] else ()
        scopes = tuple(row["scopes"].split())
        return cls(scopes, models, row["monthly_tokens"], row["requests_per_minute"], row["expires_at"])


RIGHTS = ("scopes", "models", "monthly_tokens", "requests_per_minute", "expires_at")


@dataclass(frozen=True, slots=True)
class Grant:
    """A key as it stood at this moment. Ask anew for each request; keep none. `secret` stands for the one of its
    secrets that was shown (a digest)."""

    identity: Identity
    key_id: str
    rights: Rights
    secret: str


def _is_name(model: str) -> bool:
    return 0 < len(model) <= LONGEST_MODEL and model.isprintable()


def _bad(message: str) -> AccountError:
    return AccountError("bad_key", message)
