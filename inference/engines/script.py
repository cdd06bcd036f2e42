"""The script of a scripted answer: what it says, how fast, and what goes wrong. Pure; no clock, no input/output."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference.protocol import BadRequest, Message

VOCABULARY = (
    "amber anchor autumn basil beacon birch breeze café canyon cedar cinder clover comet copper coral cobalt "
    "dawn delta dune echo ember fable falcon fern fjord garnet glacier harbor hazel indigo iris ivory jade juniper "
    "kestrel lagoon lantern larch lichen lotus maple marble meadow mist naïve nectar oasis ochre olive onyx opal "
    "orchard pebble pine plum quartz raven reef ridge saffron sage 星 tide 🌲 violet willow"
)
WORDS = VOCABULARY.split()
PIECES = re.compile(r"\s*\S+(?:\s+\Z)?|\s+\Z")
MARK = re.compile(r'\{\s*"script"\s*:')


@dataclass(frozen=True, slots=True)
class Script:
    """What a directive asks for. The fields are the directive's keys; all have defaults.

    `tokens` words chosen by `seed`, or exactly `text`, cut into words; `rate` of them a second (0: as fast as
    possible) after `prefill_s` seconds. After that many tokens of the answer: `die_at` kills the process, `drop_at`
    cuts this stream only, `stall_at` falls silent; an answer that is continued from there goes on. `refuse`
    ("overloaded", "context", "bad", "died") refuses at once.
    """

    tokens: int = 60
    seed: int = 0
    text: str | None = None
    rate: float = 0.0
    prefill_s: float = 0.0
    die_at: int | None = None
    drop_at: int | None = None
    stall_at: int | None = None
    refuse: str = ""

    @property
    def pieces(self) -> list[str]:
        """The answer's tokens in order; joined they are its text."""
        if self.text is not None:
            return PIECES.findall(self.text)
        return [_word(self.seed, at) for at in range(self.tokens)]


def scripted_text(directive: Mapping[str, Any]) -> str:
    """The whole text that the scripted engine answers to {"script": directive}."""
    return "".join(script(directive).pieces)


def script(directive: Mapping[str, Any]) -> Script:
    """The script for a directive. Raises `BadRequest` for keys or values that mean nothing."""
    try:
        made = Script(**directive)
    except TypeError as error:
        raise BadRequest(f"the script has a key that means nothing: {error}") from error
    numbers = (made.tokens, made.seed, made.rate, made.prefill_s)
    if not all(isinstance(number, int | float) and number >= 0 for number in numbers):
        raise BadRequest("the script's tokens, seed, rate and prefill_s must be numbers from 0 up")
    return made


def script_in(messages: Sequence[Message], rate: float) -> Script:
    """The script that the last user message holds as JSON, among other text or alone.

    Without one: words that the messages' hash chooses, at `rate` tokens a second.
    """
    last = next((m.content for m in reversed(messages) if m.role == "user"), "")
    if mark := MARK.search(last):
        try:
            directive = json.JSONDecoder().raw_decode(last, mark.start())[0]["script"]
        except ValueError:
            directive = None
        if isinstance(directive, dict):
            return script(directive)
    digest = hashlib.sha256("\0".join(f"{m.role}\0{m.content}" for m in messages).encode()).digest()
    return Script(tokens=40 + digest[0] % 40, seed=int.from_bytes(digest[1:5], "big"), rate=rate)


def _word(seed: int, at: int) -> str:
    # Every tenth word is its own number, so that a gap or a doubled piece is seen at once; sentences and paragraphs
    # give the page something to cut.
    chosen = int.from_bytes(hashlib.blake2b(f"{seed}:{at}".encode(), digest_size=4).digest(), "big")
    word = str(at) if at % 10 == 9 else WORDS[chosen % len(WORDS)]
    if at == 0:
        return word.capitalize()
    before = "\n\n" if at % 48 == 0 else " "
    return f"{before}{word}{'.' if at % 12 == 11 else ''}"
