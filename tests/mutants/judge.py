"""Whether the tests noticed a bug: only if a named test fails with it and passes without it, or hangs again and again.

Some tests wait for real time on a machine that does other things as well, so a failure alone says nothing yet.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from tests.mutants.worker import ALONE_S

Outcome = Literal["killed", "hung", "survived", "broken", "unsure"]


class Run(Protocol):
    """Runs these tests, files or single ones, with the bug or without; `outcome` and `by` as in `worker.py`."""

    def __call__(self, tests: list[str], limit: float, *, bug: bool) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a bug. `by` is the test that noticed it, or that is to blame for not being sure.

    killed: it fails with the bug only. hung: it hangs with the bug only, and did so twice. survived: all tests passed.
    broken: no test ran, or their process crashed. unsure: a failure or a hang that may have had other reasons.
    """

    outcome: Outcome
    by: str = ""

    @property
    def killed(self) -> bool:
        return self.outcome in ("killed", "hung")


def judge(run: Run, tests: list[str], limit: float) -> Judged:
    """Run the tests with the bug, and what failed again without it. `limit`: seconds for all of them."""

    def passes_without(test: str) -> bool:
        return bool(run([test], min(limit, ALONE_S), bug=False)["outcome"] == "passed")

    for _ in range(2):
        ran = run(tests, limit, bug=True)
        by = str(ran["by"])
        match ran["outcome"]:
            case "passed":
                return Judged("survived")
            case "hung":
                again = run([by], min(limit, ALONE_S), bug=True)["outcome"] if by else "passed"
                if again not in ("hung", "failed") or not passes_without(by):
                    return Judged("unsure", by)
                return Judged("hung" if again == "hung" else "killed", by)
            case "failed":
                if passes_without(by):
                    return Judged("killed", by)
            case _:
                return Judged("broken")
    return Judged("unsure", by)
