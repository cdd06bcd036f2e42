"""Stop strings over a text that arrives in pieces."""

from collections.abc import Sequence


class StopFilter:
    """Lets text through until a stop string appears in it; holds back an end that may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """What may go out now. After `hit` nothing more does."""
        if not self._stops or self.hit:
            return "" if self.hit else text
        text = self._held + text
        found = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=-1)
        if found >= 0:
            self.hit, self._held = True, ""
            return text[:found]
        keep = self._partial(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """What was held back, once it is clear that no stop string comes."""
        held, self._held = self._held, ""
        return held

    def _partial(self, text: str) -> int:
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-size:]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0
