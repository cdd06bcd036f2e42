"""Rate limits and concurrency: their protocol (`base`), memory and Valkey behind it. Knows no tier."""

from chat_app.data.limits.base import Limits
from chat_app.settings import Settings


def open_limits(settings: Settings) -> Limits:
    """The limits that the settings name, not yet started: Valkey, or this process's memory."""
    url = settings.redis_url.get_secret_value()
    if url:
        from chat_app.data.limits.valkey import ValkeyLimits

        return ValkeyLimits(url)
    from chat_app.data.limits.memory import MemoryLimits

    return MemoryLimits()
