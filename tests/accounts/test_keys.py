"""API keys: shown once, found by one query, refused at once when revoked."""

import asyncio

import pytest

from chat_app.accounts.identity import AccountError
from chat_app.accounts.keys import MOST_KEYS
from chat_app.accounts.people import Accounts
from chat_app.data.db.base import Database, Statement, Value
from chat_app.data.ids import new_id

PASSWORD = "correct horse battery"


async def test_a_key_is_its_owners_until_it_is_revoked(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    key, other = await accounts.make_key(ada.user_id, "  laptop\n "), await accounts.make_key(ada.user_id, "")
    assert await accounts.by_key(key) == ada
    kept = {line.name: line for line in await accounts.keys(ada.user_id)}
    assert set(kept) == {"laptop", "API key"}
    assert key.startswith(kept["laptop"].prefix) and len(kept["laptop"].prefix) < 16
    await accounts.revoke_key(ada.user_id, kept["laptop"].id)
    assert await accounts.by_key(key) is None
    assert await accounts.by_key(other) == ada
    with pytest.raises(AccountError, match="revoked already"):
        await accounts.revoke_key(ada.user_id, kept["laptop"].id)


async def test_nobody_revokes_anothers_key(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    eve = await accounts.create("eve@example.org", PASSWORD)
    key = await accounts.make_key(ada.user_id, "")
    [line] = await accounts.keys(ada.user_id)
    with pytest.raises(AccountError):
        await accounts.revoke_key(eve.user_id, line.id)
    assert await accounts.by_key(key) == ada
    assert await accounts.keys(eve.user_id) == []


async def test_the_key_itself_is_not_stored(accounts: Accounts, db: Database) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    key = await accounts.make_key(ada.user_id, "")
    assert key not in str([dict(row) for row in await db.query("SELECT * FROM api_key")])


async def test_the_last_use_is_noted_beside_the_call(accounts: Accounts) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    key = await accounts.make_key(ada.user_id, "")
    assert (await accounts.keys(ada.user_id))[0].last_used_at is None
    await accounts.by_key(key)
    for _ in range(200):
        [line] = await accounts.keys(ada.user_id)
        if line.last_used_at is not None:
            break
        await asyncio.sleep(0.01)
    assert line.last_used_at is not None


async def test_a_call_costs_one_query(accounts: Accounts, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    key = await accounts.make_key(ada.user_id, "")
    await accounts.by_key(key)
    asked: list[str] = []
    query = db.query

    async def counted(sql: str, *params: Value) -> object:
        asked.append(sql)
        return await query(sql, *params)

    monkeypatch.setattr(db, "query", counted)
    assert await accounts.by_key(key) == ada
    assert len(asked) == 1
    for nonsense in ("", "sk-parley-", "sk-parley-" + "x" * 44, "Bearer", "sk-parley-" + "é" * 43, "\x00"):
        assert await accounts.by_key(nonsense) is None
    assert len(asked) == 1


async def test_keys_are_not_without_number(accounts: Accounts, db: Database) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    await asyncio.gather(*(accounts.make_key(ada.user_id, str(n)) for n in range(MOST_KEYS)))
    with pytest.raises(AccountError, match="Revoke one") as error:
        await accounts.make_key(ada.user_id, "one more")
    assert error.value.code == "too_many_keys"
    one, other, *_ = await accounts.keys(ada.user_id)
    await accounts.revoke_key(ada.user_id, one.id)
    await db.batch(Statement("UPDATE api_key SET expires_at = 1 WHERE id = $1", (other.id,)))
    for _ in range(2):  # What is not in force does not count.
        await accounts.make_key(ada.user_id, "instead")
    with pytest.raises(AccountError, match="Revoke one"):
        await accounts.make_key(ada.user_id, "one more")
    with pytest.raises(AccountError) as error:
        await accounts.make_key(new_id(), "nobody's")
    assert error.value.code == "not_found"


async def test_keys_that_ended_long_ago_are_forgotten(accounts: Accounts, db: Database) -> None:
    ada = await accounts.create("ada@example.org", PASSWORD)
    for name in ("in force", "revoked", "expired", "revoked now", "expires later"):
        await accounts.make_key(ada.user_id, name)
    for change in (
        "revoked_at = 9 WHERE name = 'revoked'",
        "expires_at = 9 WHERE name = 'expired'",
        "revoked_at = 10 WHERE name = 'revoked now'",
        "expires_at = 10 WHERE name = 'expires later'",
    ):
        await db.batch(Statement(f"UPDATE api_key SET {change}"))
    assert await accounts.forget_keys(10) == 2
    left = await db.query("SELECT name FROM api_key ORDER BY name")
    assert [row["name"] for row in left] == ["expires later", "in force", "revoked now"]
    assert await accounts.forget_keys(10) == 0
