"""The only reader of the environment. Every setting is documented in docs/settings.md, held there by a test."""

from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from chat_app.setting_values import is_address, is_loopback, names_in, networks_of, origin_of, pairs_in

TOOLS = ("calculator",)
"""Names of the built-in tools; a test holds them to the room's own list."""


class Settings(BaseSettings):
    """Parley's settings, each read from `PARLEY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_", extra="ignore", hide_input_in_errors=True)

    home: Path = Field(
        Path(".parley"), description="Directory of all state: database, logs, exports, the engine's files."
    )
    host: str = Field(
        "127.0.0.1", description="Address of this machine to listen on (`--host`); 0.0.0.0 for every one."
    )
    public_url: str = Field(
        "",
        description="Address that browsers use, e.g. https://chat.example.org: scheme, name and port, no path. Empty:"
        " whatever the request says.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses and networks of the reverse proxies in front, separated by commas: only they are"
        " believed about where a request comes from (X-Forwarded-For, X-Forwarded-Proto).",
    )
    allowed_hosts: str = Field(
        "",
        description="Further names that requests may be addressed to, separated by commas, beside the public address's"
        " and localhost. Without a public address numeric addresses are among them, unless only this machine reaches"
        " Parley.",
    )
    allowed_origins: str = Field(
        "", description="Further origins that may open the socket or sign in, separated by commas."
    )
    secure_cookies: bool | None = Field(
        None,
        description="Mark the cookies Secure. Unset: when the public address is https, or a trusted proxy says that the"
        " request was.",
    )

    database_url: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL address (postgresql://…). Empty: SQLite under the home directory.",
    )
    redis_url: SecretStr = Field(
        SecretStr(""),
        description="Redis or Valkey (redis://…) for generation log, leases, limits and page state. Empty: embedded.",
    )

    inference_url: str = Field(
        "",
        description="Address of an OpenAI-compatible engine, or several separated by commas. Empty: the app starts and"
        " supervises its own.",
    )
    inference_key: SecretStr = Field(
        SecretStr(""), description="Bearer key for that engine; for several one for all, or one each, in their order."
    )
    inference_engine: Literal["llama_cpp", "scripted"] = Field(
        "llama_cpp",
        description="Engine that the app starts when no address is given. `scripted` has no model: for tests.",
    )
    default_model: str = Field("smollm2-135m-instruct", description="Model that a new chat uses.")
    system_prompt: str = Field(
        "You are a helpful AI assistant named Parley.",
        description="First message of every prompt.",
    )

    fallback_models: str = Field(
        "",
        description="Models that serve when the chosen one cannot, in this order, separated by commas.",
    )
    tools: str = Field(
        "calculator",
        description="Tools that Parley runs itself for chats with a model that can call them, separated by commas.",
    )

    temperature: float = Field(
        0.4, ge=0, le=2, description="Temperature of answers in the chat; a program names its own."
    )
    max_input_chars: int = Field(
        32_000, ge=1, description="Longest message that a person or program may send, in characters."
    )
    max_output_tokens: int = Field(
        1_024,
        ge=1,
        description="Longest answer in tokens where the tier and the request allow more or say nothing.",
    )
    gather_ms: int = Field(
        160,
        ge=0,
        le=1_000,
        description="Most milliseconds that the engine gathers text into one piece: 80 for each answer that runs, up"
        " to this. 0: every token for itself.",
    )
    lease_ms: int = Field(
        5_000,
        ge=500,
        description="How long an owner may be silent before another replica takes its answers over, in milliseconds.",
    )

    signup: Literal["open", "closed"] | None = Field(
        None,
        description="Whether visitors may create accounts: open or closed. Unset: open only where nobody but this"
        " machine reaches Parley. The first one, the administrator's, can always be made with the set-up code.",
    )
    oidc_issuer: str = Field(
        "",
        description="Address of an OpenID Connect provider (Keycloak, Auth0, Entra …) that people can sign in with, as"
        " it names itself. Empty: only passwords.",
    )
    oidc_client_id: str = Field("", description="Parley's client there. Its redirect URI is …/auth/oidc/callback.")
    oidc_client_secret: SecretStr = Field(SecretStr(""), description="That client's secret; empty for a public client.")
    oidc_name: str = Field("your company account", description="What the button says: Continue with ….")
    oidc_scopes: str = Field("openid email profile", description="What Parley asks the provider for.")
    oidc_groups_claim: str = Field(
        "groups", description="Claim that lists a person's groups; a dot leads into an object (realm_access.roles)."
    )
    oidc_roles: str = Field(
        "",
        description="Roles of groups, e.g. parley-admins=admin,support=staff. With it, whoever is in none of them is a"
        " user, and every sign-in with the provider sets the role anew.",
    )
    oidc_plans: str = Field(
        "",
        description="Plans of groups, e.g. research=enterprise,sales=pro: the first that somebody is in counts, at"
        " every sign-in with the provider.",
    )
    oidc_emails: Literal["verified", "all"] = Field(
        "verified",
        description="Which e-mail addresses of the provider are believed: those that it calls verified, or all"
        " (Entra says nothing about them).",
    )
    session_days: int = Field(30, ge=1, description="Days until a browser session ends, however much it is used.")
    session_idle_hours: int = Field(
        168, ge=1, description="Hours without anything done in it after which a browser session ends."
    )
    require_second_factor: Literal["nobody", "staff", "everyone"] = Field(
        "nobody",
        description="Who has to set up a second factor before anything else: nobody, staff (and administrators), or"
        " everyone. Not those without a password: the provider of identities asks them.",
    )
    default_plan: str = Field("free", description="Plan that a new account gets.")
    first_plan: str = Field(
        "enterprise",
        description="Plan of the first account, the administrator's: who runs Parley alone needs no limit.",
    )
    pages_per_address: int = Field(
        100,
        ge=1,
        description="Pages that one network address may hold open at a time in each process. How often they may be"
        " opened, and what they may send, follows from it. More for a company behind one address.",
    )
    export_minutes: int = Field(
        5, ge=0, description="Minutes between exports of events to Parquet; 0 switches the schedule off."
    )
    purge_minutes: int = Field(
        10,
        ge=1,
        le=30,
        description="Minutes between purges, which remove for good what was deleted or has outlived its time.",
    )
    keep_calls_days: int = Field(
        30,
        ge=1,
        description="Days that the record of a call of the API is kept (model, tokens, receipt, review). Its text is"
        " gone about an hour after its end, what it cost stays.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token that /metrics asks for. Empty: nobody reads the figures.",
    )

    @field_validator("home")
    @classmethod
    def _home(cls, value: Path) -> Path:
        """Whoever reads it must find the same directory, whether a shell has seen the `~` or not."""
        return value.expanduser()

    @field_validator("public_url")
    @classmethod
    def _public_address(cls, value: str) -> str:
        """Names, origins and cookies are derived from it, so half an address would be worse than none."""
        return origin_of(value) if value else value

    @field_validator("oidc_issuer")
    @classmethod
    def _provider(cls, value: str) -> str:
        """Whoever could change what it says on its way here could sign in as anybody."""
        if value and (
            not is_address(value) or not (value.startswith("https://") or is_loopback(urlsplit(value).hostname or ""))
        ):
            raise ValueError(f"{value!r} is no address of a provider: write https://login.example.org/realms/us")
        return value

    @field_validator("oidc_client_id")
    @classmethod
    def _client(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("oidc_issuer") and not value:
            raise ValueError("the provider of PARLEY_OIDC_ISSUER knows Parley by it")
        return value

    @field_validator("oidc_roles")
    @classmethod
    def _roles(cls, value: str) -> str:
        for group, role in pairs_in(value).items():
            if role not in ("user", "staff", "admin"):
                raise ValueError(f"{group}={role}: a role is one of user, staff, admin")
        return value

    @field_validator("oidc_plans")
    @classmethod
    def _plans(cls, value: str) -> str:
        pairs_in(value)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        """As browsers write them: only so they are ever equal."""
        return ",".join(origin_of(name) for name in names_in(value))

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        networks_of(value)
        return value

    @field_validator("inference_url")
    @classmethod
    def _addresses(cls, value: str) -> str:
        """Each one in its shortest form, without the "/v1" that other clients want."""
        given = [address.strip() for address in value.split(",") if address.strip()]
        roots = [address.rstrip("/").removesuffix("/v1").rstrip("/") for address in given]
        for address, root in zip(given, roots, strict=True):
            if not is_address(root):
                raise ValueError(f"{address!r} is no address: write http://host:port")
            if roots.count(root) > 1:
                raise ValueError(f"{address!r} is named twice")
        return ",".join(roots)

    @field_validator("inference_key")
    @classmethod
    def _one_key_or_one_each(cls, value: SecretStr, info: ValidationInfo) -> SecretStr:
        addresses = len(str(info.data.get("inference_url", "")).split(","))
        if addresses > 1 and (keys := len(_keys(value))) not in (1, addresses):
            raise ValueError(f"{keys} keys for {addresses} addresses: give one for all, or one for each")
        return value

    @property
    def private(self) -> bool:
        """Whether only this machine reaches it: bound to loopback, and no sign of anything in front. It then goes by
        no name but localhost, so a proxy that nobody told it about, and that passes on how it was asked, finds it
        closed."""
        return is_loopback(self.host) and not (self.public_url or self.trusted_proxies or self.allowed_hosts)

    @property
    def signup_is_open(self) -> bool:
        """Whether visitors may create accounts."""
        return self.signup == "open" if self.signup else self.private

    @property
    def group_roles(self) -> dict[str, str]:
        """Roles by the provider's groups."""
        return pairs_in(self.oidc_roles)

    @property
    def group_plans(self) -> dict[str, str]:
        """Ids of plans by the provider's groups, the first one first."""
        return pairs_in(self.oidc_plans)

    @property
    def inference_urls(self) -> tuple[str, ...]:
        """The engines' addresses; none if the app starts its own."""
        return tuple(self.inference_url.split(",")) if self.inference_url else ()

    @property
    def inference_keys(self) -> tuple[str, ...]:
        """One key for all those addresses, or one for each."""
        several = len(self.inference_urls) > 1
        return _keys(self.inference_key) if several else (self.inference_key.get_secret_value(),)

    @field_validator("tools")
    @classmethod
    def _known_tools(cls, value: str) -> str:
        """Only those that there are."""
        for name in names_in(value):
            if name not in TOOLS:
                raise ValueError(f"there is no tool {name!r}; there are: {', '.join(TOOLS)}")
        return value

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """The names of the models that serve when the chosen one cannot."""
        return names_in(self.fallback_models)

    @property
    def tool_names(self) -> tuple[str, ...]:
        """The names of the tools that chats have."""
        return names_in(self.tools)

    @property
    def embedded(self) -> bool:
        """Without Redis one process holds the home directory alone."""
        return not self.redis_url.get_secret_value()

    @property
    def sqlite_path(self) -> Path:
        return self.home / "parley.db"

    @property
    def exports(self) -> Path:
        return self.home / "exports"


def wrong(error: ValidationError) -> str:
    """Which setting makes no sense, and why, in one line. No key is in it."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"PARLEY_{'_'.join(map(str, first['loc'])).upper()}: {first['msg'].removeprefix('Value error, ')}"


def _keys(value: SecretStr) -> tuple[str, ...]:
    return tuple(key.strip() for key in value.get_secret_value().split(","))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
