"""The whole product, measured: what it adds to bare inference, how its page feels, what it takes to begin.

    python -m bench.turn [--skip-setup]

Run it from a committed checkout on a quiet machine. `--skip-setup` leaves out the part from nothing, which installs
everything anew. Ends with 1 if a figure misses its bound.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import page, startup, throughput
from bench.bounds import TURN
from bench.browser import Browser
from bench.load import Target
from bench.report import Row, conclude
from tests.app import RunningApp
from tests.parley import EngineProcess

MODEL = "smollm2-135m-instruct"


async def product_over_bare(folder: Path) -> tuple[list[Row], dict[str, float]]:
    """One inference process, asked directly and through the product."""
    engine = EngineProcess(folder, "llama_cpp")
    url = engine.start()
    try:
        env = {"PARLEY_INFERENCE_URL": url, "PARLEY_INFERENCE_KEY": "engine-key"}
        with RunningApp(folder / "product", env=env) as app:
            app.sign_up("bench@example.org")
            app.unlimited("bench@example.org")
            product = Target("product", app.url, app.api_key("bench@example.org"), MODEL)
            return await throughput.measure(Target("bare", url, "engine-key", MODEL), product)
    finally:
        engine.kill()


async def main(words: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--skip-setup", action="store_true")
    chosen = arguments.parse_args(words)
    rows: list[Row] = []
    figures: dict[str, float | str | None] = {"cold_start_s": None, "disk_mb": None}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = [await product_over_bare(folder)]
        async with Browser() as browser:
            parts.append(await page.measure(browser, folder))
            parts.append(await startup.start(browser, folder))
    if not chosen.skip_setup:
        parts.append(startup.from_nothing())
    for part_rows, part_figures in parts:
        rows += part_rows
        figures |= part_figures
    return conclude("Parley: one turn", rows, figures, TURN)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
