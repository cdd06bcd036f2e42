"""A running Parley with the real gateway on a real port, in a thread of its own, for tests that block theirs."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from chat_app.settings import Settings
from chat_app.wiring import Parley, lifespan
from tests.gateway.served import serving
from tests.parley import PASSWORD


class Office:
    """Open between `open` and `close`. No engine: nobody chats here."""

    url: str
    parley: Parley

    def __init__(self, home: Path) -> None:
        self._settings = Settings(home=home, inference_url="http://127.0.0.1:9", export_minutes=0)
        self._loop = asyncio.new_event_loop()
        self._opened, self._closing = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def open(self) -> None:
        self._thread.start()
        assert self._opened.wait(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(60)
        self._loop.close()

    def hire(self, email: str, role: str) -> str:
        """Make an account (its password is `PASSWORD`); returns its id."""
        return str(self._do(self.parley.accounts.create(email, PASSWORD, role=role)).user_id)

    def set_role(self, user_id: str, role: str) -> None:
        self._do(self.parley.accounts.set_role(user_id, role))

    def knows(self, token: str) -> bool:
        """Whether this is the token of a session."""
        return self._do(self.parley.accounts.by_cookie(token)) is not None

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self) -> None:
        async with lifespan(self._settings) as self.parley, serving(self.parley) as self.url:
            self._opened.set()
            await self._closing.wait()
