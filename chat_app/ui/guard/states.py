"""Where the states of tabs are kept, and for how long: those of nobody, which anybody can make, only for a moment."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from reflex.istate.manager.memory import StateManagerMemory
from reflex.istate.manager.redis import StateManagerRedis
from reflex.istate.manager.token import BaseStateToken, StateToken

from chat_app.ui.guard.owner import Owner

NOBODY_S = 60
"""Seconds that a state of nobody is kept behind its last event. A page that is still open then makes another."""


def is_nobodys(state: Any) -> bool:
    """Whether a tab's state belongs to no session. One whose owner is not at hand does."""
    owner = state.substates.get(Owner.get_name())
    return owner is not None and not owner._session


@dataclass
class MemoryStates(StateManagerMemory):
    """Reflex's states in memory."""

    def _track_token(self, token: StateToken[Any]) -> None:
        super()._track_token(token)
        state = self.states.get(token.cache_key)
        if state is not None and is_nobodys(state):
            self._token_expires_at[token.cache_key] = (time.time() + NOBODY_S, token)

    async def _expire_states(self) -> None:
        """Reflex's own sleeps until the first that was due when it fell asleep."""
        while (due := self._purge_expired_tokens()) is not None:
            await asyncio.sleep(min(NOBODY_S, max(0.0, due - time.time())))


@dataclass
class ValkeyStates(StateManagerRedis):
    """Reflex's states in Redis or Valkey."""

    async def set_state(self, token: StateToken[Any], state: Any, **context: Any) -> None:  # type: ignore[override]
        await super().set_state(token, state, **context)
        if isinstance(token, BaseStateToken) and is_nobodys(state):
            pipeline = self.redis.pipeline(transaction=False)
            for kept in _tree(state):
                pipeline.expire(token._state_key(type(kept)), NOBODY_S)
            await pipeline.execute()


def _tree(state: Any) -> list[Any]:
    return [state, *(below for child in state.substates.values() for below in _tree(child))]
