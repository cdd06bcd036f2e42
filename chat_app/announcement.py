"""Says on the terminal when Parley can be used: once it responds, and its engine too.

It asks `/readyz` as anybody may, and knows no part of Parley.
"""

import http.client
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ENGINE_S = 180.0
"""How long an engine may load its model before Parley is announced without it."""
LOOK_S = 0.1
PARTS = ("database", "log", "leases", "engine")


def announce(
    host: str, port: int, address: str, code: str = "", *, lives: Callable[[], bool], patience_s: float = ENGINE_S
) -> None:
    """Print `address` once Parley on `host` and `port` can be used, with the set-up `code` if there is one, and what of
    it cannot. Ends early if it does not live any more."""
    state: dict[str, Any] = {}
    began = 0.0
    while lives():
        state = _asked(host, port)
        if "engine" in state and not began:
            began = time.monotonic()
            print("  engine    ", end="", flush=True)
        if "engine" in state and (state["engine"] != "starting" or time.monotonic() - began > patience_s):
            told = _told(state, time.monotonic() - began, address)
            print(told + (_first_account(address, code) if code else ""), flush=True)
            return
        time.sleep(LOOK_S)


def _first_account(address: str, code: str) -> str:
    return (
        f"\n  Set-up code, for the first account there: {code}"
        f"\n  The page with the code filled in: {address}/login?code={code}"
    )


def _told(state: dict[str, Any], seconds: float, address: str) -> str:
    if state["engine"] == "starting":
        return f"still loading the model\n\n✓ Parley is ready, and its model will be: {address}"
    if not (amiss := {part: state[part] for part in PARTS if state[part] != "ok"}):
        return f"ready  ({seconds:.1f} s)\n\n✓ Parley is ready: {address}"
    said = ", ".join(f"{part}: {trouble}" for part, trouble in amiss.items())
    engine = state["engine"] if "engine" in amiss else f"ready  ({seconds:.1f} s)"
    return (
        f"{engine}\n\n! Parley responds at {address}, but not all of it works ({said}). Ask: python -m chat_app doctor"
    )


def _asked(host: str, port: int) -> dict[str, Any]:
    """What `/readyz` says; nothing while there is nobody to say it."""
    with suppress(OSError, http.client.HTTPException, ValueError):
        line = http.client.HTTPConnection(host, port, timeout=60)
        line.request("GET", "/readyz")
        said = json.loads(line.getresponse().read())
        return said if isinstance(said, dict) else {}
    return {}
