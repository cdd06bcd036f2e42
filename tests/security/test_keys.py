"""API keys: what each may, for how long, and that its end reaches what runs in its name, on whatever replica."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from chat_app.accounts import key_watch
from chat_app.accounts.grant import DAY_MS, SCOPES, USUAL, Rights
from chat_app.accounts.identity import AccountError
from chat_app.accounts.key_watch import KeyWatch
from chat_app.accounts.keys import LONGEST_OVERLAP_MS
from chat_app.accounts.people import Accounts
from chat_app.accounts.tokens import digest
from chat_app.billing.ledger import period_of
from chat_app.data.db import open_database
from chat_app.data.db.base import DatabaseUnavailable, Statement
from chat_app.data.ids import now_ms
from chat_app.data.tables.sessions import ACTIVE
from chat_app.gateway.completions_route import PATH
from chat_app.sessions.removal import Removal
from tests.gateway.served import Served
from tests.parley import PASSWORD, person, script

QUICK = {"messages": [{"role": "user", "content": script(tokens=3, rate=0)}]}
SLOW = {"messages": [{"role": "user", "content": script(tokens=4_000, rate=50)}]}
NOBODY = "0" * 32
ROUTES = {
    "chat": ("POST", PATH),
    "models": ("GET", "/v1/models"),
    "generations": ("GET", f"/v1/generations/{NOBODY}"),
    "admin": ("GET", "/v1/admin/plans"),
}


async def call(served: Served, key: str, method: str = "POST", path: str = PATH, body: Any = QUICK) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {key}"}
    data = body if method == "POST" else None
    async with served.http.request(method, served.url + path, json=data, headers=headers) as response:
        return response.status, (await response.json()).get("error", {}).get("code")


async def made(served: Served, **rights: Any) -> str:
    return await served.parley.accounts.make_key(served.who.user_id, "made", Rights(**rights))


async def changed(served: Served, column: str, value: int | None) -> None:
    """Every key of the name `made` has this value now."""
    await served.parley.db.batch(Statement(f"UPDATE api_key SET {column} = $1 WHERE name = 'made'", (value,)))


@asynccontextmanager
async def another_replica(served: Served) -> AsyncIterator[Accounts]:
    """The accounts as another process has them, over a database connection of its own."""
    db = open_database(served.parley.settings)
    await db.start()
    yield Accounts(db, served.parley.settings)
    await db.close()


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_reaches_what_its_scope_names_and_nothing_else(served: Served, scope: str) -> None:
    boss = await person(served.parley, "boss@example.org", "admin")
    key = await served.parley.accounts.make_key(boss.user_id, "", Rights((scope,)))
    for name, (method, path) in ROUTES.items():
        said = await call(served, key, method, path)
        assert (said == (403, "missing_scope")) == (name != scope), (name, said)


async def test_an_administrators_usual_key_does_not_administer(served_anywhere: Served) -> None:
    boss = await person(served_anywhere.parley, "boss@example.org", "admin")
    key = await served_anywhere.parley.accounts.make_key(boss.user_id, "")
    assert await call(served_anywhere, key, *ROUTES["admin"]) == (403, "missing_scope")
    assert await call(served_anywhere, key) == (200, None)


async def test_administration_needs_the_role_when_the_key_is_made_and_when_it_is_used(served_anywhere: Served) -> None:
    accounts = served_anywhere.parley.accounts
    with pytest.raises(AccountError) as error:
        await made(served_anywhere, scopes=SCOPES)
    assert error.value.code == "bad_key"
    await accounts.set_role(served_anywhere.who.user_id, "admin")
    key = await made(served_anywhere, scopes=SCOPES)
    assert await call(served_anywhere, key, *ROUTES["admin"]) == (200, None)
    await accounts.set_role(served_anywhere.who.user_id, "user")
    assert await call(served_anywhere, key, *ROUTES["admin"]) == (403, "admins_only")


async def test_a_key_ends_at_its_time(served_anywhere: Served) -> None:
    key = await made(served_anywhere, expires_at=now_ms() + DAY_MS)
    assert await call(served_anywhere, key) == (200, None)
    await changed(served_anywhere, "expires_at", now_ms() - 1)
    assert await call(served_anywhere, key) == (401, "invalid_api_key")
    [line] = [
        line for line in await served_anywhere.parley.accounts.keys(served_anywhere.who.user_id) if line.name == "made"
    ]
    with pytest.raises(AccountError):
        await served_anywhere.parley.accounts.rotate_key(served_anywhere.who.user_id, line.id, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": ()},
        {"scopes": ("chat", "everything")},
        {"models": ("",)},
        {"models": ("m",) * 51},
        {"monthly_tokens": 0},
        {"requests_per_minute": 0},
        {"expires_at": 1},
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(served: Served, wrong: dict[str, Any]) -> None:
    with pytest.raises(AccountError) as error:
        await made(served, **wrong)
    assert error.value.code == "bad_key"


async def test_what_a_key_may_is_kept_as_it_was_asked(served_anywhere: Served) -> None:
    rights = Rights(("admin", "chat"), ("a", "é,\n b"[:2]), 5, 6, now_ms() + DAY_MS)
    await served_anywhere.parley.accounts.set_role(served_anywhere.who.user_id, "staff")
    key = await served_anywhere.parley.accounts.make_key(served_anywhere.who.user_id, "made", rights)
    grant = await served_anywhere.parley.accounts.grant(key)
    assert grant is not None
    assert grant.rights == replace(rights, scopes=("chat", "admin"))
    assert (await served_anywhere.parley.accounts.keys(served_anywhere.who.user_id))[0].rights == grant.rights


async def test_a_key_uses_its_models_only(served_anywhere: Served) -> None:
    for models, status, offered in ((("scripted",), (200, None), ["scripted"]), (("x",), (404, "model_not_found"), [])):
        key = await made(served_anywhere, models=models)
        for body in (QUICK, {**QUICK, "model": "scripted"}):
            assert await call(served_anywhere, key, body=body) == status
        assert [model.id for model in (await served_anywhere.client(key).models.list()).data] == offered
        assert (await call(served_anywhere, key, "GET", "/v1/models/scripted"))[0] == status[0]


async def test_a_key_has_a_rate_of_its_own(served_anywhere: Served) -> None:
    key, other = await made(served_anywhere, requests_per_minute=1), await made(served_anywhere)
    assert [(await call(served_anywhere, each))[0] for each in (key, key, other)] == [200, 429, 200]
    assert await call(served_anywhere, key) == (429, "rate_limit_exceeded")


async def test_a_key_has_tokens_of_its_own(served_anywhere: Served) -> None:
    key, other = await made(served_anywhere, monthly_tokens=1), await made(served_anywhere, monthly_tokens=1)
    assert await call(served_anywhere, key) == (200, None)
    assert await call(served_anywhere, key) == (429, "insufficient_quota")
    assert await call(served_anywhere, other) == (200, None)
    await served_anywhere.parley.db.batch(Statement("UPDATE key_month SET period = '2020-01'"))
    assert await call(served_anywhere, key) == (200, None)


async def test_a_key_is_used_up_at_its_limit_and_not_behind_it(served_anywhere: Served) -> None:
    parley = served_anywhere.parley
    key = await made(served_anywhere)
    assert await call(served_anywhere, key) == (200, None)
    grant = await parley.accounts.grant(key)
    assert grant is not None
    used = await parley.ledger.tokens_of_key(grant.key_id, period_of(now_ms()))
    await changed(served_anywhere, "monthly_tokens", used)
    assert await call(served_anywhere, key) == (429, "insufficient_quota")
    await changed(served_anywhere, "monthly_tokens", used + 1)
    assert await call(served_anywhere, key) == (200, None)


async def test_the_purge_gives_no_key_its_month_back(served_anywhere: Served) -> None:
    parley = served_anywhere.parley
    key = await made(served_anywhere, monthly_tokens=1)
    assert await call(served_anywhere, key) == (200, None)
    await parley.db.batch(Statement("UPDATE generation SET finished_at = 1"))
    removal = Removal(parley.db)
    gone = await removal.calls_before(now_ms())
    await parley.db.batch(*removal.answers(gone))
    assert len(gone) == 1 and await parley.generations.status(gone[0]) is None
    assert await call(served_anywhere, key) == (429, "insufficient_quota")


async def test_a_running_answer_counts_for_its_key(served_anywhere: Served) -> None:
    key = await made(served_anywhere, monthly_tokens=1)
    headers = {"Authorization": f"Bearer {key}"}
    async with served_anywhere.http.post(
        served_anywhere.url + PATH, json={**SLOW, "stream": True}, headers=headers
    ) as running:
        assert running.status == 200
        assert await call(served_anywhere, key) == (429, "insufficient_quota")


async def test_two_secrets_serve_while_they_overlap(served_anywhere: Served) -> None:
    accounts, who = served_anywhere.parley.accounts, served_anywhere.who
    first = await made(served_anywhere, scopes=("chat",))
    [line] = [line for line in await accounts.keys(who.user_id) if line.name == "made"]
    second = await accounts.rotate_key(who.user_id, line.id, DAY_MS)
    for key in (first, second):
        assert await call(served_anywhere, key) == (200, None)
        assert await call(served_anywhere, key, *ROUTES["models"]) == (403, "missing_scope")
    await changed(served_anywhere, "former_until", now_ms() - 1)
    assert await call(served_anywhere, first) == (401, "invalid_api_key")
    third = await accounts.rotate_key(who.user_id, line.id, DAY_MS)
    with pytest.raises(AccountError, match="still serves") as error:
        await accounts.rotate_key(who.user_id, line.id, 0)
    assert error.value.code == "former_serves"
    assert [(await call(served_anywhere, key))[0] for key in (second, third)] == [200, 200]
    fourth = await accounts.rotate_key(who.user_id, line.id, 0, end_former=True)
    said = [(await call(served_anywhere, key))[0] for key in (first, second, third, fourth)]
    assert said == [401, 401, 401, 200]
    fifth = await accounts.rotate_key(who.user_id, line.id, 0)  # The former one serves no more.
    await accounts.revoke_key(who.user_id, line.id)
    assert await call(served_anywhere, fifth) == (401, "invalid_api_key")
    with pytest.raises(AccountError) as error:
        await accounts.rotate_key(who.user_id, line.id, 0)
    assert error.value.code == "not_found"


async def test_a_secret_is_its_owners_to_change(served: Served) -> None:
    eve = await person(served.parley, "eve@example.org")
    key = await made(served)
    [line] = [line for line in await served.parley.accounts.keys(served.who.user_id) if line.name == "made"]
    for who, overlap in ((eve.user_id, 0), (served.who.user_id, -1), (served.who.user_id, LONGEST_OVERLAP_MS + 1)):
        with pytest.raises(AccountError):
            await served.parley.accounts.rotate_key(who, line.id, overlap)
    assert await call(served, key) == (200, None)


# The end of a key ---------------------------------------------------------------------------------------------------


async def end(served: Served, how: str) -> None:
    """End the served key, or the secret of it that is in use, from another replica."""
    async with another_replica(served) as accounts:
        [line] = [line for line in await accounts.keys(served.who.user_id) if line.name == "tests"]
        if how == "revoked":
            await accounts.revoke_key(served.who.user_id, line.id)
        elif how == "replaced":
            await accounts.rotate_key(served.who.user_id, line.id, 0)
        elif how == "replaced twice":
            await accounts.rotate_key(served.who.user_id, line.id, 60_000)
            await accounts.rotate_key(served.who.user_id, line.id, 60_000, end_former=True)
        elif how == "disabled":
            await accounts.disable(served.who.user_id)
        else:
            await served.parley.db.batch(Statement("UPDATE api_key SET expires_at = $1", (now_ms(),)))


@pytest.mark.parametrize("how", ["revoked", "disabled", "expired", "replaced", "replaced twice"])
@pytest.mark.parametrize(("headers", "ends_as"), [({}, "stopped"), ({"X-Parley-Detach": "true"}, "goes on")])
async def test_a_stream_ends_with_its_key(
    served_anywhere: Served, how: str, headers: dict[str, str], ends_as: str
) -> None:
    async with served_anywhere.http.post(
        served_anywhere.url + PATH, json={**SLOW, "stream": True}, headers={**served_anywhere.bearer, **headers}
    ) as response:
        await response.content.readuntil(b"\n\n")
        await end(served_anywhere, how)
        events = (await asyncio.wait_for(response.text(), 10)).strip().split("\n\n")
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "invalid_api_key"
    id = response.headers["x-parley-generation"]
    if ends_as == "stopped":
        assert await served_anywhere.settled(id) == "stopped"
    else:
        assert await served_anywhere.parley.generations.status(id) in ACTIVE
        await served_anywhere.parley.turns.stop(served_anywhere.who, id)


async def test_what_runs_goes_on_while_its_secret_serves_beside_the_new_one(served_anywhere: Served) -> None:
    [line] = await served_anywhere.parley.accounts.keys(served_anywhere.who.user_id)
    async with served_anywhere.http.post(
        served_anywhere.url + PATH, json={**SLOW, "stream": True}, headers=served_anywhere.bearer
    ) as response:
        await response.content.readuntil(b"\n\n")
        new = await served_anywhere.parley.accounts.rotate_key(served_anywhere.who.user_id, line.id, 60_000)
        secrets = [digest(served_anywhere.key), digest(new)]
        await served_anywhere.parley.key_watch._look()
        assert await served_anywhere.parley.accounts.in_force([*secrets, digest("another")]) == set(secrets)
        await response.content.readuntil(b"\n\n")
        id = response.headers["x-parley-generation"]
        assert await served_anywhere.parley.generations.status(id) in ACTIVE
    await served_anywhere.settled(id)


async def test_a_call_that_waits_for_its_answer_ends_with_its_key(served_anywhere: Served) -> None:
    waiting = asyncio.create_task(call(served_anywhere, served_anywhere.key, body=SLOW))
    async with asyncio.timeout(10):
        while not (rows := await served_anywhere.parley.db.query("SELECT id FROM generation")):
            await asyncio.sleep(0.01)
    await end(served_anywhere, "revoked")
    assert await asyncio.wait_for(waiting, 10) == (401, "invalid_api_key")
    assert await served_anywhere.settled(rows[0]["id"]) == "stopped"


async def test_who_follows_an_answer_does_so_while_their_key_lasts(served_anywhere: Served) -> None:
    other = await served_anywhere.parley.accounts.make_key(served_anywhere.who.user_id, "other")
    headers = {"Authorization": f"Bearer {other}", "X-Parley-Detach": "true"}
    async with served_anywhere.http.post(
        served_anywhere.url + PATH, json={**SLOW, "stream": True}, headers=headers
    ) as writing:
        id = writing.headers["x-parley-generation"]
        events = f"{served_anywhere.url}/v1/generations/{id}/events"
        async with served_anywhere.http.get(events, headers=served_anywhere.bearer) as response:
            await response.content.readuntil(b"\n\n")
            await end(served_anywhere, "revoked")
            said = (await asyncio.wait_for(response.text(), 10)).strip().split("\n\n")
        assert said[-1].startswith("event: error\n") and "invalid_api_key" in said[-1]
        await asyncio.wait_for(writing.content.readuntil(b"\n\n"), 10)
        assert await served_anywhere.parley.generations.status(id) in ACTIVE
    await served_anywhere.parley.turns.stop(served_anywhere.who, id)


async def test_keys_that_nothing_runs_with_are_not_asked_for() -> None:
    asked: list[tuple[str, ...]] = []
    ended: list[str] = []

    async def in_force(ids: Any) -> set[str]:
        asked.append(tuple(ids))
        return {"lives"}

    watch = KeyWatch(in_force)
    await watch._look()
    assert asked == []
    with (
        watch.watching("lives", lambda: ended.append("lives")),
        watch.watching("ends", lambda: ended.append("ends")),
        watch.watching("ends", lambda: ended.append("ends too")),
    ):
        await watch._look()
        await watch._look()
    await watch._look()
    assert asked == [("lives", "ends"), ("lives",)]
    assert sorted(ended) == ["ends", "ends too"]


async def test_the_watch_survives_a_failing_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_watch, "LOOK_S", 0.0)
    troubles: list[Exception] = [RuntimeError("a bug"), DatabaseUnavailable("away")]

    async def in_force(_: Any) -> set[str]:
        if troubles:
            raise troubles.pop()
        return set()

    watch, ended = KeyWatch(in_force), asyncio.Event()
    await watch.start()
    with watch.watching("ends", ended.set):
        await asyncio.wait_for(ended.wait(), 10)
    await watch.close()
    assert troubles == []


async def test_every_key_is_looked_at_however_many_there_are() -> None:
    asked: list[str] = []
    ended: list[str] = []

    async def in_force(ids: Any) -> set[str]:
        asked.extend(ids)
        return set(ids) - {"last"}

    watch = KeyWatch(in_force)
    with ExitStack() as stack:
        for id in (*map(str, range(key_watch.AT_ONCE)), "last"):
            stack.enter_context(watch.watching(id, partial(ended.append, id)))
        await watch._look()
    assert len(asked) == key_watch.AT_ONCE + 1
    assert ended == ["last"]


async def test_a_key_that_is_watched_again_after_its_end_stays_watched() -> None:
    async def in_force(_: Any) -> set[str]:
        return set()

    watch = KeyWatch(in_force)
    ended: list[str] = []
    first = watch.watching("key", lambda: ended.append("first"))
    with ExitStack() as stack:
        stack.enter_context(first)
        await watch._look()
        second = watch.watching("key", lambda: ended.append("second"))
        with second:
            stack.close()  # Only now does the first notice its end.
            await watch._look()
    assert ended == ["first", "second"]


def test_two_looks_fit_into_the_second_that_is_promised() -> None:
    assert 2 * key_watch.LOOK_S <= 1.0


@pytest.mark.parametrize("end_keys", [False, True])
async def test_a_change_of_password_ends_the_keys_if_that_is_wanted(served_anywhere: Served, end_keys: bool) -> None:
    eve = await person(served_anywhere.parley, "eve@example.org")
    hers = await served_anywhere.parley.accounts.make_key(eve.user_id, "")
    await served_anywhere.parley.accounts.change_password(
        served_anywhere.who.user_id, PASSWORD, "another long password", end_keys=end_keys
    )
    assert (await call(served_anywhere, served_anywhere.key))[0] == (401 if end_keys else 200)
    assert (await call(served_anywhere, hers))[0] == 200


async def test_the_usual_key_does_everything_but_administer(served: Served) -> None:
    grant = await served.parley.accounts.grant(served.key)
    assert grant is not None and grant.rights == Rights(USUAL)
    assert set(SCOPES) - set(USUAL) == {"admin"}
