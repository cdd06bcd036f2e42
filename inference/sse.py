"""Server-sent events, reading side: bytes as they come off a socket in, `data:` payloads out."""


class Events:
    """Cuts a byte stream into the payloads of its `data:` lines; comments and other fields are dropped.

    Reads may end anywhere: an unfinished line waits for the next `feed`. Every OpenAI-compatible server sends one
    line of JSON per event, so a line is an event here.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes, in order."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]
