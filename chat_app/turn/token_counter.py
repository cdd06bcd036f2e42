"""The tokens of one model step, as its engine counts them.

What no engine has counted is not charged, but for one case: the beginning that another owner had from an engine that
cannot count is estimated, and the receipt says so.
"""

from math import inf

from chat_app.data.ids import now_ms
from chat_app.prompts.prompt import Prompt
from chat_app.turn.engine import Engine
from inference.protocol import CannotCount, Chunk, EngineError, Usage

CHARS_A_TOKEN = 4
"""For that one case."""


class TokenCounter:
    """Counts while a step runs."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._prompt = Prompt(())
        self._read: int | None = None
        self._usage: Usage | None = None
        self._continued = False
        self._generated = 0
        self.estimated = False
        self.first_at: int | None = None
        """When the first token came, in milliseconds since 1970."""

    @property
    def prompt(self) -> Prompt:
        """What the step reads; set before anything is taken."""
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        self._prompt = prompt
        self._read = prompt.tokens if prompt.counted else None

    @property
    def cached(self) -> int:
        """Prompt tokens that cost the engine no work."""
        return self._usage.cached_tokens if self._usage is not None and not self._continued else 0

    @property
    def generated(self) -> int:
        """Tokens of the step's answer so far."""
        return self._generated

    async def take_over(self, model: str, text: str, reasoning: str) -> None:
        """Count what an earlier owner delivered. Waits for the engine as long as an answer does: nobody who has read
        half of one should lose it to a model that is being loaded. Raises `EngineError`."""
        self._continued = True
        messages, tools = self._prompt.messages, self._prompt.tools
        try:
            if self._read is None:
                self._read = await self._engine.count(model, messages, tools=tools, patience=inf)
            whole = await self._engine.count(model, messages, reasoning + text, tools, patience=inf)
            self._generated = max(0, whole - self._read)
        except CannotCount:
            self.estimated = True
            self._generated = max(1, (len(text) + len(reasoning)) // CHARS_A_TOKEN)

    def take(self, chunk: Chunk) -> None:
        """One chunk has come."""
        if self.first_at is None and (chunk.tokens or chunk.text or chunk.reasoning):
            self.first_at = now_ms()
        self._generated += chunk.tokens
        if self._read is None and not self._continued:
            self._read = chunk.prompt_tokens
        if chunk.usage is not None:
            self._usage = chunk.usage
            if not self._continued:
                self._generated = chunk.usage.completion_tokens

    async def read(self, model: str) -> int:
        """Tokens of the prompt, from whoever knows."""
        if self._read is None and self._usage is not None and not self._continued:
            self._read = self._usage.prompt_tokens
        if self._read is None:
            try:
                self._read = await self._engine.count(model, self._prompt.messages, tools=self._prompt.tools)
            except EngineError:
                self.estimated = True
                return 0
        return self._read
