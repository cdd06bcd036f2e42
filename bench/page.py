"""How the page feels, on the scripted engine, which answers at once: whatever is waited for is Parley's own doing."""

import asyncio
import json
import time
import urllib.request
from pathlib import Path

from bench.bounds import TURN
from bench.browser import COMPOSER, Browser, transferred
from bench.report import Row, p50
from tests.app import RunningApp
from tests.parley import EngineProcess, expected, script

ROUNDS = 9


async def measure(browser: Browser, folder: Path) -> tuple[list[Row], dict[str, float]]:
    """Medians over `ROUNDS`, each in a new chat."""
    engine_home = folder / "engine-for-page"
    engine_home.mkdir()
    engine = EngineProcess(engine_home)
    url = engine.start()
    env = {"PARLEY_INFERENCE_URL": url, "PARLEY_INFERENCE_KEY": "engine-key", "PARLEY_DEFAULT_MODEL": "scripted"}
    try:
        with RunningApp(folder / "page", env={**env, "PARLEY_MAX_OUTPUT_TOKENS": "4000"}) as app:
            cookie = app.sign_up("bench@example.org")
            app.unlimited("bench@example.org")
            cold_s, cold_mb, requests = await _cold(browser, app, cookie)
            first = await _first_token(browser, app, cookie)
            whole = await _two_thousand(browser, app, cookie)
            stop = await _stop(browser, app, cookie, url)
    finally:
        engine.kill()
    rows = [
        ("Enter to the first visible token, new chat, p50", f"{first:.0f} ms", f"{TURN['page_ttft_ms_p50']} (480-511)"),
        ("2,000 tokens at once, Enter to fully shown, p50", f"{whole:.2f} s", f"{TURN['page_2000_shown_s']} (2.9)"),
        ("page ready from a cold browser, p50", f"{cold_s:.2f} s", f"{TURN['page_ready_cold_s']} (4.2-4.5)"),
        ("transferred by it", f"{cold_mb:.2f} MB in {requests:.0f} requests", f"{TURN['page_mb_cold']} (2.9)"),
        ("Stop to the engine, p50", f"{stop:.0f} ms", f"{TURN['stop_ms_p50']} (83-142)"),
    ]
    return rows, {
        "page_ttft_ms_p50": first,
        "page_2000_shown_s": whole,
        "page_ready_cold_s": cold_s,
        "page_mb_cold": cold_mb,
        "stop_ms_p50": stop,
    }


async def _cold(browser: Browser, app: RunningApp, cookie: str) -> tuple[float, float, float]:
    seconds, megabytes, requests = [], [], []
    for _ in range(5):
        chromium = await browser.cold()
        page = await browser.page(app.url, cookie, chromium)
        _, counted = await transferred(page)
        began = time.perf_counter()
        await page.goto(app.url, wait_until="commit")
        composer = page.locator(COMPOSER).first
        await composer.wait_for()
        await composer.fill("ready")
        seconds.append(time.perf_counter() - began)
        await page.wait_for_load_state("networkidle")
        megabytes.append(counted["bytes"] / 1e6)
        requests.append(counted["requests"])
        await chromium.close()
    return p50(seconds), p50(megabytes), p50(requests)


async def _first_token(browser: Browser, app: RunningApp, cookie: str) -> float:
    page = await browser.page(app.url, cookie)
    times = []
    for seed in range(ROUNDS):
        await page.goto(app.url)
        await page.wait_for_load_state("networkidle")
        times.append(await browser.first_token(page, script(tokens=20, rate=50, seed=seed)))
    await page.close()
    return p50(times)


async def _two_thousand(browser: Browser, app: RunningApp, cookie: str) -> float:
    page = await browser.page(app.url, cookie)
    times = []
    for seed in range(5):
        question = script(tokens=2000, rate=0, seed=seed)
        await page.goto(app.url)
        await page.wait_for_load_state("networkidle")
        last = expected(question).split()[-1]
        times.append((await browser.ask(page, question, ending=last))["whole"] / 1000)
    await page.close()
    return p50(times)


async def _stop(browser: Browser, app: RunningApp, cookie: str, engine_url: str) -> float:
    page = await browser.page(app.url, cookie)
    times = []
    for seed in range(ROUNDS):
        await page.goto(app.url)
        await page.wait_for_load_state("networkidle")
        await browser.first_token(page, script(tokens=3000, rate=50, seed=seed))
        await asyncio.sleep(0.3)
        pressed: float = await page.evaluate(
            """() => {
                const at = Date.now();
                document.querySelector("[aria-label='Stop the answer']").click();
                return at;
            }"""
        )
        await asyncio.sleep(0.5)
        times.append(_last_cancel_ms(engine_url) - pressed)
    await page.close()
    return p50(times)


def _last_cancel_ms(engine_url: str) -> float:
    """When the engine last lost a job, wall clock in milliseconds."""
    request = urllib.request.Request(f"{engine_url}/status", headers={"Authorization": "Bearer engine-key"})
    with urllib.request.urlopen(request) as response:
        return float(json.load(response)["last_cancel_wall_ms"])
