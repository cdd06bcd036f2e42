"""The only reader of the environment. Every setting is documented in docs/settings.md, held there by a test."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Parley's settings, each read from `PARLEY_<NAME>`."""

    model_config = SettingsConfigDict(env_prefix="PARLEY_", extra="ignore")

    home: Path = Field(
        Path(".parley"), description="Directory of all state: database, logs, exports, the engine's files."
    )
    public_url: str = Field(
        "",
        description="Address that browsers use, e.g. https://chat.example.org. Empty: whatever the request says.",
    )
    allowed_origins: str = Field(
        "", description="Further origins that may open the socket or sign in, separated by commas."
    )
    secure_cookies: bool | None = Field(
        None, description="Mark the session cookie Secure. Unset: when the public address is https."
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
        description="Address of an OpenAI-compatible engine. Empty: the app starts and supervises its own.",
    )
    inference_key: SecretStr = Field(SecretStr(""), description="Bearer key for that engine.")
    inference_engine: Literal["llama_cpp", "scripted"] = Field(
        "llama_cpp",
        description="Engine that the app starts when no address is given. `scripted` has no model: for tests.",
    )
    default_model: str = Field("smollm2-135m-instruct", description="Model that a new chat uses.")
    system_prompt: str = Field(
        "You are a helpful AI assistant named Parley.",
        description="First message of every prompt.",
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
    flush_ms: int = Field(
        20, ge=1, le=1_000, description="Interval at which the generation log is flushed, in milliseconds."
    )
    gather_ms: int = Field(
        160,
        ge=0,
        le=1_000,
        description="Most milliseconds that the engine gathers text into one piece: 40 for each answer that runs, up"
        " to this. 0: every token for itself.",
    )
    lease_ms: int = Field(
        5_000,
        ge=500,
        description="How long an owner may be silent before another replica takes its answers over, in milliseconds.",
    )

    signup: Literal["open", "closed"] = Field(
        "open",
        description="Whether visitors may create accounts. The first one, the administrator's, always can be.",
    )
    session_days: int = Field(30, ge=1, description="Days until a browser session expires.")
    default_plan: str = Field("free", description="Plan that a new account gets.")
    first_plan: str = Field(
        "enterprise",
        description="Plan of the first account, the administrator's: who runs Parley alone needs no limit.",
    )
    export_minutes: int = Field(
        5, ge=0, description="Minutes between exports of events to Parquet; 0 switches the schedule off."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    metrics_token: SecretStr = Field(
        SecretStr(""),
        description="Bearer token that /metrics asks for. Empty: only requests from this machine are answered.",
    )

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


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return Settings()
