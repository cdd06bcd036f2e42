"""Turns as the product might have had them."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from pydantic import SecretStr

from chat_app.data.db import open_database
from chat_app.data.migrations import migrate
from chat_app.settings import Settings
from chat_app.telemetry.events import Events, TurnEvent
from chat_app.telemetry.parquet import export

NOON = 1_795_392_000_000 + 12 * 3_600_000
"""Noon of a day in November 2026, UTC."""
HOUR = 3_600_000
DAY = 24 * HOUR


def turn(number: int = 0, at_ms: int = NOON, **fields: Any) -> TurnEvent:
    """One turn that went well; `number` makes its id."""
    known: dict[str, Any] = {
        "generation_id": f"{number:032x}",
        "at_ms": at_ms,
        "tenant": "t1",
        "user_id": "u1",
        "plan": "free",
        "source": "chat",
        "model": "smollm2-135m-instruct",
        "status": "done",
        "finish": "stop",
        "route": "default",
        "prompt_tokens": 40,
        "completion_tokens": 120,
        "cached_tokens": 16,
        "cost_micro": 160,
        "queue_ms": 2,
        "ttft_ms": 150,
        "total_ms": 1_500,
        "tokens_per_s": 90.5,
    }
    return TurnEvent(**(known | fields))


def plausible(days: int, a_day: int, end_ms: int = NOON, seed: int = 1) -> list[TurnEvent]:
    """What a small installation might have seen in the days up to `end_ms`: daily rhythm, a few heavy users, two
    models of different speed, refusals and failures, growing traffic."""
    chance = Random(seed)
    people = [(f"user-{n}", "enterprise" if n < 3 else "pro" if n < 12 else "free") for n in range(60)]
    shares = [1 / (n + 1) for n in range(60)]
    made = []
    for number in range(days * a_day):
        back = days * (1 - (number / (days * a_day)) ** 0.8)
        at_ms = end_ms - int(back * DAY)
        hour = at_ms % DAY / HOUR
        if chance.random() > 0.25 + 0.75 * max(0.0, 1 - abs(hour - 14) / 8):
            continue
        user, plan = chance.choices(people, shares)[0]
        large = chance.random() < (0.6 if plan != "free" else 0.15)
        status, finish = chance.choices(
            [
                ("done", "stop"),
                ("done", "length"),
                ("stopped", "stopped"),
                ("failed", "failed"),
                ("refused", "refused"),
            ],
            [86, 6, 4, 1.5, 2.5],
        )[0]
        prompt, answer = int(chance.lognormvariate(5, 0.8)), int(chance.lognormvariate(4.6, 0.9))
        speed = chance.gauss(14, 2) if large else chance.gauss(95, 9)
        ttft = int(chance.lognormvariate(6.4 if large else 5.1, 0.35))
        fields: dict[str, Any] = {
            "user_id": user,
            "plan": plan,
            "source": chance.choices(["chat", "api"], [4, 1])[0],
            "model": "qwen2.5-coder-1.5b-instruct" if large else "smollm2-135m-instruct",
            "route": "asked" if large else "default",
            "status": status,
            "finish": finish,
            "prompt_tokens": prompt,
            "completion_tokens": answer,
            "cached_tokens": prompt // 3 if chance.random() < 0.6 else 0,
            "cost_micro": (prompt * 150 + answer * 600) * (8 if large else 1) // 1_000,
            "queue_ms": chance.randrange(1, 20),
            "ttft_ms": ttft,
            "total_ms": ttft + int(answer / speed * 1_000),
            "tokens_per_s": round(speed, 1),
        }
        if status == "refused":
            stage, category, rule = chance.choice(REFUSALS)
            fields |= {"refused_stage": stage, "refused_category": category, "refused_rule": rule, "model": ""}
            fields |= dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens", "cost_micro"), 0)
            fields |= {"queue_ms": None, "ttft_ms": None, "tokens_per_s": None, "total_ms": 2}
        made.append(turn(number, at_ms, **fields))
    return made


REFUSALS = [
    ("input", "injection", "override.earlier"),
    ("input", "injection", "prompt.yours"),
    ("input", "secret", "github_token"),
    ("input", "self_harm", "self_harm.method"),
    ("output", "secret", "aws_access_key"),
]


async def write_exports(home: Path, turns: Sequence[TurnEvent]) -> Path:
    """Record these turns in a new installation and export them, both with the product's own code; where they lie."""
    settings = Settings(home=home, database_url=SecretStr(""), redis_url=SecretStr(""))
    await asyncio.to_thread(migrate, settings)
    db = open_database(settings)
    await db.start()
    try:
        events = Events(db, settings)
        await db.batch(*(events.turn(each) for each in turns))
        await export(db, settings.exports)
    finally:
        await db.close()
    return settings.exports
