"""Reflex's app with the guard where Reflex has parts of its own: names of Reflex 0.10 that it does not publish."""

from typing import Any

import reflex as rx
from reflex.istate.manager.redis import StateManagerRedis
from reflex_base.config import get_config

from chat_app.settings import settings
from chat_app.ui.guard.door import message_chars
from chat_app.ui.guard.namespace import PageNamespace
from chat_app.ui.guard.outbox import current
from chat_app.ui.guard.owner import Ownership
from chat_app.ui.guard.packet import PagePacket
from chat_app.ui.guard.states import MemoryStates, ValkeyStates
from chat_app.ui.sockets import may_open


class GuardedApp(rx.App):
    """Raises `RuntimeError` where Reflex has no socket or an unknown store of states: nothing would be guarded."""

    def _add_default_endpoints(self) -> None:
        """None: whether it lives and is ready is the gateway's to say."""

    def _add_optional_endpoints(self) -> None:
        """None: nothing is uploaded, and no list of all pages is for everybody."""

    def _setup_state(self) -> None:
        super()._setup_state()
        if self.sio is None or self._state_manager is None:
            raise RuntimeError("Reflex has set up no state: has it changed?")
        self._state_manager = _kept(self._state_manager)
        self._event_namespace = PageNamespace(get_config().get_event_namespace(), self)
        self.sio.register_namespace(self._event_namespace)  # type: ignore[no-untyped-call]
        self.sio.packet_class = PagePacket
        self.sio.eio.create_queue = current
        self.sio.eio.max_http_buffer_size = message_chars(settings().max_input_chars)
        self.sio.eio.cors_allowed_origins = may_open
        self.add_middleware(Ownership())


def _kept(manager: Any) -> Any:
    if not isinstance(manager, StateManagerRedis):
        return MemoryStates()  # type: ignore[abstract]  # Reflex declares overloads as abstract.
    return ValkeyStates(  # type: ignore[abstract]
        redis=manager.redis,
        token_expiration=manager.token_expiration,
        lock_expiration=manager.lock_expiration,
        lock_warning_threshold=manager.lock_warning_threshold,
    )
