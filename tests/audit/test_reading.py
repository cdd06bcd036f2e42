"""Pages of the trail: every entry once, whatever comes meanwhile, and only those that are asked for."""

from chat_app.audit.reading import Wanted, everything, read_page
from chat_app.audit.trail import Trail
from chat_app.data.acts import Act, By
from chat_app.data.db.base import Database
from tests.audit.conftest import one_by_one


async def test_pages_down_and_up_again(trail: Trail, db: Database) -> None:
    await one_by_one(trail, (Act("sign_in", By(f"u{number}")) for number in range(7)))
    pages = [await read_page(db, Wanted(), limit=3)]
    await trail.record(Act("sign_in", By("later")))
    while pages[-1].older:
        pages.append(await read_page(db, Wanted(), pages[-1].older, limit=3))
    assert [[entry["actor"] for entry in page.entries] for page in pages] == [
        ["u6", "u5", "u4"], ["u3", "u2", "u1"], ["u0"],
    ]  # fmt: skip
    assert [bool(page.newer) for page in pages] == [False, True, True]
    up = await read_page(db, Wanted(), pages[-1].newer, limit=3)
    assert [entry["actor"] for entry in up.entries] == ["u3", "u2", "u1"]
    up = await read_page(db, Wanted(), pages[0].entries and f">{pages[0].entries[0]['id']}", limit=3)
    assert ([entry["actor"] for entry in up.entries], up.newer) == (["later"], "")
    assert bool(up.older)
    nonsense = await read_page(db, Wanted(), "<'; DROP TABLE audit", limit=3)
    assert [entry["actor"] for entry in nonsense.entries] == ["later", "u6", "u5"]


async def test_only_what_is_wanted(trail: Trail, db: Database) -> None:
    in_ = Act("sign_in", By("ada"), "account", "ada")
    failed = Act("sign_in", By(), "account", "ada", "failed")
    await one_by_one(trail, (in_, failed, Act("role_change", By("bob"), "account", "ada")))
    [first, *_] = [entry async for entry in everything(db, Wanted())]

    async def found(wanted: Wanted) -> list[tuple[str, str]]:
        entries = (await read_page(db, wanted)).entries
        assert entries[::-1] == [entry async for entry in everything(db, wanted)]
        return [(entry["actor"], entry["action"]) for entry in entries]

    assert await found(Wanted(actor="ada")) == [("ada", "sign_in")]
    assert len(await found(Wanted(object="ada"))) == 3
    assert await found(Wanted(object="ada", action="role_change")) == [("bob", "role_change")]
    assert await found(Wanted(outcome="failed")) == [("", "sign_in")]
    assert await found(Wanted(until=first["at"])) == []
    assert len(await found(Wanted(since=first["at"]))) == 3
    assert await found(Wanted(since=first["at"] + 86_400_000)) == []
