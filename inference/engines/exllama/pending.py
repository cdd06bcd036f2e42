"""An answer on its way from the process that generates it to whoever reads it. No processes, no frames."""

import asyncio
from typing import Any

from inference.engines.exllama.frames import picked_from
from inference.protocol import Chunk, EngineError, Finish, Usage


class Pending:
    """Gathers what has come and was not taken yet. `prompt_tokens` is for the usage at its end."""

    def __init__(self, prompt_tokens: int) -> None:
        self._prompt_tokens = prompt_tokens
        self._text = ""
        self._tokens = 0
        self._picked: list[Any] = []
        self._finish: Finish | None = None
        self._cached = 0
        self._counted = 0
        self._error: EngineError | None = None
        self._come = asyncio.Event()
        self._over = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing more will come: its end is here, taken or not, or it failed."""
        return self._over.is_set()

    def add(self, text: str, tokens: int, picked: list[Any], finish: Finish | None, cached: int) -> None:
        self._text += text
        self._tokens += tokens
        self._counted += tokens
        self._picked += picked
        self._finish = finish
        self._cached = cached
        self._come.set()
        if finish:
            self._over.set()

    def end(self, error: EngineError) -> None:
        """Nothing more comes, and whoever waits is told why; what came before is still taken first."""
        if not self.over:
            self._error = error
            self._over.set()
            self._come.set()

    async def take(self) -> Chunk:
        """All that is there, or the next that comes. Raises the error that it ended with."""
        await self._come.wait()
        self._come.clear()
        if self._error is not None and not self._text:
            raise self._error
        usage = Usage(self._prompt_tokens, self._counted, min(self._cached, self._prompt_tokens))
        chunk = Chunk(
            self._text,
            self._tokens,
            self._finish,
            usage if self._finish else None,
            tuple(map(picked_from, self._picked)),
        )
        self._text, self._tokens, self._picked = "", 0, []
        if self._error is not None:
            self._come.set()
        return chunk

    async def ended(self) -> None:
        """Wait until nothing more will come."""
        await self._over.wait()
