"""A program that asks and follows its answer whatever happens to the servers: plain HTTP, nothing of Parley inside."""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Program:
    """`url` is of any replica; it may change while an answer is followed."""

    url: str
    key: str
    seen: str = ""
    offset: int = 0
    """Where in the generation's log it goes on: text is not all that lies there."""
    kinds: list[str] = field(default_factory=list)
    """Of every entry that was no text, in order."""
    ended: dict[str, object] = field(default_factory=dict)

    def forget(self) -> None:
        """What was seen, before another answer is asked for."""
        self.seen, self.offset, self.kinds, self.ended = "", 0, [], {}

    def ask(
        self, question: str, model: str = "", tokens: int = 4000, tools: Sequence[Mapping[str, object]] = ()
    ) -> str:
        """Begin an answer that goes on without us; returns its generation id."""
        body = {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            "stream": True,
            "max_tokens": tokens,
            "temperature": 0,
            **({"tools": list(tools)} if tools else {}),
        }
        connection = self._connect()
        headers = {**self._headers(), "Content-Type": "application/json", "x-parley-detach": "true"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            raise AssertionError(f"{response.status}: {response.read()!r}")
        generation = response.getheader("X-Parley-Generation")
        connection.close()
        assert generation
        return generation

    def follow(
        self, generation: str, at_least: int | None = None, patience: float = 60, kind: str | None = None
    ) -> str:
        """Read on from what was seen, over as many connections as it takes, to the end, to `at_least` characters, or
        to an entry of that kind.

        Every piece has to continue exactly what was seen: a gap or an overlap is an error.
        """
        deadline = time.monotonic() + patience
        while not self.ended and not self._enough(at_least, kind):
            assert time.monotonic() < deadline, f"no end in sight after {len(self.seen)} characters"
            try:
                self._read(generation, at_least, kind)
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        return self.seen

    def _enough(self, at_least: int | None, kind: str | None) -> bool:
        return (at_least is not None and len(self.seen) >= at_least) or kind in self.kinds

    def _read(self, generation: str, at_least: int | None, until: str | None) -> None:
        connection = self._connect()
        try:
            connection.request(
                "GET", f"/v1/generations/{generation}/events?offset={self.offset}", headers=self._headers()
            )
            response = connection.getresponse()
            if response.status >= 500:
                time.sleep(0.1)
                return
            assert response.status == 200, f"{response.status}: {response.read()!r}"
            kind, behind = "", 0
            for raw in response:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("id: "):
                    behind = int(line[4:])
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                    if kind == "end":
                        self.ended = data
                        return
                    if kind == "error":
                        return
                    assert data["offset"] == self.offset, "a piece does not continue what was seen"
                    self.seen += data.get("text", "")
                    self.offset = behind
                    if kind:
                        self.kinds.append(kind)
                    if self._enough(at_least, until):
                        return
                elif not line:
                    kind = ""
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        return http.client.HTTPConnection("127.0.0.1", parts.port, timeout=10)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}
