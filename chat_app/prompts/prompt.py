"""The finished prompt of one turn: what the engine is given, to the byte.

It is kept with the job as JSON, so that another process can go on with exactly it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chat_app.prompts.window import Count, Window, fit
from inference.protocol import Message, Sampling


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages within the model's window, how to sample, why this model (`route`), and the tier's share (`weight`)."""

    window: Window
    sampling: Sampling
    route: str
    weight: int

    @property
    def worst_case(self) -> int:
        """Tokens that the turn can cost at most."""
        return self.window.tokens + self.sampling.max_tokens

    def to_json(self) -> str:
        sampling = {name: getattr(self.sampling, name) for name in Sampling.__slots__}
        messages = [[message.role, message.content] for message in self.window.messages]
        counts = [self.window.tokens, self.window.kept, self.window.dropped]
        return json.dumps([messages, counts, sampling, self.route, self.weight])

    @staticmethod
    def from_json(text: str) -> "Prompt":
        messages, counts, sampling, route, weight = json.loads(text)
        window = Window(tuple(Message(role, content) for role, content in messages), *counts)
        return Prompt(window, Sampling(**{**sampling, "stop": tuple(sampling["stop"])}), route, weight)


async def build(
    messages: Sequence[Message],
    *,
    system_prompt: str,
    context: int,
    asked: Sampling,
    most_answer: int,
    route: str,
    weight: int,
    count: Count,
) -> Prompt:
    """Fit a conversation into `context` tokens, behind the deployment's system prompt or, if it has one, its own.

    `asked.max_tokens` 0 means: as long as is allowed. A quarter of the window at least is kept for the answer, or
    the whole answer where it needs less. Raises `TooLong`.
    """
    has_own = messages[0].role == "system"
    head = messages[:1] if has_own else [Message("system", system_prompt)] if system_prompt else []
    most = min(asked.max_tokens, most_answer) if asked.max_tokens else most_answer
    window = await fit(head, messages[1:] if has_own else messages, context, min(most, context // 4), count)
    return Prompt(window, replace(asked, max_tokens=min(most, context - window.tokens)), route, weight)
