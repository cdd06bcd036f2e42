"""Everything that is written gets one place in one chain, also where several replicas write and seal at once."""

import asyncio
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from chat_app.audit import sealing
from chat_app.audit.chain import Head, digest_of
from chat_app.audit.sealing import AT_ONCE, Sealer, _sealed, head_of
from chat_app.audit.trail import Trail
from chat_app.audit.verification import verify
from chat_app.data.acts import Act, By
from chat_app.data.db.base import Database
from chat_app.data.db.merge import groups
from chat_app.data.ids import now_ms
from tests.audit.conftest import Tamper, one_by_one


async def chain(db: Database) -> list[dict[str, Any]]:
    return [dict(row) for row in await db.query("SELECT * FROM audit ORDER BY seq")]


async def test_entries_are_chained_in_the_order_they_were_written(trail: Trail, db: Database) -> None:
    await one_by_one(trail, (Act("sign_in", By(f"u{number:04}")) for number in range(AT_ONCE * 2 + 3)))
    assert await Sealer(db).seal() == AT_ONCE * 2 + 3
    rows = await chain(db)
    assert [row["actor"] for row in rows] == [f"u{number:04}" for number in range(AT_ONCE * 2 + 3)]
    head = Head()
    for row in rows:
        assert (row["seq"], row["prev"]) == (head.seq + 1, head.hash)
        head = head.next(digest_of(row))
        assert row["hash"] == head.hash
    assert await head_of(db) == head
    assert await Sealer(db).seal() == 0


async def test_two_replicas_that_write_and_seal_at_once_make_one_chain(
    trail: Trail, db: Database, other: Database
) -> None:
    async def write(trail: Trail, name: str) -> None:
        for number in range(60):
            await trail.record(Act("sign_in", By(f"{name}{number}")))

    async def seal(database: Database) -> int:
        sealer, sealed = Sealer(database), 0
        while not done.is_set():
            sealed += await sealer.seal()
            await asyncio.sleep(0)
        return sealed

    done = asyncio.Event()
    sealing = [asyncio.create_task(seal(database)) for database in (db, other, db, other)]
    await asyncio.gather(write(trail, "a"), write(Trail(other), "b"))
    done.set()
    sealed = sum(await asyncio.gather(*sealing)) + await Sealer(db).seal()
    rows = await chain(db)
    assert sealed == len(rows) == 120
    assert {row["actor"] for row in rows} == {f"{name}{number}" for name in "ab" for number in range(60)}
    found = await verify(db)
    assert (found.broken, found.head.seq, found.waiting) == ("", 120, 0)


async def test_who_read_an_old_head_seals_nothing(trail: Trail, db: Database, other: Database) -> None:
    class Late:
        """Another replica, which reads head and entries, and comes to seal only when they have been sealed."""

        async def query(self, sql: str, *params: Any) -> Any:
            rows = await other.query(sql, *params)
            if "FROM audit " in sql:
                await Sealer(db).seal()
            return rows

        batch = other.batch

    await trail.record(Act("sign_in", By("ada")))
    assert await Sealer(Late()).seal() == 0  # type: ignore[arg-type]
    assert (await verify(db)).head.seq == 1
    assert (await verify(db)).broken == ""


async def test_the_schedule_seals_and_what_is_left_at_the_end_too(
    trail: Trail, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat_app.audit.sealing.EVERY_S", 0.01)
    sealer = Sealer(db)
    await sealer.start()
    await trail.record(Act("sign_in", By("ada")))
    while not (await head_of(db)).seq:
        await asyncio.sleep(0.01)
    monkeypatch.setattr("chat_app.audit.sealing.EVERY_S", 3_600)
    await asyncio.sleep(0.05)
    await trail.record(Act("sign_out", By("ada")))
    await sealer.close()
    assert (await head_of(db)).seq == 2


async def test_without_a_head_nothing_is_sealed(trail: Trail, db: Database, tamper: Tamper) -> None:
    await trail.record(Act("sign_in", By("ada")))
    await tamper("DELETE FROM audit_head")
    with pytest.raises(LookupError):
        await Sealer(db).seal()
    await Sealer(db).close()  # Says so in the log, and lets the process end.
    assert [row["seq"] for row in await chain(db)] == [None]


async def test_a_process_ends_though_the_database_does_not_respond(
    trail: Trail, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent:
        async def query(self, *_: Any) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr("chat_app.audit.sealing.CLOSING_S", 0.01)
    await trail.record(Act("sign_in", By("ada")))
    await Sealer(Silent()).close()  # type: ignore[arg-type]
    assert (await head_of(db)).seq == 0


async def test_a_sealing_is_one_statement_on_postgresql(trail: Trail, db: Database) -> None:
    """So the head is held no longer than a statement takes, and not for another round trip."""
    await trail.record(Act("sign_in", By("ada")))
    [row] = await db.query("SELECT id, digest FROM audit")
    assert len(groups(_sealed(Head(), [row]))) == 1


async def test_the_head_goes_into_the_log_but_not_at_once(
    trail: Trail, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "logger", structlog.get_logger())  # Nothing was logged with it yet.
    sealer = Sealer(db)
    with capture_logs() as logged:
        await trail.record(Act("sign_in", By("ada")))
        await sealer._attempt()
        assert logged == [] and (await head_of(db)).seq == 1
        later = now_ms() + sealing.FIRST_MS + 1
        monkeypatch.setattr(sealing, "now_ms", lambda: later)
        for _ in range(2):
            await trail.record(Act("sign_in", By("ada")))
            await sealer._attempt()
    assert [entry["event"] for entry in logged] == ["head of the audit trail"]
    assert logged[0]["head"].startswith("2:")
