"""Entries are written with the act itself, hold nothing that anybody said or is reached by, and stay as they are."""

import pytest

from chat_app.audit.reading import Wanted
from chat_app.audit.trail import IN_ALL, Trail
from chat_app.data.acts import ACTIONS, OBJECT, Act, By
from chat_app.data.db.base import Conflict, Database, Statement, Unmet
from chat_app.data.limits.base import LimitsUnavailable
from chat_app.data.limits.memory import MemoryLimits

ADA = By("ada", "192.0.2.7")
INSERT = (
    "INSERT INTO audit (id, at, tenant_id, actor, action, object_kind, object_id, outcome, network, details, digest,"
    " seq) VALUES ('{id}', 1, 'default', 'eve', 'sign_in', '', '', 'done', '', '{{}}', 'x', {seq})"
)


async def test_an_entry_says_who_did_what_to_what(trail: Trail) -> None:
    await trail.record(Act("role_change", ADA, "account", "bob", details={"from": "user", "to": "staff", "n": 3}))
    [entry] = (await trail.page(Wanted())).entries
    assert {name: entry[name] for name in ("actor", "action", "object_kind", "object_id", "outcome", "network")} == {
        "actor": "ada", "action": "role_change", "object_kind": "account", "object_id": "bob", "outcome": "done",
        "network": "hash-of-3-dots",
    }  # fmt: skip
    assert entry["details"] == {"from": "user", "to": "staff", "n": 3}
    assert (entry["tenant_id"], entry["seq"]) == ("default", None)


@pytest.mark.parametrize("said", ["ada@example.org", "My secret plan", "ключ", "a\nb", "x" * 65])
async def test_what_is_no_id_and_no_figure_is_not_kept(trail: Trail, said: str) -> None:
    await trail.record(Act("plan_assign", By(said), "account", said, details={"plan": said, "all": ["fine", said]}))
    [entry] = (await trail.page(Wanted())).entries
    assert said not in str(entry)
    assert (entry["actor"], entry["object_id"], entry["details"]) == ("?", "?", {"plan": "?", "all": ["fine", "?"]})


async def test_only_acts_of_the_list_are_recorded(trail: Trail) -> None:
    with pytest.raises(ValueError, match="knows no such act"):
        trail.statements(Act("dance", ADA))  # type: ignore[arg-type]
    for action in ACTIONS:
        await trail.record(Act(action, ADA))
    assert len((await trail.page(Wanted())).entries) == len(ACTIONS)


async def test_what_is_undone_has_no_entry(trail: Trail, db: Database) -> None:
    unmet = Statement("UPDATE plan SET position = 1 WHERE id = 'none'", must="no plan")
    with pytest.raises(Unmet):
        await db.batch(unmet, *trail.statements(Act("plan_save", ADA, "plan", "none")))
    with pytest.raises(Unmet):
        await db.batch(*trail.statements(Act("plan_save", ADA, "plan", "none")), unmet)
    assert (await trail.page(Wanted())).entries == []


async def test_an_entry_may_depend_on_what_the_transaction_finds(trail: Trail, db: Database) -> None:
    entry = Act("plan_save", ADA, "plan", "free")
    there = f"EXISTS (SELECT 1 FROM tenant t WHERE t.id = {OBJECT})"
    await db.batch(
        *trail.statements(entry, there),
        Statement("INSERT INTO tenant (id, name, created_at) VALUES ('free', 'F', 1)"),
        *trail.statements(entry, there),
        *trail.statements(entry, f"NOT {there}"),
    )
    assert len((await trail.page(Wanted())).entries) == 1


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'eve'",
        "UPDATE audit SET outcome = 'failed', seq = 1, prev = 'p', hash = 'h'",
        "UPDATE audit SET seq = 1",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE id = 'none' OR actor = 'ada'",
        INSERT.format(id="1" * 32, seq=1),
        "UPDATE audit_head SET hash = 'h'",
        "UPDATE audit_head SET seq = seq - 1",
        "UPDATE audit_head SET id = 'other', seq = 5",
        "DELETE FROM audit_head",
        "INSERT INTO audit_head (id, seq, hash) VALUES ('more', 9, 'h')",
    ],
)
async def test_the_application_cannot_change_or_remove_any(change: str, trail: Trail, db: Database) -> None:
    await trail.record(Act("sign_in", ADA))
    before = [dict(row) for table in ("audit", "audit_head") for row in await db.query(f"SELECT * FROM {table}")]
    with pytest.raises(Conflict, match="audit"):
        await db.batch(Statement(change))
    assert before == [
        dict(row) for table in ("audit", "audit_head") for row in await db.query(f"SELECT * FROM {table}")
    ]


@pytest.mark.parametrize("place", [0, -1])
async def test_an_entry_gets_no_place_that_no_verification_looks_at(place: int, trail: Trail, db: Database) -> None:
    await trail.record(Act("sign_in", ADA))
    with pytest.raises(Conflict, match="audit"):
        await db.batch(Statement(f"UPDATE audit SET seq = {place}, prev = 'x', hash = 'y'"))
    assert [row["seq"] for row in await db.query("SELECT seq FROM audit")] == [None]


async def test_no_entry_takes_the_place_of_another(trail: Trail, db: Database) -> None:
    await trail.record(Act("sign_in", ADA))
    await db.batch(Statement("UPDATE audit SET seq = 1, prev = 'x', hash = 'y'"))
    await trail.record(Act("sign_in", ADA))
    how = "UPDATE OR REPLACE" if db.dialect == "sqlite" else "UPDATE"
    with pytest.raises(Conflict):
        await db.batch(Statement(f"{how} audit SET seq = 1, prev = 'x', hash = 'y' WHERE seq IS NULL"))
    assert len(await db.query("SELECT id FROM audit")) == 2


async def test_an_entry_cannot_be_replaced_or_the_table_emptied(trail: Trail, db: Database) -> None:
    await trail.record(Act("sign_in", ADA))
    [row] = await db.query("SELECT id FROM audit")
    replace = INSERT.format(id=row["id"], seq="NULL").replace("INSERT", "INSERT OR REPLACE")
    for change in (replace,) if db.dialect == "sqlite" else ("TRUNCATE audit", "TRUNCATE audit_head"):
        with pytest.raises(Conflict, match="audit"):
            await db.batch(Statement(change))
    assert [row["actor"] for row in await db.query("SELECT actor FROM audit")] == ["ada"]


async def test_refusals_of_one_source_are_bounded_and_of_all_together(db: Database) -> None:
    limits = MemoryLimits()
    trail = Trail(db, hit=limits.hit)
    assert [await trail.has_room(source, 1) for source in "aabab"] == [True, False, True, False, False]
    assert [await trail.has_room("c", 2) for _ in range(3)] == [True, True, False]
    while not await limits.hit("audit:refusals", IN_ALL, IN_ALL):
        pass
    assert not await trail.has_room("d", 1)


async def test_without_the_limits_store_refusals_are_recorded_all_the_same(db: Database) -> None:
    async def away(key: str, per_minute: int, burst: int | None = None) -> int:
        raise LimitsUnavailable("away")

    assert await Trail(db, hit=away).has_room("a", 1)
    assert await Trail(db).has_room("a", 1)
