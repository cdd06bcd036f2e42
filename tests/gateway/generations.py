"""What tests of generations share: begin one as a program, and follow one over `/v1/generations/{id}/events`."""

import json
from typing import Any

from openai import AsyncOpenAI

from tests.gateway.served import Served
from tests.parley import script

SLOW = script(tokens=2_000, rate=50, seed=5)
STEADY = script(tokens=120, rate=100, seed=6)


def asked(question: str, **fields: Any) -> dict[str, Any]:
    return {"model": "scripted", "messages": [{"role": "user", "content": question}], **fields}


async def begin(served: Served, question: str, **headers: str) -> tuple[AsyncOpenAI, Any, str, str]:
    """A stream of which some text has been read: its client, itself, the generation and the text."""
    client = served.client()
    stream = await client.chat.completions.create(**asked(question), stream=True, extra_headers=headers)
    text, generation = "", ""
    async for chunk in stream:
        generation = chunk.id.removeprefix("chatcmpl-")
        text += chunk.choices[0].delta.content or ""
        if len(text) > 20:
            break
    return client, stream, generation, text


async def raw_events(served: Served, path: str, **headers: str) -> list[tuple[str, int | None, dict[str, Any]]]:
    """Name, id and data of each event of a stream."""
    async with served.http.get(served.url + path, headers={**served.bearer, **headers}) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        stream = (await response.read()).decode()
    found = []
    for event in stream.removesuffix("\n\n").split("\n\n"):
        fields = dict(field.split(": ", 1) for field in event.split("\n"))
        place = int(fields["id"]) if "id" in fields else None
        found.append((fields.get("event", ""), place, json.loads(fields["data"])))
    return found


async def events(served: Served, path: str, **headers: str) -> tuple[str, list[int], dict[str, Any]]:
    """The text, the ids of its events and the final state of an event stream of a plain answer."""
    *found, (last, _, ended) = await raw_events(served, path, **headers)
    assert last == "end"
    assert [name for name, _, _ in found if name] == (["sealed"] if found else [])
    said = [(place, data["text"]) for name, place, data in found if not name]
    return "".join(text for _, text in said), [place for place, _ in said if place is not None], ended
