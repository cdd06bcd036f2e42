"""Browser sessions: how long they last, which there are, and how long a password that was shown counts."""

import asyncio

import pytest
from argon2 import PasswordHasher

from chat_app.accounts import browsers
from chat_app.accounts.attempts import PER_EMAIL
from chat_app.accounts.browsers import NOTED_MS, PROOF_MS
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.passwords import HASHER
from chat_app.accounts.people import Accounts
from chat_app.accounts.tokens import digest
from chat_app.accounts.user_agents import UNKNOWN, described
from chat_app.data.db.base import Database, Statement
from chat_app.data.ids import now_ms
from chat_app.settings import Settings

PASSWORD = "correct horse battery"
ADA, EVE = "ada@example.org", "eve@example.org"
HOUR_MS = 3_600_000


@pytest.fixture
async def ada(accounts: Accounts) -> Identity:
    return await accounts.create(ADA, PASSWORD)


async def moved(db: Database, token: str, column: str, by_ms: int) -> None:
    """Put one of a session's moments back or forward, from now."""
    update = f"UPDATE browser_session SET {column} = $2 WHERE id = $1"
    await db.batch(Statement(update, (digest(token), now_ms() + by_ms), must="no session"))


async def seen_at(db: Database, token: str) -> int:
    [row] = await db.query("SELECT seen_at FROM browser_session WHERE id = $1", digest(token))
    return int(row["seen_at"])


async def test_a_session_that_nobody_used_for_long_has_ended(
    accounts: Accounts, db: Database, settings: Settings, ada: Identity
) -> None:
    idle, used = [await accounts.sign_in(ADA, PASSWORD) for _ in range(2)]
    limit_ms = settings.session_idle_hours * HOUR_MS
    await moved(db, idle, "seen_at", -limit_ms)
    await moved(db, used, "seen_at", 60_000 - limit_ms)
    assert await accounts.by_cookie(idle, used=True) is None
    assert await accounts.by_cookie(used) == ada
    assert await accounts.ended({digest(idle), digest(used)}) == {digest(idle)}
    assert [line.id for line in await accounts.browsers(ada.user_id)] == [digest(used)]
    assert not await accounts.is_proven(idle)
    assert await accounts.forget_expired() == 1
    assert [row["id"] for row in await db.query("SELECT id FROM browser_session")] == [digest(used)]


async def test_a_session_ends_however_much_it_is_used(accounts: Accounts, db: Database, ada: Identity) -> None:
    token = await accounts.sign_in(ADA, PASSWORD)
    await accounts.by_cookie(token, used=True)
    await moved(db, token, "expires_at", 0)
    assert await accounts.by_cookie(token, used=True) is None


async def test_only_what_a_person_does_is_use_and_not_every_time_is_noted(
    accounts: Accounts, db: Database, ada: Identity
) -> None:
    token = await accounts.sign_in(ADA, PASSWORD)
    for back_ms, used, is_noted in ((HOUR_MS, False, False), (NOTED_MS - 20_000, True, False), (HOUR_MS, True, True)):
        await moved(db, token, "seen_at", -back_ms)
        before = await seen_at(db, token)
        assert await accounts.by_cookie(token, used=used) == ada
        await asyncio.gather(*accounts._uses)
        assert (await seen_at(db, token) > before) is is_noted


async def test_a_person_sees_their_own_sessions_the_last_used_first_and_ends_them(
    accounts: Accounts, db: Database, ada: Identity
) -> None:
    await accounts.create(EVE, PASSWORD)
    eve = await accounts.sign_in(EVE, PASSWORD, browser="Edge on Windows")
    tokens = [await accounts.sign_in(ADA, PASSWORD, browser=f"Browser {number}") for number in range(3)]
    for back, token in enumerate(tokens):
        await moved(db, token, "seen_at", -back * HOUR_MS)
    lines = await accounts.browsers(ada.user_id)
    assert [line.browser for line in lines] == ["Browser 0", "Browser 1", "Browser 2"]
    assert lines[0].seen_at - lines[1].seen_at >= HOUR_MS - NOTED_MS
    await accounts.end_browser(ada.user_id, lines[1].id)
    await accounts.end_browser(ada.user_id, digest(eve))  # Not theirs.
    assert [await accounts.by_cookie(token) is not None for token in tokens] == [True, False, True]
    assert await accounts.end_other_browsers(ada.user_id, tokens[2]) == 1
    assert [await accounts.by_cookie(token) is not None for token in tokens] == [False, False, True]
    assert await accounts.by_cookie(eve) is not None


async def test_a_list_of_sessions_is_bounded(
    accounts: Accounts, ada: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browsers, "MOST_LISTED", 2)
    for _ in range(3):
        await accounts.sign_in(ADA, PASSWORD)
    assert len(await accounts.browsers(ada.user_id)) == 2


async def test_a_password_that_was_shown_counts_for_a_while_in_its_session_alone(
    accounts: Accounts, db: Database, ada: Identity
) -> None:
    here, there = [await accounts.sign_in(ADA, PASSWORD) for _ in range(2)]
    assert await accounts.is_proven(here)  # It was shown to sign in.
    for token in (here, there):
        await moved(db, token, "proved_at", 30_000 - PROOF_MS)
        assert await accounts.is_proven(token)
        await moved(db, token, "proved_at", -PROOF_MS)
        assert not await accounts.is_proven(token)
    with pytest.raises(AccountError) as error:
        await accounts.prove(here, "not the password")
    assert error.value.code == "bad_credentials"
    assert not await accounts.is_proven(here)
    await accounts.prove(here, PASSWORD)
    assert (await accounts.is_proven(here), await accounts.is_proven(there)) == (True, False)


@pytest.mark.parametrize("how", ["signed out", "disabled", "made up"])
async def test_a_session_that_is_not_in_force_proves_nothing(how: str, accounts: Accounts, ada: Identity) -> None:
    await accounts.create(EVE, PASSWORD, role="admin")
    token = await accounts.sign_in(ADA, PASSWORD)
    if how == "disabled":
        await accounts.disable(ada.user_id)
    else:
        await accounts.sign_out(token)
    token = "x" * 43 if how == "made up" else token
    with pytest.raises(AccountError):
        await accounts.prove(token, PASSWORD)
    assert not await accounts.is_proven(token)


async def test_guessing_in_a_session_is_bounded_together_with_the_change_of_the_password(
    accounts: Accounts, ada: Identity
) -> None:
    token, hits = await accounts.sign_in(ADA, PASSWORD), {f"password:of:{ada.user_id}": PER_EMAIL - 2}

    async def hit(key: str, per_minute: int, burst: int | None = None) -> int:
        hits[key] = hits.get(key, 0) + 1
        return 0 if hits[key] <= (burst or per_minute) else 2_500

    async def code(work: object) -> str:
        with pytest.raises(AccountError) as error:
            await work  # type: ignore[misc]
        return error.value.code

    assert await code(accounts.prove(token, "a guess", hit=hit)) == "bad_credentials"
    change = accounts.change_password(ada.user_id, "a guess", "another good password", hit=hit)
    assert await code(change) == "bad_credentials"
    assert await code(accounts.prove(token, PASSWORD, hit=hit)) == "too_many_attempts"


async def test_a_new_password_is_shown_by_setting_it(accounts: Accounts, db: Database, ada: Identity) -> None:
    token = await accounts.sign_in(ADA, PASSWORD)
    await moved(db, token, "proved_at", -PROOF_MS)
    await accounts.change_password(ada.user_id, PASSWORD, "another good password", keep=token)
    assert await accounts.is_proven(token)


async def test_who_has_a_short_password_from_before_still_comes_in_and_is_known_by_it(
    accounts: Accounts, db: Database, ada: Identity
) -> None:
    await db.batch(Statement("UPDATE users SET password_hash = $1", (HASHER.hash(b"8 chars!"),)))
    token = await accounts.sign_in(ADA, "8 chars!")
    assert await accounts.has_short_password(token)
    await accounts.prove(token, "8 chars!")
    assert await accounts.has_short_password(token)
    await accounts.change_password(ada.user_id, "8 chars!", PASSWORD, keep=token)
    assert not await accounts.has_short_password(token)
    assert not await accounts.has_short_password(await accounts.sign_in(ADA, PASSWORD))


async def test_a_short_password_with_an_old_hash_still_signs_in(
    accounts: Accounts, db: Database, ada: Identity
) -> None:
    old = PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash("8 chars!")
    await db.batch(Statement("UPDATE users SET password_hash = $1", (old,)))
    assert await accounts.by_cookie(await accounts.sign_in(ADA, "8 chars!")) == ada


CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (CHROME, "Chrome on Linux"),
        (CHROME.replace("X11; Linux x86_64", "Windows NT 10.0; Win64; x64") + " Edg/141.0.0.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on macOS"),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
            " Version/18.0 Mobile/15E148 Safari/604.1",
            "Safari on iPhone",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0"
            " Chrome/130.0.0.0 Mobile Safari/537.36",
            "Samsung Internet on Android",
        ),
        ("curl/8.5.0", UNKNOWN),
        ("", UNKNOWN),
        ("<script>alert(1)</script>\u202e Firefox/1", "Firefox"),
        ("Linux " + "x" * 100_000, "A browser on Linux"),
        ("x" * 100_000 + CHROME, UNKNOWN),
    ],
)
def test_a_browser_is_described_in_our_own_words(user_agent: str, words: str) -> None:
    assert described(user_agent) == words
