"""Who there is: tenants, people, their browser sessions, devices, API keys and second factors."""

from sqlmodel import Field, SQLModel

from chat_app.data.ids import new_id
from chat_app.data.tables.columns import big, text


class Tenant(SQLModel, table=True):
    __tablename__ = "tenant"

    id: str = Field(default_factory=new_id, primary_key=True)
    name: str
    created_at: int = big()


class User(SQLModel, table=True):
    """A person. `role` is one of admin, staff, user; `plan_id` the tier.

    The secret of a second factor is derived from `factor_seed` and a key that is not in the database, whose mark is
    `factor_key`; `factor_step` is the time step of the last code that was accepted, `factor_at` since when one is asked
    for. Of a closed account the row stays, for the ids in the ledger, with nothing of its person.
    """

    __tablename__ = "users"

    id: str = Field(default_factory=new_id, primary_key=True)
    tenant_id: str = Field(foreign_key="tenant.id", index=True)
    email: str = Field(unique=True, description="lower case")
    name: str = ""
    password_hash: str = Field(description="argon2id, with its parameters; empty where there is no password")
    role: str = "user"
    plan_id: str = Field(foreign_key="plan.id", index=True)
    created_at: int = big()
    disabled_at: int | None = big(nullable=True)
    factor_seed: str | None = None
    factor_key: str | None = None
    factor_step: int = big(0)
    factor_at: int | None = big(nullable=True)
    closed_at: int | None = big(nullable=True)


class BrowserSession(SQLModel, table=True):
    """A signed-in browser. The cookie holds a random token, this row only its SHA-256.

    `browser` is its kind in plain words, `seen_at` when somebody last did something in it, `proved_at` when the
    password was last shown. `short_password` is 1 if that was too short to be chosen today.
    """

    __tablename__ = "browser_session"

    id: str = Field(primary_key=True, description="SHA-256 of the cookie's token, hex")
    user_id: str = Field(foreign_key="users.id", index=True)
    created_at: int = big()
    expires_at: int = big()
    browser: str = ""
    seen_at: int = big(0)
    proved_at: int = big(0)
    short_password: int = big(0)
    provider_session: str | None = Field(
        default=None, index=True, description="the provider's name for the sign-in behind it; null: by password"
    )


class ExternalIdentity(SQLModel, table=True):
    """Who somebody is at a provider of identities (OpenID Connect)."""

    __tablename__ = "external_identity"

    issuer: str = Field(primary_key=True)
    subject: str = Field(primary_key=True, description="the provider's name for the person, for good")
    user_id: str = Field(foreign_key="users.id", index=True)
    created_at: int = big()


class OidcFlow(SQLModel, table=True):
    """A browser that was sent to the provider. Its cookie holds a random token, this row only its SHA-256."""

    __tablename__ = "oidc_flow"

    id: str = Field(primary_key=True, description="SHA-256 of the cookie's token, hex")
    state: str
    nonce: str
    verifier: str = Field(description="PKCE's; the provider has its SHA-256")
    onward: str = Field(description="path to go to afterwards")
    link: str | None = Field(default=None, description="account that asked to be connected")
    fresh: int = Field(description="1: they have to prove anew who they are")
    created_at: int = big()


class KnownDevice(SQLModel, table=True):
    """A browser that somebody has signed in from. Its cookie holds a random token, this row only its SHA-256."""

    __tablename__ = "known_device"

    user_id: str = Field(foreign_key="users.id", primary_key=True)
    id: str = Field(primary_key=True, description="SHA-256 of the cookie's token, hex")
    network: str = Field(description="pseudonym of the network address that it was last signed in from")
    seen_at: int = big()


class RecoveryCode(SQLModel, table=True):
    """What stands in for a code of the second factor once. The row goes with its use."""

    __tablename__ = "recovery_code"

    user_id: str = Field(foreign_key="users.id", primary_key=True)
    digest: str = Field(primary_key=True, description="SHA-256 of the code, hex")


class HalfSignIn(SQLModel, table=True):
    """Somebody has given the right password, and not yet the code of their second factor. No session."""

    __tablename__ = "half_sign_in"

    id: str = Field(primary_key=True, description="SHA-256 of the cookie's token, hex")
    user_id: str = Field(foreign_key="users.id", index=True)
    password: str = Field(description="SHA-256 of the password's hash that was compared with, hex")
    expires_at: int = big()


class SetupCode(SQLModel, table=True):
    """What proves that a visitor may make the first account. One row at most, and none once there is an account.

    In clear: every replica has to print the same one, and who can read this table before there is any account could
    as well write one into the next.
    """

    __tablename__ = "setup_code"

    id: str = Field(primary_key=True, description="always `first`")
    code: str
    created_at: int = big()


class ApiKey(SQLModel, table=True):
    """A program's key. The key is shown once; this row keeps its SHA-256 and its first characters.

    Until `former_until` the secret with `former_digest`, which it had before, serves as well. `scopes` are separated by
    blanks, `models` a JSON list, empty for all; null is no limit of the key's own.
    """

    __tablename__ = "api_key"

    id: str = Field(default_factory=new_id, primary_key=True)
    user_id: str = Field(foreign_key="users.id", index=True)
    name: str
    prefix: str
    digest: str = Field(unique=True)
    former_digest: str | None = Field(default=None, unique=True)
    former_until: int | None = big(nullable=True)
    scopes: str = "chat models generations"
    models: str = text()
    monthly_tokens: int | None = big(nullable=True)
    requests_per_minute: int | None = big(nullable=True)
    expires_at: int | None = big(nullable=True)
    created_at: int = big()
    last_used_at: int | None = big(nullable=True)
    revoked_at: int | None = big(nullable=True)
