"""What a program asks, cleaned and bounded. Pure; for a long conversation it takes milliseconds: see `aside`."""

from collections.abc import Sequence
from dataclasses import replace

from chat_app.accounts.identity import Identity
from chat_app.turn.ask import Ask, TurnError
from chat_app.turn.texts import bounded, cleaned
from inference.protocol import Message, Sampling, Tool

WHOLE = 16
"""How many times the characters of its longest message a call may have in all, whatever field they stand in. The check
reads them all, so this is what bounds it."""


def asked(
    identity: Identity,
    messages: Sequence[Message],
    model: str = "",
    sampling: Sampling | None = None,
    *,
    most: int,
    tools: Sequence[Tool] = (),
    tool_choice: str = "auto",
    built_in: Sequence[str] = (),
    detached: bool = False,
    models: tuple[str, ...] = (),
) -> Ask:
    """A whole conversation, of which no thread is kept. Raises `TurnError` for more than `most` characters in one of
    its strings, or `WHOLE` times as many together."""
    if not messages:
        raise TurnError("bad_input", "messages must hold at least one message.")
    said = tuple(cleaned(message, most) for message in messages)
    described = tuple(replace(tool, description=bounded(tool.description, most)) for tool in tools)
    ask = Ask(identity, "api", said, model, sampling, tools=described, tool_choice=tool_choice)
    if ask.length > WHOLE * most:
        raise TurnError(
            "input_too_long",
            f"This call has {ask.length:,} characters in its messages, calls, tools and schemas;"
            f" at most {WHOLE * most:,} are taken together. Shorten it.",
        )
    return replace(ask, built_in=tuple(built_in), detached=detached, models=models)
