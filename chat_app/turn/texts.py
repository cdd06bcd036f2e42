"""What people and programs write, without what nobody can have meant, and bounded. Pure."""

from chat_app.data.log.entries import clean
from chat_app.turn.ask import TurnError
from inference.protocol import Message, ToolCall


def cleaned(message: Message, most: int) -> Message:
    """A program's message, every string in it without control characters.

    Raises `TurnError` for more than `most` characters in one of them, or if a user says nothing.
    """
    calls = (ToolCall(clean(call.id), clean(call.name), bounded(call.arguments, most)) for call in message.tool_calls)
    content = (readable if message.role == "user" else bounded)(message.content, most)
    return Message(message.role, content, tuple(calls), clean(message.tool_call_id))


def readable(text: str, most: int) -> str:
    """The text without control characters, which no one can have meant to type; line breaks and tabs stay.

    Raises `TurnError` for more than `most` characters, or if nothing but white space is left.
    """
    text = bounded(text, most)
    if not text.strip():
        raise TurnError("empty_input", "There is nothing to answer: the message is empty.")
    return text


def bounded(text: str, most: int) -> str:
    """Like `readable`, for a message that may be empty: an assistant's that only calls tools, a tool's result."""
    if len(text) > most:
        raise TurnError(
            "input_too_long",
            f"This message has {len(text):,} characters; at most {most:,} are taken. Shorten it.",
        )
    return clean(text).replace("\r\n", "\n").replace("\r", "\n")
