"""The generation log: its protocol (`base`), SQLite and Valkey behind it. Knows neither users nor prices."""

from chat_app.data.log.base import GenerationLog
from chat_app.settings import Settings


def open_log(settings: Settings) -> GenerationLog:
    """The log that the settings name, not yet started: Valkey, or `log.db` under the home directory."""
    url = settings.redis_url.get_secret_value()
    if url:
        from chat_app.data.log.valkey import ValkeyLog

        return ValkeyLog(url)
    from chat_app.data.log.sqlite import SqliteLog

    return SqliteLog(settings.home / "log.db")
