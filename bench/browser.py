"""Chromium as a stopwatch: what a person at the page waits for, measured inside the page.

Times begin at the key press and end at the animation frame after the text is in the document.
"""

import json
import os
from types import TracebackType
from typing import Self

from playwright.async_api import Browser as Chromium
from playwright.async_api import CDPSession, Page, Playwright, async_playwright

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ANSWER = "[data-answer]"
"""The text of the newest answer on the page."""
COMPOSER = "textarea"

# Counts time from Enter to the first text of a new answer, and to a text that ends with `ending`.
_STOPWATCH = """
({selector, count, ending}) => new Promise(done => {
  const times = {};
  let began = 0;
  const newest = () => {
    const all = document.querySelectorAll(selector);
    return all.length > count ? all[all.length - 1] : null;
  };
  const mark = name => requestAnimationFrame(() => { times[name] ??= performance.now() - began; });
  const look = () => {
    const text = newest()?.textContent?.trim() ?? "";
    if (!began || !text) return;
    if (times.first === undefined) mark("first");
    if (text.endsWith(ending)) {
      observer.disconnect();
      mark("whole");
      requestAnimationFrame(() => done(times));
    }
  };
  const observer = new MutationObserver(look);
  observer.observe(document.body, {subtree: true, childList: true, characterData: true});
  const start = event => { if (event.key === "Enter") began = performance.now(); };
  document.addEventListener("keydown", start, {capture: true, once: true});
})
"""


class Browser:
    """One Chromium. `cold()` returns a new one with an empty cache."""

    def __init__(self) -> None:
        self._playwright: Playwright | None = None
        self._chromium: Chromium | None = None

    async def __aenter__(self) -> Self:
        self._playwright = await async_playwright().start()
        self._chromium = await self.cold()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._chromium is not None
        assert self._playwright is not None
        await self._chromium.close()
        await self._playwright.stop()

    async def cold(self) -> Chromium:
        """A browser that has seen nothing yet; the caller closes it."""
        assert self._playwright is not None
        path = os.environ.get("PARLEY_CHROMIUM", "/usr/bin/chromium")
        return await self._playwright.chromium.launch(executable_path=path, args=FLAGS)

    async def page(self, url: str, cookie: str, chromium: Chromium | None = None) -> Page:
        """A page of a signed-in person (`cookie` as in the Cookie header), not opened anywhere yet."""
        chromium = chromium or self._chromium
        assert chromium is not None
        context = await chromium.new_context(viewport={"width": 1280, "height": 800})
        name, _, value = cookie.partition("=")
        await context.add_cookies([{"name": name, "value": value, "url": url}])
        return await context.new_page()

    async def first_token(self, page: Page, question: str) -> float:
        """Milliseconds from Enter to the first visible text of the answer."""
        return (await self.ask(page, question))["first"]

    async def ask(self, page: Page, question: str, ending: str = "") -> dict[str, float]:
        """Send a question; milliseconds from Enter to the first text (`first`) and to `ending` (`whole`)."""
        composer = page.locator(COMPOSER).first
        await composer.fill(question)
        count = await page.locator(ANSWER).count()
        wanted = json.dumps({"selector": ANSWER, "count": count, "ending": ending})
        await page.evaluate(f"window.stopwatch = ({_STOPWATCH})({wanted}); null")
        await composer.press("Enter")
        times: dict[str, float] = await page.evaluate("window.stopwatch")
        return times


async def transferred(page: Page) -> tuple[CDPSession, dict[str, float]]:
    """Counts what the page takes over the wire from now on: `bytes` and `requests` in the mapping that is answered."""
    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    counted = {"bytes": 0.0, "requests": 0.0}

    def finished(event: dict[str, float]) -> None:
        counted["bytes"] += event["encodedDataLength"]
        counted["requests"] += 1

    session.on("Network.loadingFinished", finished)
    return session, counted
