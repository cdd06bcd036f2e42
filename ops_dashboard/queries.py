"""What the dashboard asks the exported files, in SQL through DuckDB. It knows no page and draws nothing.

A `Turns` is the part of the files that the filters leave, read once into memory and asked many times. Days without
files are skipped by their folder's name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from chat_app.telemetry.events import columns

_TYPES = {"string": "VARCHAR", "int": "BIGINT", "float": "DOUBLE"}
_AT = "make_timestamp(at_ms * 1000)"


class UnreadableFiles(Exception):
    """An exported file cannot be read. The message names it."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which turns to look at. Days are inclusive, in UTC; an empty choice means all."""

    since: date
    until: date
    plans: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def days(self) -> int:
        return (self.until - self.since).days + 1

    @property
    def before(self) -> "Filters":
        """The same number of days, just before."""
        length = timedelta(days=self.days)
        return Filters(self.since - length, self.until - length, self.plans, self.models, self.sources)

    @property
    def bucket(self) -> str:
        """How fine a line over this time should be: `hour` or `day`."""
        return "hour" if self.days <= 3 else "day"


@dataclass(frozen=True, slots=True)
class Files:
    """The exported files of one installation."""

    directory: Path

    def days(self) -> list[date]:
        """Days that have files, in order."""
        found = [folder.name.removeprefix("day=") for folder in (self.directory / "turns").glob("day=????-??-??")]
        return sorted(date.fromisoformat(day) for day in found)

    def within(self, since: date, until: date) -> list[str]:
        """The files of these days."""
        days = [day for day in self.days() if since <= day <= until]
        folders = [self.directory / "turns" / f"day={day.isoformat()}" for day in days]
        return sorted(str(file) for folder in folders for file in folder.glob("*.parquet"))

    def stamp(self) -> tuple[int, int]:
        """Changes whenever a file does."""
        stats = [file.stat() for file in (self.directory / "turns").glob("*/*.parquet")]
        return len(stats), max((stat.st_mtime_ns for stat in stats), default=0)

    def exported_at(self) -> datetime | None:
        """When the last export wrote something; None if there was none."""
        count, stamp = self.stamp()
        return datetime.fromtimestamp(stamp / 1e9, UTC) if count else None


class Turns:
    """The turns that pass the filters."""

    def __init__(self, files: Files, filters: Filters) -> None:
        self.filters = filters
        # Nothing is ever fetched from elsewhere: the formats that are needed are built in.
        self._db = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
        names = files.within(filters.since, filters.until)
        schema = ", ".join(f"{name} {_TYPES[kind]}" for name, kind in columns().items())
        self._db.execute(f"CREATE TABLE turns ({schema})")
        if names:
            self._load(names, filters)

    def _load(self, names: list[str], filters: Filters) -> None:
        known = ", ".join(columns())
        try:
            self._db.execute(
                # The first part gives every column, so that files of an older version may lack some.
                f"INSERT INTO turns SELECT {known} FROM (FROM turns UNION ALL BY NAME"
                " FROM read_parquet(?, union_by_name = true, hive_partitioning = false)) WHERE day BETWEEN ? AND ?"
                " AND (len(?) = 0 OR list_contains(?, plan)) AND (len(?) = 0 OR list_contains(?, model))"
                " AND (len(?) = 0 OR list_contains(?, source))",
                [
                    *(names, filters.since.isoformat(), filters.until.isoformat()),
                    *(list(choice) for choice in (filters.plans, filters.models, filters.sources) for _ in range(2)),
                ],
            )
        except duckdb.Error as error:
            raise UnreadableFiles(str(error).splitlines()[0]) from error

    def ask(self, sql: str, *parameters: object) -> pl.DataFrame:
        """Any question about the table `turns`."""
        return pl.DataFrame(self._db.cursor().sql(sql, params=list(parameters)).to_arrow_table())

    def totals(self) -> dict[str, float | None]:
        """One figure each: turns, people, tokens, cost and the percentiles of speed."""
        return self.ask(
            """
            SELECT count(*) AS turns, count(DISTINCT user_hash) AS people,
                   count(*) FILTER (status = 'failed') AS failed, count(*) FILTER (status = 'refused') AS refused,
                   coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
                   coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens,
                   coalesce(sum(cached_tokens), 0)::BIGINT AS cached_tokens,
                   coalesce(sum(cost_micro), 0) / 1e6 AS cost,
                   quantile_cont(ttft_ms, 0.5) AS ttft_p50, quantile_cont(ttft_ms, 0.95) AS ttft_p95,
                   quantile_cont(tokens_per_s, 0.5) AS speed_p50
            FROM turns
            """
        ).to_dicts()[0]

    def by_status(self) -> pl.DataFrame:
        """Turns over time by how they ended: moment, status, turns."""
        return self.ask(
            f"SELECT date_trunc('{self.filters.bucket}', {_AT}) AS moment, status, count(*) AS turns"
            " FROM turns GROUP BY ALL ORDER BY moment, status"
        )

    def latency(self) -> pl.DataFrame:
        """Time to first token over time, in seconds: moment, measure (`median`, `95 of 100`), seconds."""
        return self.ask(
            f"""
            WITH measured AS (
                SELECT date_trunc('{self.filters.bucket}', {_AT}) AS moment, quantile_cont(ttft_ms, 0.5) / 1000 AS p50,
                       quantile_cont(ttft_ms, 0.95) / 1000 AS p95
                FROM turns WHERE ttft_ms IS NOT NULL GROUP BY ALL
            )
            SELECT moment, 'median' AS measure, p50 AS seconds FROM measured
            UNION ALL SELECT moment, '95 of 100', p95 FROM measured ORDER BY moment, measure
            """
        )

    def week(self) -> pl.DataFrame:
        """When people come: weekday (1 Monday … 7 Sunday), hour (UTC), turns."""
        return self.ask(
            f"SELECT isodow({_AT}) AS weekday, hour({_AT}) AS hour, count(*) AS turns"
            " FROM turns GROUP BY ALL ORDER BY ALL"
        )

    def models(self) -> pl.DataFrame:
        """Each model's traffic and speed, the busiest first. Times in milliseconds."""
        return self.ask(
            """
            SELECT model, count(*) AS turns, count(DISTINCT user_hash) AS people,
                   round(quantile_cont(ttft_ms, 0.5)) AS ttft_p50, round(quantile_cont(ttft_ms, 0.95)) AS ttft_p95,
                   round(quantile_cont(total_ms, 0.95)) AS total_p95,
                   round(quantile_cont(tokens_per_s, 0.5), 1) AS speed_p50,
                   count(*) FILTER (status = 'failed') / count(*) AS failed_share
            FROM turns WHERE model <> '' GROUP BY model ORDER BY turns DESC, model
            """
        )

    def refusals(self) -> pl.DataFrame:
        """What the checks refused: stage, category, rule, turns."""
        return self.ask(
            "SELECT refused_stage AS stage, refused_category AS category, refused_rule AS rule, count(*) AS turns"
            " FROM turns WHERE refused_stage <> '' GROUP BY ALL ORDER BY turns DESC, rule"
        )

    def tokens(self, by: str) -> pl.DataFrame:
        """Tokens and cost over time by `plan` or `model`: moment, that column, tokens, cost."""
        column = {"plan": "plan", "model": "model"}[by]
        return self.ask(
            f"SELECT date_trunc('{self.filters.bucket}', {_AT}) AS moment, {column},"
            " sum(prompt_tokens + completion_tokens)::BIGINT AS tokens, sum(cost_micro) / 1e6 AS cost"
            f" FROM turns WHERE {column} <> '' GROUP BY ALL ORDER BY moment, {column}"
        )

    def spend(self) -> pl.DataFrame:
        """Usage and cost by plan and model, the dearest first."""
        return self.ask(
            """
            SELECT plan, model, count(*) AS turns, count(DISTINCT user_hash) AS people,
                   sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(completion_tokens)::BIGINT AS completion_tokens,
                   sum(cached_tokens) / nullif(sum(prompt_tokens), 0) AS cached_share, sum(cost_micro) / 1e6 AS cost
            FROM turns WHERE model <> '' GROUP BY plan, model
            ORDER BY cost DESC, sum(turns.prompt_tokens + turns.completion_tokens) DESC, plan, model
            """
        )

    def heaviest(self, most: int = 10) -> pl.DataFrame:
        """Who uses most, by pseudonym: person, plan, turns, tokens, share of all tokens, cost."""
        return self.ask(
            """
            SELECT user_hash[:8] AS person, max_by(plan, at_ms) AS plan, count(*) AS turns,
                   sum(prompt_tokens + completion_tokens)::BIGINT AS tokens,
                   tokens / nullif(sum(tokens) OVER (), 0) AS share, sum(cost_micro) / 1e6 AS cost
            FROM turns GROUP BY user_hash ORDER BY tokens DESC, person LIMIT ?
            """,
            most,
        )


def choices(files: Files, since: date, until: date) -> dict[str, Sequence[str]]:
    """What can be filtered by in these days: the plans, models and sources that occur."""
    turns = Turns(files, Filters(since, until))
    return {
        column: turns.ask(f"SELECT DISTINCT {column} AS value FROM turns WHERE {column} <> '' ORDER BY value")[
            "value"
        ].to_list()
        for column in ("plan", "model", "source")
    }
