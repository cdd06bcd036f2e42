"""Staff only: what the real gateway says decides, each time, and nothing is shown to anybody else."""

import asyncio
from pathlib import Path

import httpx
import pytest
from streamlit.testing.v1 import AppTest

from chat_app.data.ids import now_ms
from chat_app.settings import settings
from ops_dashboard.gate import Gate, GateError
from tests.ops_dashboard.conftest import Exported, OpenDashboard
from tests.ops_dashboard.office import Office
from tests.parley import PASSWORD
from tests.telemetry.turns import plausible

TURNS = plausible(days=2, a_day=30, end_ms=now_ms())


async def run(at: AppTest) -> AppTest:
    """Run the page beside the gateway, which lives in this thread."""
    await asyncio.to_thread(at.run)
    assert not at.exception
    return at


async def sign_in(at: AppTest, email: str, password: str = PASSWORD) -> AppTest:
    await run(at)
    at.text_input[0].input(email)
    at.text_input[1].input(password)
    at.button[0].click()
    return await run(at)


def shows_figures(at: AppTest) -> bool:
    return bool(at.metric or at.dataframe or at.get("vega_lite_chart") or at.sidebar.children)


@pytest.fixture
def exports(exported: Exported) -> Path:
    return exported(TURNS)


async def test_a_stranger_sees_a_form_and_nothing_else(dashboard: OpenDashboard, exports: Path) -> None:
    at = await run(dashboard())
    assert [box.label for box in at.text_input] == ["E-mail", "Password"]
    assert not shows_figures(at)


@pytest.mark.parametrize("email", ["root@example.org", "staff@example.org"])
async def test_administrators_and_staff_are_let_in(dashboard: OpenDashboard, exports: Path, email: str) -> None:
    at = await sign_in(dashboard(), email)
    assert at.title[0].value == "Traffic and latency"
    assert at.metric and not at.text_input


async def test_a_user_is_refused_in_plain_words(dashboard: OpenDashboard, exports: Path) -> None:
    at = await sign_in(dashboard(), "ada@example.org")
    assert "no access" in at.warning[0].value
    assert not shows_figures(at)
    at.button[0].click()
    assert [box.label for box in (await run(at)).text_input] == ["E-mail", "Password"]


@pytest.mark.parametrize(("email", "password"), [("root@example.org", "wrong password"), ("", ""), ("nobody", "x" * 9)])
async def test_a_wrong_password(dashboard: OpenDashboard, exports: Path, email: str, password: str) -> None:
    at = await sign_in(dashboard(), email, password)
    assert at.error[0].value and not shows_figures(at)


async def test_the_door_closes_when_the_role_is_taken_away(
    dashboard: OpenDashboard, exports: Path, office: Office
) -> None:
    user = office.hire("temporary@example.org", "staff")
    at = await sign_in(dashboard(), "temporary@example.org")
    assert at.metric
    office.set_role(user, "user")
    await run(at)
    assert not shows_figures(at) and "no access" in at.warning[0].value


async def test_signing_out_ends_the_session_in_the_app_too(
    dashboard: OpenDashboard, exports: Path, office: Office
) -> None:
    at = await sign_in(dashboard(), "root@example.org")
    token = at.session_state["door_token"]
    assert office.knows(token)
    next(button for button in at.button if button.label == "Sign out").click()
    await run(at)
    assert at.text_input and not shows_figures(at)
    assert not office.knows(token)


@pytest.mark.parametrize("page", ["traffic", "spend"])
async def test_a_page_alone_shows_nothing(dashboard: OpenDashboard, exports: Path, page: str) -> None:
    file = Path(__file__).parents[2] / "ops_dashboard" / "views" / f"{page}.py"
    at = await run(AppTest.from_file(str(file)))
    assert not shows_figures(at) and at.info


async def test_no_app_no_entry(dashboard: OpenDashboard, exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_PUBLIC_URL", "http://127.0.0.1:9")
    settings.cache_clear()
    at = dashboard()
    at.session_state["door_token"] = "x"
    await run(at)
    assert "does not answer at http://127.0.0.1:9" in at.error[0].value
    assert not shows_figures(at)


def answering(status: int = 200, **options: object) -> Gate:
    return Gate("http://app", httpx.MockTransport(lambda _: httpx.Response(status, **options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        (answering(text="<html>"), "is not Parley"),
        (answering(json=[1]), "is not Parley"),
        (answering(json={"user": {"email": "a"}}), "is not Parley"),
        (answering(500), "in trouble"),
    ],
)
def test_odd_answers_let_nobody_in(gate: Gate, words: str) -> None:
    with pytest.raises(GateError, match=words):
        gate.who("token")


def test_answers_that_name_nobody() -> None:
    assert answering(json={"user": None}).who("token") is None
    assert answering(404, json={}).who("token") is None


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("/login?error=bad_credentials", "is wrong"),
        ("/login?error=too_many_attempts&wait=40", "Try again in 40 s"),
        ("/login?error=account_disabled", "disabled"),
        ("/login?error=something_new", "did not accept"),
        ("/login?step=code", "has a second factor. Sign in to Parley in this browser"),
        ("/", "did not accept"),
    ],
)
def test_why_somebody_was_not_signed_in(location: str, words: str) -> None:
    with pytest.raises(GateError, match=words):
        answering(303, headers={"location": location}).sign_in("a@b.c", "password")
