"""Signing in through a real provider: there, back, whose account it is, and everything that must not get in."""

import asyncio
import html
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from chat_app.accounts import attempts
from chat_app.accounts.identity import AccountError, Identity
from chat_app.accounts.oidc import flows, provider
from chat_app.data.db.base import Statement
from chat_app.data.ids import now_ms
from chat_app.wiring import Parley
from tests.gateway.served import serving
from tests.oidc.provider import ADA, Browser, OidcProvider
from tests.parley import PASSWORD, StartParley, fleet_settings, person


@pytest.fixture(params=["embedded", "fleet"])
async def parley(request: pytest.FixtureRequest, start_parley: StartParley, oidc_server: OidcProvider) -> Parley:
    """One with an administrator, and groups that mean something."""
    stores = fleet_settings(request) if request.param == "fleet" else {}
    groups = {"oidc_roles": "bosses=admin,help=staff", "oidc_plans": "lab=enterprise,sales=pro"}
    made = await start_parley(**oidc_server.settings(**groups), **stores)
    await person(made, "root@example.org")
    return made


@pytest.fixture
async def base(parley: Parley, oidc_server: OidcProvider) -> AsyncIterator[str]:
    """The address of that Parley, which the provider knows; Ada signs in there."""
    async with serving(parley) as url:
        await oidc_server.set(base=url, person=ADA, substitute=None)
        yield url


@pytest.fixture
async def browser(base: str) -> AsyncIterator[Browser]:
    async with Browser(base) as browser:
        yield browser


async def enter(browser: Browser, way: str = "/auth/oidc?next=/c/1") -> str:
    return await browser.get(way)


def error_of(page: str) -> str:
    return parse_qs(urlsplit(page).query).get("error", [""])[0]


async def by_email(parley: Parley, email: str) -> Identity:
    found = await parley.accounts.by_email(email)
    assert found is not None
    return found


async def test_the_first_time_makes_an_account_the_second_finds_it(browser: Browser, base: str) -> None:
    assert await enter(browser) == "/c/1"
    user = await browser.user()
    assert user is not None
    assert (user["email"], user["name"], user["role"], user["plan"]) == (ADA["email"], "Ada There", "user", "free")
    async with Browser(base) as other:
        await enter(other)
        assert await other.user() == user


async def test_the_cookie_is_as_any_session_s(browser: Browser) -> None:
    way = await browser.get("/auth/oidc", until="/auth/oidc/callback")
    async with browser.http.get(browser.base + way, allow_redirects=False) as response:
        [session] = [c for c in response.headers.getall("Set-Cookie") if c.startswith("parley_session=")]
        assert "HttpOnly" in session and "SameSite=Lax" in session
        assert response.headers["Cache-Control"] == "no-store"


async def test_coming_back_ends_the_session_that_the_browser_had(parley: Parley, browser: Browser, base: str) -> None:
    await person(parley, "eve@example.org")
    await browser.http.post(f"{base}/auth/login", data={"email": "eve@example.org", "password": PASSWORD})
    before = browser.token
    await enter(browser)
    assert browser.token != before and await parley.accounts.by_cookie(before) is None


@pytest.mark.parametrize("state", ["%00", "x", "a" * 43, ""])
async def test_a_state_that_nobody_was_given_is_none(browser: Browser, state: str) -> None:
    await browser.get("/auth/oidc", until="/auth?")
    assert error_of(await browser.get(f"/auth/oidc/callback?code=x&state={state}")) == "oidc_expired"


async def test_a_logout_token_that_makes_no_sense_is_refused(browser: Browser) -> None:
    odd = "eyJhbGciOiJSUzI1NiIsImNyaXQiOjF9"  # {"alg":"RS256","crit":1}
    async with browser.http.post(
        f"{browser.base}/auth/oidc/ended", data={"logout_token": f"{odd}.e30.AAAA"}
    ) as response:
        assert response.status == 400


async def test_a_logout_of_the_person_leaves_their_sessions_by_password(
    parley: Parley, browser: Browser, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await person(parley, "eve@example.org")
    await browser.http.post(f"{base}/auth/login", data={"email": "eve@example.org", "password": PASSWORD})
    await browser.get("/auth/oidc?link=1&next=/account")

    async def everywhere(self: provider.Provider, token: str) -> provider.EndedThere:
        return provider.EndedThere(ADA["sub"], "")

    async with Browser(base) as other:
        await enter(other)
        monkeypatch.setattr(provider.Provider, "ended", everywhere)
        assert await parley.external.ended("any") == 1
        assert await other.user() is None and await browser.user() is not None


async def test_another_address_there_is_still_the_same_person(
    browser: Browser, base: str, oidc_server: OidcProvider
) -> None:
    await enter(browser)
    await oidc_server.set(person=ADA | {"email": "lovelace@corp.example"})
    async with Browser(base) as other:
        await enter(other)
        assert await other.user() == await browser.user()


async def test_another_person_with_the_same_address_is_not_them(
    browser: Browser, base: str, oidc_server: OidcProvider
) -> None:
    await enter(browser)
    await oidc_server.set(person=ADA | {"sub": "somebody-new"})
    async with Browser(base) as other:
        assert error_of(await enter(other)) == "oidc_email_taken"
        assert await other.user() is None


async def test_an_address_that_is_taken_here_is_connected_by_its_owner_only(
    parley: Parley, browser: Browser, base: str
) -> None:
    who = await person(parley, ADA["email"])
    assert error_of(await enter(browser)) == "oidc_email_taken"
    form = {"email": ADA["email"], "password": PASSWORD}
    async with browser.http.post(f"{base}/auth/login", data=form, allow_redirects=False) as response:
        assert response.status == 303
    assert await browser.get("/auth/oidc?link=1&next=/account") == "/account"
    async with Browser(base) as other:
        assert await enter(other) == "/c/1"
        user = await other.user()
        assert user is not None and user["id"] == who.user_id


async def test_one_account_there_enters_one_here(parley: Parley, browser: Browser, base: str) -> None:
    await enter(browser)
    await person(parley, "eve@example.org")
    async with Browser(base) as other:
        await other.http.post(f"{base}/auth/login", data={"email": "eve@example.org", "password": PASSWORD})
        assert await other.get("/auth/oidc?link=1&next=/account") == "/account?error=oidc_other_account"
        eve = await by_email(parley, "eve@example.org")
        assert not await parley.external.connected(eve.user_id)


async def test_nobody_is_connected_who_left_meanwhile(parley: Parley, browser: Browser, base: str) -> None:
    await person(parley, "eve@example.org")
    await browser.http.post(f"{base}/auth/login", data={"email": "eve@example.org", "password": PASSWORD})
    way = await browser.get("/auth/oidc?link=1&next=/account", until="/auth/oidc/callback")
    await browser.http.post(f"{base}/auth/logout", allow_redirects=False)
    assert error_of(await browser.get(way)) == "oidc_expired"
    assert not await parley.db.query("SELECT 1 FROM external_identity")


async def test_two_tabs_at_once_make_one_account(parley: Parley, base: str) -> None:
    async with Browser(base) as one, Browser(base) as two:
        pages = await asyncio.gather(enter(one), enter(two))
        assert pages == ["/c/1", "/c/1"]
        assert await one.user() == await two.user()


@pytest.mark.parametrize("verified", [False, None])
async def test_an_address_that_nobody_verified_makes_no_account(
    parley: Parley, browser: Browser, oidc_server: OidcProvider, verified: bool | None
) -> None:
    await oidc_server.set(person=ADA | {"email_verified": verified})
    assert error_of(await enter(browser)) == "oidc_no_email"
    assert await parley.accounts.by_email(ADA["email"]) is None


async def test_who_refuses_there_is_back_here(browser: Browser, oidc_server: OidcProvider) -> None:
    await oidc_server.set(person=None)
    assert error_of(await enter(browser)) == "oidc_refused"
    assert await browser.user() is None


async def test_groups_give_role_and_plan_and_take_them(
    parley: Parley, browser: Browser, base: str, oidc_server: OidcProvider
) -> None:
    await oidc_server.set(person=ADA | {"groups": ["sales", "help", "lab", "bosses"]})
    await enter(browser)
    who = await by_email(parley, ADA["email"])
    assert (who.role, who.plan_id) == ("admin", "enterprise")
    await oidc_server.set(person=ADA | {"groups": ["sales"]})
    async with Browser(base) as other:
        await enter(other)
    who = await by_email(parley, ADA["email"])
    assert (who.role, who.plan_id) == ("user", "pro")


async def test_the_last_administrator_stays_one_whatever_the_groups_say(
    parley: Parley, browser: Browser, base: str, oidc_server: OidcProvider
) -> None:
    await oidc_server.set(person=ADA | {"groups": ["bosses"]})
    await enter(browser)
    root = await by_email(parley, "root@example.org")
    await parley.accounts.disable(root.user_id)
    await oidc_server.set(person=ADA)
    async with Browser(base) as other:
        assert await enter(other) == "/c/1"
    assert (await by_email(parley, ADA["email"])).role == "admin"


async def test_who_is_disabled_here_stays_out(parley: Parley, browser: Browser, base: str) -> None:
    await enter(browser)
    await parley.accounts.disable((await by_email(parley, ADA["email"])).user_id)
    assert await browser.user() is None
    async with Browser(base) as other:
        assert error_of(await enter(other)) == "account_disabled"


async def test_no_password_enters_an_account_that_has_none(browser: Browser, base: str) -> None:
    await enter(browser)
    async with Browser(base) as other:
        for password in ("", PASSWORD):
            form = {"email": ADA["email"], "password": password}
            async with other.http.post(f"{base}/auth/login", data=form, allow_redirects=False) as response:
                assert error_of(response.headers["Location"]) == "bad_credentials"


class TestWhatMustNotGetIn:
    async def test_a_way_back_twice(self, browser: Browser) -> None:
        way = await browser.get("/auth/oidc", until="/auth/oidc/callback")
        assert await browser.get(way) == "/"
        assert error_of(await browser.get(way)) == "oidc_expired"

    async def test_a_way_back_in_another_browser(self, browser: Browser, base: str) -> None:
        way = await browser.get("/auth/oidc", until="/auth/oidc/callback")
        async with Browser(base) as victim:
            assert error_of(await victim.get(way)) == "oidc_expired"
            assert await victim.user() is None
            await victim.get("/auth/oidc", until="/auth/oidc/callback")
            assert error_of(await victim.get(way)) == "oidc_expired", "nor with a way of its own"

    async def test_a_way_back_too_late(self, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        way = await browser.get("/auth/oidc", until="/auth/oidc/callback")
        later = now_ms() + flows.LASTS_MS + 1
        monkeypatch.setattr(flows, "now_ms", lambda: later)
        assert error_of(await browser.get(way)) == "oidc_expired"

    async def test_a_code_with_another_verifier(self, parley: Parley, browser: Browser) -> None:
        way = await browser.get("/auth/oidc", until="/auth/oidc/callback")
        await parley.db.batch(Statement("UPDATE oidc_flow SET verifier = $1", ("x" * 43,)))
        assert error_of(await browser.get(way)) == "oidc_unavailable"
        assert await browser.user() is None

    async def test_a_token_of_an_earlier_sign_in(self, browser: Browser, base: str, oidc_server: OidcProvider) -> None:
        await enter(browser)
        await oidc_server.set(substitute=await oidc_server.id_token())
        async with Browser(base) as other:
            assert error_of(await enter(other)) == "oidc_unavailable", "its nonce was for another way"

    async def test_a_token_for_another_client(
        self, parley: Parley, browser: Browser, base: str, oidc_server: OidcProvider
    ) -> None:
        """Signed by the provider, for this very nonce, of a sign-in with another of its clients."""
        out = await browser.get("/auth/oidc", until="/auth?")
        async with Browser(base) as thief:
            there = await thief.get(out.replace("client_id=parley", "client_id=other"), until="/auth/oidc/callback")
            [flow] = await parley.db.query("SELECT verifier FROM oidc_flow")
            form = {
                "grant_type": "authorization_code",
                "code": parse_qs(urlsplit(there).query)["code"][0],
                "redirect_uri": f"{base}/auth/oidc/callback",
                "code_verifier": flow["verifier"],
                "client_id": "other",
            }
            secret = {"Authorization": aiohttp.encode_basic_auth("other", "secret-of-other")}
            async with thief.http.post(f"{oidc_server.issuer}/token", data=form, headers=secret) as response:
                await oidc_server.set(substitute=(await response.json())["id_token"])
        assert error_of(await browser.get(out)) == "oidc_unavailable"
        await oidc_server.set(substitute=None)
        assert error_of(await enter(browser)) == "", "all the rest was right"

    async def test_a_token_that_nobody_signed(self, browser: Browser, oidc_server: OidcProvider) -> None:
        await enter(browser)
        header, body, _ = (await oidc_server.id_token()).split(".")
        none = "eyJhbGciOiJub25lIn0"  # {"alg":"none"}
        for forged in (f"{none}.{body}.", f"{header}.{body}.AAAA", "nonsense", ""):
            await oidc_server.set(substitute=forged or "x")
            assert error_of(await enter(browser)) == "oidc_unavailable"

    @pytest.mark.parametrize("site", ["cross-site", "same-site"])
    async def test_a_link_on_another_site(self, browser: Browser, site: str) -> None:
        url = f"{browser.base}/auth/oidc?link=1"
        async with browser.http.get(url, headers={"Sec-Fetch-Site": site}, allow_redirects=False) as response:
            assert response.status == 403
            assert "Set-Cookie" not in response.headers

    @pytest.mark.parametrize("onward", ["//evil.example", "https://evil.example", "/\\evil.example"])
    async def test_a_way_to_another_site(self, browser: Browser, onward: str) -> None:
        async with browser.http.get(
            f"{browser.base}/auth/oidc", params={"next": onward}, allow_redirects=False
        ) as response:
            there = response.headers["Location"]
        assert await browser.get(there) == "/"


async def test_a_code_of_another_provider_is_not_tried(browser: Browser) -> None:
    way = await browser.get("/auth/oidc", until="/auth/oidc/callback")
    forged = way.replace("iss=http%3A%2F%2F127.0.0.1", "iss=http%3A%2F%2F127.0.0.2")
    assert forged != way
    assert error_of(await browser.get(forged)) == "oidc_unavailable"


async def test_new_keys_of_the_provider_are_believed_old_ones_no_more(
    browser: Browser, base: str, oidc_server: OidcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "AGAIN_S", 0.0)
    await enter(browser)
    old = await oidc_server.id_token()
    await oidc_server.set(rotate=True)
    async with Browser(base) as other:
        assert await enter(other) == "/c/1"
        await oidc_server.set(substitute=old)
    async with Browser(base) as third:
        assert error_of(await enter(third)) == "oidc_unavailable"


async def test_forged_tokens_do_not_have_the_provider_asked_each_time(
    parley: Parley, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    json = provider._json

    async def counted(client: Any, url: str) -> dict[str, Any]:
        asked.append(url)
        return await json(client, url)

    monkeypatch.setattr(provider, "_json", counted)
    for _ in range(5):
        async with browser.http.post(f"{browser.base}/auth/oidc/ended", data={"logout_token": "a.b.c"}) as response:
            assert response.status == 400
    assert len(asked) == 2, "its addresses and its keys, once"


class TestProof:
    """What a trip to the provider proves, for acts that want more than a session."""

    async def test_only_what_was_asked_anew_counts(self, parley: Parley, browser: Browser) -> None:
        await enter(browser)
        assert not await parley.accounts.is_proven(browser.token), "the provider may have asked for nothing"
        assert await enter(browser, "/auth/oidc?fresh=1&next=/account") == "/account"
        assert await parley.accounts.is_proven(browser.token)

    async def test_the_provider_is_asked_to_ask(self, browser: Browser) -> None:
        out = await browser.get("/auth/oidc?fresh=1", until="/auth?")
        asked = parse_qs(urlsplit(out).query)
        assert (asked["prompt"], asked["max_age"]) == (["login"], ["0"])

    async def test_one_that_did_not_ask_is_refused(self, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
        later = now_ms() + 1_000 * (provider.LEEWAY_S + 60)
        monkeypatch.setattr(flows, "now_ms", lambda: later)  # So it seems that they proved it before they left.
        assert error_of(await enter(browser, "/auth/oidc?fresh=1")) == "oidc_refused"

    async def test_a_session_alone_connects_nothing(self, parley: Parley, browser: Browser, base: str) -> None:
        await person(parley, "eve@example.org")
        await browser.http.post(f"{base}/auth/login", data={"email": "eve@example.org", "password": PASSWORD})
        await parley.db.batch(Statement("UPDATE browser_session SET proved_at = 0"))
        assert await browser.get("/auth/oidc?link=1&next=/account") == "/account?error=oidc_prove_first"
        assert not await parley.db.query("SELECT 1 FROM oidc_flow")


async def test_who_disconnects_is_entered_by_the_password_alone(parley: Parley, browser: Browser, base: str) -> None:
    who = await person(parley, "eve@example.org")
    await browser.http.post(f"{base}/auth/login", data={"email": "eve@example.org", "password": PASSWORD})
    await browser.get("/auth/oidc?link=1&next=/account")
    async with Browser(base) as other:
        await enter(other)
        await parley.external.disconnect(who.user_id)
        assert await other.user() is None, "what was opened through it has ended"
        assert await browser.user() is not None
        await enter(other)
        user = await other.user()
        assert user is not None and user["id"] != who.user_id


async def test_what_is_the_only_way_in_stays(parley: Parley, browser: Browser) -> None:
    await enter(browser)
    who = await by_email(parley, ADA["email"])
    with pytest.raises(AccountError) as error:
        await parley.external.disconnect(who.user_id)
    assert error.value.code == "oidc_only"
    assert await parley.external.connected(who.user_id)


async def recorded(parley: Parley, action: str) -> list[tuple[str, str]]:
    """Outcome and actor of the entries of the audit trail about this, in their order."""
    rows = await parley.db.query("SELECT outcome, actor FROM audit WHERE action = $1 ORDER BY at, id", action)
    return [(row["outcome"], row["actor"]) for row in rows]


async def test_the_trail_has_who_came_in_and_who_did_not(
    parley: Parley, browser: Browser, base: str, oidc_server: OidcProvider
) -> None:
    await enter(browser)
    who = await by_email(parley, ADA["email"])
    await parley.accounts.disable(who.user_id)
    await oidc_server.set(person=ADA | {"groups": ["bosses"]})
    async with Browser(base) as other:
        assert error_of(await enter(other)) == "account_disabled"
    assert await recorded(parley, "sign_in") == [("done", who.user_id), ("refused", "")]
    assert (await by_email(parley, ADA["email"])).role == "user", "who stays out is given nothing"
    assert await recorded(parley, "role_change") == []


async def test_a_provider_that_is_slow_is_asked_once_at_a_time(
    parley: Parley, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def fails(client: Any, url: str) -> dict[str, Any]:
        asked.append(url)
        raise ValueError("no")

    await enter(browser)
    monkeypatch.setattr(provider, "_json", fails)
    known = parley.external.provider._known
    assert known is not None
    known.at -= provider.AGAIN_S + 1
    for _ in range(5):
        async with browser.http.post(f"{browser.base}/auth/oidc/ended", data={"logout_token": "a.b.c"}) as response:
            assert response.status == 400
    assert len(asked) == 1
    assert await enter(browser) == "/c/1", "what is known of it still serves"


async def test_too_many_ways_from_one_address(base: str) -> None:
    async with aiohttp.ClientSession() as http:
        pages = [""]
        while not error_of(pages[-1]) and len(pages) < 3 * attempts.PER_ADDRESS:
            async with http.get(f"{base}/auth/oidc", allow_redirects=False) as response:
                pages.append(response.headers["Location"])
    assert len(pages) > attempts.PER_ADDRESS
    assert error_of(pages[-1]) == "too_many_attempts"


class TestSigningOut:
    async def test_here_ends_it_there(self, parley: Parley, browser: Browser, oidc_server: OidcProvider) -> None:
        await enter(browser)
        async with browser.http.post(f"{browser.base}/auth/logout", allow_redirects=False) as response:
            assert response.status == 200, "a redirect of a form to another site is stopped by the pages' policy"
            there = urlsplit(html.unescape((await response.text()).partition("url=")[2].partition('"')[0]))
        assert f"{there.scheme}://{there.netloc}{there.path}" == f"{oidc_server.issuer}/session/end"
        assert parse_qs(there.query)["post_logout_redirect_uri"] == [f"{browser.base}/login"]
        assert await browser.user() is None

    async def test_there_ends_it_here(
        self, parley: Parley, browser: Browser, base: str, oidc_server: OidcProvider
    ) -> None:
        await enter(browser)
        async with Browser(base) as elsewhere:
            await enter(elsewhere)
            await leave_there(browser, oidc_server)
            async with asyncio.timeout(10):
                while await browser.user() is not None:
                    await asyncio.sleep(0.02)
            assert await elsewhere.user() is not None, "another sign-in there"
        assert await recorded(parley, "sign_out") == [("done", "provider")]

    async def test_a_password_s_session_ends_here_only(self, parley: Parley, browser: Browser) -> None:
        await person(parley, "eve@example.org")
        form = {"email": "eve@example.org", "password": PASSWORD}
        await browser.http.post(f"{browser.base}/auth/login", data=form)
        async with browser.http.post(
            f"{browser.base}/auth/logout", data={"next": "/login"}, allow_redirects=False
        ) as response:
            assert response.headers["Location"] == "/login"

    async def test_an_id_token_is_no_logout_token(self, browser: Browser, oidc_server: OidcProvider) -> None:
        await enter(browser)
        form = {"logout_token": await oidc_server.id_token()}
        async with browser.http.post(f"{browser.base}/auth/oidc/ended", data=form) as response:
            assert response.status == 400
        assert await browser.user() is not None


async def leave_there(browser: Browser, oidc_server: OidcProvider) -> None:
    """Sign out at the provider, in the way that a browser does it without scripts."""
    async with browser.http.get(f"{oidc_server.issuer}/session/end") as response:
        page = await response.text()
    xsrf = page.partition('name="xsrf" value="')[2].partition('"')[0]
    form = {"xsrf": xsrf, "logout": "yes"}
    async with browser.http.post(f"{oidc_server.issuer}/session/end/confirm", data=form) as response:
        assert response.status < 400, await response.text()


async def test_the_first_account_of_all_is_nobody_s_by_coming_first(
    start_parley: StartParley, oidc_server: OidcProvider
) -> None:
    parley = await start_parley(**oidc_server.settings(oidc_roles="bosses=admin"))
    async with serving(parley) as url, Browser(url) as browser:
        await oidc_server.set(base=url, person=ADA, substitute=None)
        assert error_of(await enter(browser)) == "oidc_not_first"
        await oidc_server.set(person=ADA | {"groups": ["bosses"]})
        await enter(browser)
        user = await browser.user()
        assert user is not None and user["role"] == "admin"


async def test_without_a_provider_there_is_nothing(start_parley: StartParley) -> None:
    parley = await start_parley()
    async with serving(parley) as url, aiohttp.ClientSession() as http:
        for method, path in (("GET", ""), ("GET", "/callback"), ("POST", "/ended")):
            async with http.request(method, f"{url}/auth/oidc{path}") as response:
                assert response.status == 404


async def test_a_provider_that_is_away_is_said(start_parley: StartParley, oidc_server: OidcProvider) -> None:
    parley = await start_parley(**oidc_server.settings(oidc_issuer="http://127.0.0.1:9"))
    async with serving(parley) as url, Browser(url) as browser:
        assert error_of(await enter(browser)) == "oidc_unavailable"
