"""An answer that thinks, uses a tool and goes on: seen as it comes, after a reload, on a phone, by keyboard."""

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from playwright.sync_api import Page, expect

from chat_app.data.log.entries import Entry, encode
from tests.app import RunningApp
from tests.e2e.conftest import ANSWER, COMPOSER, Tabs, answered, ask, finished, shot
from tests.e2e.test_look import PHONE, background, no_overflow
from tests.parley import script

pytestmark = pytest.mark.e2e
REASONING, TOOL = "[data-step=reasoning]", "[data-step=tool]"
THOUGHT = "The person wants a product. " * 4 + "\n\nA tool is more certain than I am."
FIRST, SECOND = "I shall work it out with the calculator.", "So 17 times 23 is **391**.\n\nThat is all there is to it."
WHOLE = [
    "reasoning: Thought",
    FIRST,
    "tool: Used calculator: 17 * 23 = 391",
    "So 17 times 23 is 391.",
    "That is all there is to it.",
]


def turn(rate: float = 0.0, expression: str = "17 * 23", second: str = SECOND, **more: object) -> str:
    """A question whose answer takes a model's, a tool's and a model's step."""
    call = {"name": "calculator", "arguments": {"expression": expression}}
    directive = {"reasoning": THOUGHT, "text": FIRST, "calls": [call], "then": {"text": second}, "rate": rate}
    return script(**{**directive, **more})


def sequence(page: Page, answer: str = ANSWER) -> list[str]:
    """The last answer's parts in the order in which they stand: folded lines with their kind, and blocks of text.

    How long was thought is left out.
    """
    parts = page.locator(answer).last.evaluate(
        """answer => [...answer.children].map(part => part.dataset.step
        ? `${part.dataset.step}: ${part.querySelector('summary').innerText}` : part.innerText)"""
    )
    return [re.sub(r"Thought for (\d+ s|a moment)", "Thought", part.strip()) for part in parts]


def test_every_part_is_seen_as_it_comes_and_after_a_reload(page: Page) -> None:
    ask(page, turn(rate=15))
    thinking = page.locator(REASONING)
    expect(thinking).to_have_attribute("data-state", "running")
    expect(thinking.locator("summary")).to_have_text("Thinking…")
    assert page.locator(f"{ANSWER} .block").count() == 0  # What is thought is not the answer.
    shot(page, "thinking")
    expect(page.locator(f"{ANSWER} .block").first).to_contain_text("I shall")
    expect(thinking).to_have_attribute("data-state", "done")
    expect(page.locator(f"{TOOL} summary")).to_have_text("Used calculator: 17 * 23 = 391")
    finished(page)
    assert sequence(page) == WHOLE
    shot(page, "steps")
    page.reload()
    finished(page)
    assert sequence(page) == WHOLE


def test_a_reload_in_the_middle_of_each_part_loses_nothing(page: Page) -> None:
    ask(page, turn(rate=15))
    page.wait_for_url("**/c/*")
    for reached in (f"{REASONING}[data-state=running]", f"{ANSWER} .block", f"{TOOL}[data-state=done] ~ .block"):
        expect(page.locator(reached).first).to_be_visible()
        page.reload()
    finished(page)
    assert sequence(page) == WHOLE


def test_reasoning_is_folded_and_opens_by_click_and_by_key(page: Page) -> None:
    ask(page, turn(rate=15))
    summary, text = page.locator(f"{REASONING} summary"), page.locator(f"{REASONING} .thoughts")
    expect(summary).to_be_visible()
    expect(text).not_to_be_visible()
    summary.click()
    expect(text).to_be_visible()
    finished(page)
    expect(text).to_be_visible()  # What was opened stays open while the answer goes on.
    assert text.evaluate("text => text.innerText") == THOUGHT  # As it was thought: no Markdown.
    shot(page, "steps-open")
    summary.click()
    expect(text).not_to_be_visible()
    page.locator(COMPOSER).focus()
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.matches('[data-step=tool] > summary')"):
            break
    else:
        pytest.fail("the tool's line cannot be reached by key")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    expect(page.locator(f"{TOOL} dl")).to_contain_text('"expression": "17 * 23"')
    expect(page.locator(f"{TOOL} dd").last).to_have_text("391")


def test_a_thought_is_no_markup(page: Page) -> None:
    thought = "# <b>bold</b> **strong** `code`\n- [a](javascript:alert(1))"
    answered(page, script(reasoning=thought, text="Done."))
    page.locator(f"{REASONING} summary").click()
    body = page.locator(f"{REASONING} .thoughts")
    assert body.evaluate("text => text.innerText") == thought
    assert body.locator("b, strong, code, a, li").count() == 0


def test_a_tool_that_fails_says_so(page: Page) -> None:
    answered(page, turn(expression="1 / 0", second="That cannot be done."))
    expect(page.locator(TOOL)).to_have_attribute("data-state", "failed")
    expect(page.locator(f"{TOOL} summary")).to_have_text("Could not use calculator: 1 / 0")
    page.locator(f"{TOOL} summary").click()
    expect(page.locator(f"{TOOL} dd").last).to_contain_text("division by zero")


def test_a_second_step_that_fails_says_why_beside_the_tool(page: Page) -> None:
    ask(page, turn(then={"refuse": "bad"}))
    for reloaded in (False, True):
        if reloaded:
            page.reload()
        finished(page, "failed")
        assert sequence(page) == WHOLE[:3]
        expect(page.get_by_role("alert")).to_contain_text("The model cannot take this request")
        expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_tool_that_does_not_exist_is_named_as_such(page: Page) -> None:
    invented = "<b>nope</b>" + "\u202e" + "x" * 5_000
    ask(page, turn(calls=[{"name": invented, "arguments": {}}], then=None))
    line = page.locator(f"{TOOL} summary")
    for reloaded in (False, True):
        if reloaded:
            page.reload()
        expect(page.locator(".live:not([aria-busy=true])")).to_be_visible()
        expect(line).to_have_text("Asked for a tool that does not exist")
        expect(page.locator(TOOL)).not_to_contain_text("nope")


@pytest.mark.parametrize("reasoning", ["", "I need not say anything."])
def test_an_answer_without_a_word_says_so_and_can_be_asked_for_again(page: Page, reasoning: str) -> None:
    ask(page, script(reasoning=reasoning, text=""))
    for _ in range(2):
        finished(page, "empty")
        expect(page.locator(".outcome")).to_contain_text("The model gave no answer.")
        expect(page.locator(REASONING)).to_have_count(1 if reasoning else 0)
        expect(page.get_by_role("button", name="Answer again")).to_have_count(0)
        shot(page, f"no-answer{'-but-thought' if reasoning else ''}")
        page.reload()
    first = page.locator(".live").get_attribute("data-id")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".live")).not_to_have_attribute("data-id", first or "")
    finished(page, "empty")
    answered(page, script(tokens=5))
    expect(page.locator(".answer:not(.live) .outcome")).to_have_text("The model gave no answer.")


def test_a_thought_of_no_time_at_all_took_a_moment(page: Page) -> None:
    answered(page, script(reasoning="Hm.", text="Done."))
    expect(page.locator(f"{REASONING} summary")).to_have_text("Thought for a moment")


def test_the_next_question_leaves_the_answer_as_it_was(page: Page) -> None:
    answered(page, turn())
    answered(page, script(tokens=5))
    first = ".answer:not(.live) .prose"
    assert sequence(page, first) == WHOLE
    page.reload()
    finished(page)
    assert sequence(page, first) == WHOLE


def test_only_the_text_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    answered(page, turn())
    copied = f"{FIRST}\n\n{SECOND}"
    for _ in range(2):
        page.get_by_role("button", name="Copy the answer").click()
        assert page.evaluate("navigator.clipboard.readText()") == copied
        page.reload()
        finished(page)


def test_stopping_in_mid_thought_keeps_the_thought(page: Page) -> None:
    ask(page, turn(rate=10))
    expect(page.locator(REASONING)).to_be_visible()
    page.get_by_role("button", name="Stop the answer").click()
    finished(page, "stopped")
    expect(page.locator(REASONING)).to_have_attribute("data-state", "done")
    assert sequence(page) == ["reasoning: Thought"]
    expect(page.get_by_role("button", name="Copy the answer")).to_have_count(0)
    page.reload()
    finished(page, "stopped")
    assert sequence(page) == ["reasoning: Thought"]


def test_the_receipt_lists_the_steps(page: Page) -> None:
    answered(page, turn())
    page.get_by_role("button", name="Receipt").click()
    steps = page.locator(".receipt:popover-open dl").nth(1)
    expect(steps.locator("dt")).to_have_text([re.compile(r"^1\. \S+$"), "2. calculator", re.compile(r"^3\. \S+$")])
    expect(steps.locator("dd").first).to_contain_text("tokens")
    shot(page, "steps-receipt")


def test_on_a_phone_and_in_the_dark(tabs: Tabs, person: Callable[[str], str]) -> None:
    page = tabs.open(person("grace"), viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    expect(page.locator(COMPOSER)).to_be_visible()
    page.locator(COMPOSER).fill(turn(reasoning=THOUGHT + " " + "w" * 500, expression="1 + " * 60 + "1"))
    page.get_by_role("button", name="Send the message").click()
    finished(page)
    assert background(page) < 60
    no_overflow(page)
    shot(page, "steps-phone")
    for line in page.locator(".step summary").all():
        box = line.bounding_box()
        assert box and box["height"] >= 32
        line.click()
    no_overflow(page)
    shot(page, "steps-phone-open")


def unwieldy() -> str:
    """The log of an answer that is hard to lay out: long, deep, without a space, and turned round."""
    deep: object = "\u202eend of it"
    for level in range(60):
        deep = {f"level {level}": deep}
    long = {"text": "w" * 20_000, "words": "many words " * 200, "\u2067שלום": deep}
    log = [Entry("reasoning", "\u202e" + "w" * 5_000 + "\n" + " " * 300 + "שלום")]
    for at, (arguments, result) in enumerate([(json.dumps(long), "9" * 20_000), ("w" * 20_000, json.dumps(long))]):
        log.append(Entry("tool_call", data={"id": str(at), "name": "calculator", "arguments": arguments}))
        log.append(Entry("tool_result", data={"id": str(at), "content": result}))
    return encode([*log, Entry("text", "Done.")])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_whatever_a_tool_is_asked_and_says_fits_a_phone(
    tabs: Tabs, person: Callable[[str], str], app: RunningApp, scheme: str
) -> None:
    page = tabs.open(person("grace"), viewport={"width": 390, "height": 844}, color_scheme=scheme)
    answered(page, script(tokens=3))
    with closing(sqlite3.connect(app.home / "parley.db", timeout=10)) as db, db:
        answer = page.locator(".live").get_attribute("data-id")
        assert db.execute("UPDATE message SET log = ? WHERE id = ?", (unwieldy(), answer)).rowcount == 1
    page.reload()
    finished(page)
    steps = page.locator(".step").all()
    assert len(steps) == 3
    no_overflow(page)
    shot(page, f"long-{scheme}")
    for at, step in enumerate(steps):
        body = step.locator("> :not(summary)")
        expect(body).not_to_be_visible()
        step.locator("summary").press("Enter")
        expect(body).to_be_visible()
        too_wide = step.evaluate(
            """step => [step, ...step.querySelectorAll('*')]
            .filter(each => !each.closest('svg') && getComputedStyle(each).display !== 'inline')
            .filter(each => each.getBoundingClientRect().right > innerWidth || each.scrollWidth > each.clientWidth)
            .map(each => each.tagName)"""
        )
        assert too_wide == []
        no_overflow(page)
        shot(page, f"long-{scheme}-{at}")
        for text in body.locator("pre").all():
            page.keyboard.press("Tab")
            expect(text).to_be_focused()
            page.keyboard.press("End")
            page.wait_for_function("text => text.scrollTop > 0", arg=text.element_handle())


def test_two_tabs_ask_at_once_and_neither_loses_its_question(page: Page, tabs: Tabs) -> None:
    answered(page, script(tokens=5))
    other = tabs.beside(page)
    finished(other)
    answered(page, here := script(tokens=6, seed=1))
    answered(other, there := script(tokens=6, seed=2))
    expect(other.locator(".banner")).to_contain_text("Another question was asked in this chat meanwhile")
    expect(page.locator(".banner")).to_have_count(0)
    assert page.locator("[data-question]").last.inner_text() == here
    assert other.locator("[data-question]").all_inner_texts()[1:] == [there]


def test_a_chat_that_is_deleted_in_another_tab_says_so(page: Page, tabs: Tabs) -> None:
    ask(page, script(tokens=2_000, rate=50))
    expect(page.locator(f"{ANSWER} .block").first).to_be_visible()
    page.wait_for_url("**/c/*")
    other = tabs.beside(page)
    line = other.locator(".thread")
    line.hover()
    line.get_by_role("button", name="Options of").click()
    other.get_by_role("button", name="Delete").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.get_by_role("heading", name="What’s on your mind")).to_be_visible()
    expect(page.get_by_role("heading", name="There is no such chat")).to_be_visible()
    expect(page.locator(".threads a")).to_have_count(0)


def test_a_question_to_a_chat_that_is_gone_is_kept_for_a_new_one(page: Page, tabs: Tabs) -> None:
    answered(page, script(tokens=5))
    other = tabs.beside(page)
    finished(other)
    line = other.locator(".thread")
    line.hover()
    line.get_by_role("button", name="Options of").click()
    other.get_by_role("button", name="Delete").click()
    other.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(other.locator(".threads a")).to_have_count(0)
    ask(page, "What did I say?")
    page.get_by_role("link", name="Start a new chat").click()
    expect(page.locator(COMPOSER)).to_have_value("What did I say?")
