"""What drives the GPU, seen from the process that hosts it: narrow, so that ExLlamaV3 fits beside ExLlamaV2.

Plain data and a protocol. A generator knows no sockets and no stop strings: `host` has both.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from inference.engines.base import Ability
from inference.protocol import Finish, Picked, Sampling


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was loaded. `context`, `slots` and `kv_tokens` as `Capabilities` has them.

    `vocabulary`: how many tokens there are. `control`: the texts of the tokens that control the model. `notes`: what
    the operator should know, one sentence each.
    """

    context: int
    slots: int
    kv_tokens: int
    vocabulary: int
    control: tuple[str, ...] = ()
    abilities: tuple[Ability, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One generation. `number` is its name; `prompt` its tokens, `written` the text of the answer so far, their end."""

    number: int
    prompt: tuple[int, ...]
    sampling: Sampling
    written: str = ""


@dataclass(slots=True)
class Step:
    """What one iteration did for one job, for each token that it sampled.

    `text`: what of the answer is known now; a character that is not whole yet comes with a later step. `cached`: how
    many tokens of the prompt cost no work. A last step has `finish`; its job is over by then.
    """

    number: int
    text: str = ""
    tokens: int = 1
    cached: int = 0
    finish: Finish | None = None
    picked: list[Picked] = field(default_factory=list)


class Generator(Protocol):
    """One model on the GPU. It is called by one thread, but for `encode` and `decode`, which any thread may call.

    It is made with `Options`, loads the model and runs it once; that raises `EngineError` in plain words. Any error
    that `iterate` raises means that all jobs are lost and that `rebuild` must be called before anything else.
    """

    @property
    def loaded(self) -> Loaded: ...

    def encode(self, text: str, control: bool) -> list[int]:
        """The tokens of a text; with `control`, the control tokens in it are such."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens that exist."""
        ...

    def start(self, job: Job) -> None:
        """Begin a job with the next iteration. Raises `EngineError` for one that makes no sense."""
        ...

    def cancel(self, number: int) -> None:
        """Forget a job that is not over. Its room is free when this returns."""
        ...

    def iterate(self) -> list[Step]:
        """Read a piece of each new prompt, and sample for every job whose prompt is read. Blocks while it computes."""
        ...

    def rebuild(self) -> None:
        """Begin anew with the same model and no jobs. Raises if it cannot; then the process is of no more use."""
        ...
