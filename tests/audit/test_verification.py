"""Whoever tampers with the trail is found, and where; what cannot be found needs a head that was noted before."""

import pytest

from chat_app.audit import verification
from chat_app.audit.chain import Head, digest_of
from chat_app.audit.sealing import Sealer, head_of
from chat_app.audit.trail import Trail
from chat_app.audit.verification import verify
from chat_app.data.acts import Act, By
from chat_app.data.db.base import Database
from tests.audit.conftest import Tamper

ENTRIES = 7


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long trail is read a page at a time: of these, some begin where one ends, and some do not."""
    monkeypatch.setattr(verification, "PAGE", 3)


@pytest.fixture
async def sealed(trail: Trail, db: Database) -> Head:
    """The head of a chain of `ENTRIES` entries, one for each of u1, u2 …"""
    for number in range(1, ENTRIES + 1):
        await trail.record(Act("sign_in", By(f"u{number}")))
        await Sealer(db).seal()
    return await head_of(db)


async def test_a_whole_chain(db: Database, trail: Trail, sealed: Head) -> None:
    found = await verify(db, sealed)
    assert (found.broken, found.head, found.waiting) == ("", sealed, 0)
    await trail.record(Act("sign_out", By("u1")))
    found = await verify(db, sealed)
    assert (found.broken, found.head, found.waiting) == ("", sealed, 1)
    assert found.oldest_ms >= 0
    assert Head.parsed(str(sealed)) == sealed


async def test_an_empty_trail_is_whole(db: Database) -> None:
    assert await verify(db) == verification.Finding(Head())


SWAPPED = (
    "UPDATE audit SET seq = -1 WHERE actor = 'u3'; UPDATE audit SET seq = 3 WHERE actor = 'u4';"
    "UPDATE audit SET seq = 4 WHERE actor = 'u3'"
)
COPIED = (
    "INSERT INTO audit (id, at, tenant_id, actor, action, object_kind, object_id, outcome, network, details, digest,"
    " seq, prev, hash) SELECT 'ffffffffffffffffffffffffffffffff', at, tenant_id, actor, action, object_kind,"
    " object_id, outcome, network, details, digest, 8, hash, hash FROM audit WHERE actor = 'u7'"
)


@pytest.mark.parametrize(
    ("change", "at", "said"),
    [
        ("UPDATE audit SET actor = 'eve' WHERE actor = 'u4'", 4, "changed"),
        ("UPDATE audit SET at = at + 1 WHERE actor = 'u1'", 1, "changed"),
        ("UPDATE audit SET details = '{\"a\":1}' WHERE actor = 'u7'", 7, "changed"),
        ("UPDATE audit SET outcome = 'failed' WHERE actor = 'u2'", 2, "changed"),
        ("UPDATE audit SET hash = prev WHERE actor = 'u5'", 5, "not the entry"),
        ("UPDATE audit SET prev = hash WHERE actor = 'u5'", 5, "not the entry"),
        ("DELETE FROM audit WHERE actor = 'u4'", 4, "missing"),
        ("DELETE FROM audit WHERE actor = 'u1'", 1, "missing"),
        ("UPDATE audit SET seq = NULL, prev = NULL, hash = NULL WHERE actor = 'u6'", 6, "missing"),
        ("DELETE FROM audit WHERE seq > 5", 6, "missing at the end"),
        ("DELETE FROM audit", 1, "missing at the end"),
        (SWAPPED, 3, "changed|not the entry"),
        (COPIED, 8, "changed|not the entry"),
        ("UPDATE audit_head SET hash = 'f'", 7, "does not end as"),
        ("UPDATE audit_head SET seq = 6", 6, "does not end as"),
        ("DELETE FROM audit_head", 0, "head of the audit trail is gone"),
    ],
)
async def test_what_was_tampered_with_is_found(
    change: str, at: int, said: str, db: Database, sealed: Head, tamper: Tamper
) -> None:
    for statement in change.split(";"):
        await tamper(statement)
    found = await verify(db)
    assert found.at == at
    assert any(words in found.broken for words in said.split("|")), found


async def test_a_forged_entry_at_the_end_is_found_by_the_head(db: Database, sealed: Head, tamper: Tamper) -> None:
    await tamper(COPIED)
    [row] = await db.query("SELECT * FROM audit WHERE seq = 8")
    forged = {**row, "actor": "eve"}
    digest = digest_of(forged)
    await tamper(
        f"UPDATE audit SET actor = 'eve', digest = '{digest}', hash = '{sealed.next(digest).hash}' WHERE seq = 8"
    )
    found = await verify(db)
    assert (found.at, found.broken.startswith("slipped in")) == (8, True)


async def test_a_change_before_the_sealing_is_found_before_and_after_it(
    db: Database, trail: Trail, sealed: Head, tamper: Tamper
) -> None:
    await trail.record(Act("sign_in", By("u8")))
    await tamper("UPDATE audit SET actor = 'eve' WHERE actor = 'u8'")
    assert "changed before it was sealed" in (await verify(db)).broken
    await Sealer(db).seal()
    found = await verify(db)
    assert (found.at, "changed" in found.broken) == (8, True)


async def shortened(db: Database, tamper: Tamper) -> None:
    """The last entries are gone, and the head says so as well: a whole chain, only shorter."""
    await tamper("DELETE FROM audit WHERE seq > 5")
    [row] = await db.query("SELECT hash FROM audit WHERE seq = 5")
    await tamper(f"UPDATE audit_head SET seq = 5, hash = '{row['hash']}'")


async def rewritten(db: Database, tamper: Tamper) -> None:
    """Another chain altogether, right in itself."""
    head = Head()
    for row in await db.query("SELECT * FROM audit ORDER BY seq"):
        row = {**row, "actor": "eve"}
        last, head = head, head.next(digest_of(row))
        await tamper(
            f"UPDATE audit SET actor = 'eve', digest = '{digest_of(row)}', prev = '{last.hash}', hash = '{head.hash}'"
            f" WHERE seq = {head.seq}"
        )
    await tamper(f"UPDATE audit_head SET hash = '{head.hash}'")


async def test_a_tail_that_went_with_its_head_needs_a_noted_one(db: Database, sealed: Head, tamper: Tamper) -> None:
    await shortened(db, tamper)
    assert (await verify(db)).broken == ""
    found = await verify(db, sealed)
    assert (found.at, "shorter than the head that was noted" in found.broken) == (6, True)


async def test_a_rewritten_chain_needs_a_noted_head(db: Database, sealed: Head, tamper: Tamper) -> None:
    await rewritten(db, tamper)
    assert (await verify(db)).broken == ""
    found = await verify(db, sealed)
    assert (found.at, "hash was noted" in found.broken) == (7, True)


@pytest.mark.parametrize("text", ["", "5", "5:abc", "x:" + "0" * 64, "-1:" + "0" * 64])
def test_what_is_no_head(text: str) -> None:
    with pytest.raises(ValueError, match="A head is"):
        Head.parsed(text)
