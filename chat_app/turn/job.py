"""The job: all that any process needs to work on a turn, as it lies in the generation's row.

Its JSON has a version. A release claims only rows of versions that it knows, so that a job which a newer release wrote
waits for one that can read it. Jobs of version 0 were written before there were steps: nobody can go on with them.
"""

from dataclasses import dataclass, replace
from typing import Any

import orjson

from chat_app.billing.ledger import Amount, Rate
from chat_app.prompts.prompt import Prompt, UnknownPart
from chat_app.sessions.generations import GenerationRow
from inference.protocol import Sampling

VERSION = 1


class Unreadable(Exception):
    """What is stored of a job is none, or not enough to go on with: it can only be given up."""


class Outdated(Unreadable):
    """A former release wrote the job, in a format that this one does not read."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may serve, with its window in tokens and its prices (micro-units per million tokens) at the start
    of the turn, which are the ones that are charged."""

    model: str
    context: int
    prompt_micro: int = 0
    completion_micro: int = 0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> int:
        """Micro-units for so many tokens."""
        return Rate(self.prompt_micro, self.completion_micro).cost(prompt_tokens, completion_tokens)


@dataclass(frozen=True, slots=True)
class Job:
    """`candidates`: the chosen model first, then those that serve when it cannot. `route` says why it was chosen,
    `weight` is the tier's share of the queue, and `monthly_tokens` what the plan allows (None: no limit)."""

    row: GenerationRow
    prompt: Prompt
    sampling: Sampling
    candidates: tuple[Candidate, ...]
    route: str
    weight: int = 1
    monthly_tokens: int | None = None
    tool_choice: str = "auto"
    built_in: tuple[str, ...] = ()

    @property
    def own_tools(self) -> tuple[str, ...]:
        """Names of the caller's own tools."""
        return tuple(tool.name for tool in self.prompt.tools if tool.name not in self.built_in)

    @property
    def worst_case(self) -> Amount:
        """What a model step on its prompt can cost at most, at the dearest candidate's price."""
        read, most = self.prompt.tokens, self.sampling.max_tokens
        return Amount(read + most, max(one.cost(read, most) for one in self.candidates))

    @property
    def remaining(self) -> tuple[Candidate, ...]:
        """The candidate that serves, as the row says, and those that may stand in for it."""
        at = next((at for at, one in enumerate(self.candidates) if one.model == self.row.model), 0)
        return self.candidates[at:]

    def candidate(self, model: str) -> Candidate:
        """The candidate of this name, else the first."""
        return next((one for one in self.candidates if one.model == model), self.candidates[0])

    def to_json(self) -> str:
        return orjson.dumps(
            {
                "prompt": orjson.Fragment(self.prompt.to_json()),
                "sampling": self.sampling,
                "candidates": self.candidates,
                "route": self.route,
                "weight": self.weight,
                "monthly_tokens": self.monthly_tokens,
                "tool_choice": self.tool_choice,
                "built_in": self.built_in,
            }
        ).decode()

    @staticmethod
    def from_row(row: GenerationRow) -> "Job":
        """The job that a row holds. Raises `Unreadable` or `Outdated`, or `UnknownPart` if a newer release wrote it or
        more into it."""
        if row.job_version > VERSION:
            raise UnknownPart(f"version {row.job_version}")
        if row.job_version < VERSION:
            raise Outdated(f"version {row.job_version}")
        try:
            data: dict[str, Any] = orjson.loads(row.job)
            sampling = _known(Sampling, data["sampling"])
            return Job(
                row,
                Prompt.from_json(orjson.dumps(data["prompt"]).decode()),
                Sampling(**{**sampling, "stop": tuple(sampling["stop"])}),
                tuple(Candidate(**_known(Candidate, one)) for one in data["candidates"]),
                data["route"],
                data["weight"],
                data["monthly_tokens"],
                data["tool_choice"],
                tuple(data["built_in"]),
            )
        except UnknownPart:
            raise
        except Exception as error:  # Whatever is wrong with it, it is no job.
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def shortened(self, max_tokens: int) -> "Job":
        """The same job with an answer of at most so many tokens."""
        return replace(self, sampling=replace(self.sampling, max_tokens=max_tokens))


def _known(kind: type[Sampling] | type[Candidate], data: dict[str, Any]) -> dict[str, Any]:
    """The data, if this release has a field for each. Raises `UnknownPart`."""
    if unknown := sorted(set(data) - set(kind.__dataclass_fields__)):
        raise UnknownPart(f"{', '.join(unknown)} of {kind.__name__}")
    return data
