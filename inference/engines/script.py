"""The script of a scripted answer: what it says, how fast, and what goes wrong. Pure; no clock, no input/output."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from inference.protocol import BadRequest, Message
from inference.thinking import CLOSE, OPEN, parted

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
    possible) after `prefill_s` seconds. `reasoning` is thought before them, in the raw <think> tags that the service
    parts from the text; with `think` they stand on lines of their own, as real models write them. After that many
    tokens of the answer, those of the reasoning included: `die_at` kills the process, `drop_at` cuts this stream only,
    `stall_at` falls silent; an answer that is continued from there goes on. `drift`: it then goes on with other words,
    as a real model may, of the same number. `refuse` ("overloaded", "context", "bad", "died") refuses at once.

    `calls` ([{"name", "arguments"}], arguments as an object or as raw text) end the answer behind its text, which is
    empty unless `text` or `tokens` say otherwise. They hold until there is a tool's result behind the last user
    message; `then` is the directive for the answer to that, in which there may be further calls.
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
    reasoning: str = ""
    think: bool = False
    drift: bool = False
    calls: Sequence[Mapping[str, Any]] = ()
    then: Mapping[str, Any] | None = None

    @property
    def pieces(self) -> list[str]:
        """The text's tokens in order; joined they are the text."""
        if self.text is not None:
            return PIECES.findall(self.text)
        return [_word(self.seed, at) for at in range(self.tokens)]

    @property
    def called(self) -> list[tuple[str, str]]:
        """Name and arguments of each call."""
        return [(str(call["name"]), _arguments(call.get("arguments", {}))) for call in self.calls]

    def behind(self, begun: str) -> tuple[int, list[str]]:
        """How many whole tokens a raw beginning holds, and the raw tokens behind it.

        The first may be the rest of a broken one. Raises `BadRequest` if it is no beginning of this answer.
        """
        reasoning, text = parted(begun)
        thought, said = PIECES.findall(self.reasoning), self.pieces
        if text or not thought:
            if self.drift and text:
                at = len(PIECES.findall(text))
                return len(thought) + at, [_word(self.seed + at, place) for place in range(at, len(said))]
            at, rest = _behind(said, text)
            return len(thought) + at, rest
        already_sent, rest = _behind(thought, reasoning)
        opened, closed = (f"{OPEN}\n", f"\n{CLOSE}\n\n") if self.think else (OPEN, CLOSE)
        if not reasoning:
            rest = [f"{opened}{rest[0]}", *rest[1:]]
        if said:
            said = [f"{closed}{said[0]}", *said[1:]]
        elif rest:
            rest = [*rest[:-1], f"{rest[-1]}{closed}"]
        return already_sent, [*rest, *said]


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
    if not all(isinstance(call, dict) and call.get("name") for call in made.calls):
        raise BadRequest("the script's calls must be objects with a name")
    if made.calls and made.text is None and "tokens" not in directive:
        return replace(made, tokens=0)
    return made


def script_in(messages: Sequence[Message], rate: float) -> Script:
    """The script that the last user message holds as JSON, among other text or alone.

    Without one: words that the messages' hash chooses, at `rate` tokens a second.
    """
    asked = max((at for at, message in enumerate(messages) if message.role == "user"), default=-1)
    last = messages[asked].content if asked >= 0 else ""
    if mark := MARK.search(last):
        try:
            directive = json.JSONDecoder().raw_decode(last, mark.start())[0]["script"]
        except ValueError:
            directive = None
        if isinstance(directive, dict):
            return _after(script(directive), messages[asked + 1 :])
    digest = hashlib.sha256("\0".join(f"{m.role}\0{m.content}" for m in messages).encode()).digest()
    return Script(tokens=40 + digest[0] % 40, seed=int.from_bytes(digest[1:5], "big"), rate=rate)


def _after(asked: Script, behind: Sequence[Message]) -> Script:
    """The script for the next answer, when these messages came behind the one that asked."""
    results = [message for message in behind if message.role == "tool"]
    rounds = sum(bool(message.tool_calls) for message in behind) or len(results[:1])
    for _ in range(rounds if results else 0):
        if not asked.calls:
            return asked
        if asked.then is None:
            return Script(text=f"The result is {results[-1].content}.", rate=asked.rate)
        asked = script({"rate": asked.rate, **asked.then})
    return asked


def _arguments(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _behind(pieces: Sequence[str], begun: str) -> tuple[int, list[str]]:
    at = 0
    if not "".join(pieces).startswith(begun):
        raise BadRequest("continue_from is not the beginning of the scripted answer")
    for number, piece in enumerate(pieces):
        if at + len(piece) > len(begun):
            return number, [piece[len(begun) - at :], *pieces[number + 1 :]]
        at += len(piece)
    return len(pieces), []


def _word(seed: int, at: int) -> str:
    # Every tenth word is its own number, so that a gap or a doubled piece is seen at once; sentences and paragraphs
    # give the page something to cut.
    chosen = int.from_bytes(hashlib.blake2b(f"{seed}:{at}".encode(), digest_size=4).digest(), "big")
    word = str(at) if at % 10 == 9 else WORDS[chosen % len(WORDS)]
    if at == 0:
        return word.capitalize()
    before = "\n\n" if at % 48 == 0 else " "
    return f"{before}{word}{'.' if at % 12 == 11 else ''}"
