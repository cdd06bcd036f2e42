"""Leases: their protocol (`base`), memory and Valkey behind it. Does not know what is leased."""

from chat_app.data.leases.base import Leases
from chat_app.settings import Settings


def open_leases(settings: Settings) -> Leases:
    """The leases that the settings name, not yet started: Valkey, or this process's memory."""
    url = settings.redis_url.get_secret_value()
    if url:
        from chat_app.data.leases.valkey import ValkeyLeases

        return ValkeyLeases(url)
    from chat_app.data.leases.memory import MemoryLeases

    return MemoryLeases()
