"""An answer as the durable job that it is: its state as JSON, its entries as server-sent events. It knows no socket."""

from typing import Any

import orjson

from chat_app.data.log.entries import Entry, encode
from chat_app.gateway.completion_shape import usage_of
from chat_app.sessions.generations import GenerationView
from chat_app.sessions.viewer import Update

_OF_A_SEAL = ("seq", "model", "finish", "prompt_tokens", "completion_tokens", "cached_tokens")
"""What else a seal says is for settling, such as which rule has blocked an answer."""


def shaped(view: GenerationView) -> dict[str, Any]:
    """The final or present state of an answer, without what it says."""
    return {
        "id": view.id,
        "object": "generation",
        "status": view.status,
        "model": view.model,
        "created": view.created_at // 1000,
        "error": view.error or None,
        "usage": usage_of(view),
        "receipt": view.receipt,
    }


def typed(entry: Entry) -> dict[str, Any]:
    """An entry under the name of its kind."""
    if entry.kind in ("text", "reasoning"):
        return {entry.kind: entry.text}
    if entry.kind == "sealed":
        return {entry.kind: {name: entry.data.get(name) for name in _OF_A_SEAL}}
    return {entry.kind: entry.data}


def events_of(update: Update) -> bytes:
    """An event for each entry, each with its place in the log as `offset` and the place behind it as `id`.

    Events of text have no name, so that a reader that knows nothing else sees nothing else.
    """
    events, at = b"", update.offset
    for entry, behind in zip(update.entries, update.places, strict=True):
        name = b"" if entry.kind == "text" else b"event: %b\n" % entry.kind.encode()
        place = b"" if behind is None else b"id: %d\n" % behind
        events += b"%b%bdata: %b\n\n" % (name, place, orjson.dumps({"offset": at, **typed(entry)}))
        at += len(encode((entry,)))
    return events
