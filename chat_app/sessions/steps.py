"""Steps: what a turn has done so far, one row each, in order.

A step that is finished stays as it is: whoever takes a turn over reads them and goes on behind the last one. It does
not know what a step does, nor what it costs.
"""

from dataclasses import dataclass

from chat_app.data.db.base import Database, Statement
from chat_app.sessions.generations import NOT_OWNER, GenerationRow

RUNNING = "running"
FINISHED = frozenset({"done", "stopped", "refused", "failed"})


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `kind`: model, tool, retrieval, summary, check; `status`: running, done, stopped, refused, failed.

    `input` is an offset in the generation log, `output` what the log may not hold yet. `key` makes a tool's call
    recognisable when it is made again. Prices are in micro-units of the currency per million tokens, `cost_micro` in
    micro-units, times in milliseconds since 1970.
    """

    generation_id: str
    seq: int
    kind: str
    model: str = ""
    name: str = ""
    key: str = ""
    input: int = 0
    output: str = ""
    status: str = RUNNING
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_micro: int = 0
    prompt_micro: int = 0
    completion_micro: int = 0
    started_at: int = 0
    finished_at: int | None = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


_FIELDS = tuple(Step.__dataclass_fields__)
_COLUMNS = ", ".join(_FIELDS)
_KEPT = ("generation_id", "seq", "key", "started_at")
"""What a step that is begun again has from the first time."""
_PLACES = ", ".join(f"${n}" for n in range(1, len(_FIELDS) + 1))
_AGAIN = ", ".join(f"{name} = excluded.{name}" for name in _FIELDS if name not in _KEPT)
_BEGIN = (
    f"INSERT INTO step ({_COLUMNS}) VALUES ({_PLACES})"
    f" ON CONFLICT (generation_id, seq) DO UPDATE SET {_AGAIN} WHERE step.status = '{RUNNING}'"
)
_FINISH = (
    "UPDATE step SET status = $3, model = $4, output = $5, prompt_tokens = $6, completion_tokens = $7,"
    " cached_tokens = $8, cost_micro = $9, prompt_micro = $10, completion_micro = $11, finished_at = $12"
    f" WHERE generation_id = $1 AND seq = $2 AND status = '{RUNNING}'"
)
_ENDS = ", ".join(f"'{status}'" for status in sorted(FINISHED))
_CUT = f"UPDATE step SET status = 'failed', finished_at = $2 WHERE generation_id = $1 AND status NOT IN ({_ENDS})"


class Steps:
    """The `step` table.

    Only the owner of a generation writes its steps: put these statements into a batch with the one of `Generations`
    (`create`, `advance`, `finish`) that names the fence. They do not look at it a second time, so that a database at
    the other end of a connection can do all of them in one round trip.
    """

    def __init__(self, db: Database) -> None:
        self._db = db

    def begin(self, row: GenerationRow, step: Step) -> Statement:
        """The step runs; again after a takeover, and then under the key and start of the first time.

        Unmet as NOT_OWNER for a step that is finished. Raises `ValueError` for a step of another generation, or one
        that is not running.
        """
        _check(row, step, step.status == RUNNING)
        return Statement(_BEGIN, tuple(getattr(step, name) for name in _FIELDS), must=NOT_OWNER)

    def finish(self, row: GenerationRow, step: Step) -> Statement:
        """The step has ended as `step` says. Unmet as NOT_OWNER unless it runs.

        Raises `ValueError` for a step of another generation, or one that is not finished.
        """
        _check(row, step, step.finished)
        return Statement(
            _FINISH,
            (
                row.id,
                step.seq,
                step.status,
                step.model,
                step.output,
                step.prompt_tokens,
                step.completion_tokens,
                step.cached_tokens,
                step.cost_micro,
                step.prompt_micro,
                step.completion_micro,
                step.finished_at,
            ),
            must=NOT_OWNER,
        )

    def cut(self, row: GenerationRow, at: int) -> Statement:
        """Whatever of the generation has not ended, in whichever state it is, has failed at that moment."""
        return Statement(_CUT, (row.id, at))

    async def of(self, generation_id: str) -> list[Step]:
        """All steps of a generation, in order."""
        rows = await self._db.query(f"SELECT {_COLUMNS} FROM step WHERE generation_id = $1 ORDER BY seq", generation_id)
        return [Step(**dict(row)) for row in rows]


def _check(row: GenerationRow, step: Step, fits: bool) -> None:
    if step.generation_id != row.id or not fits:
        raise ValueError(f"step {step.seq} ({step.status}) of {step.generation_id} does not fit generation {row.id}")
