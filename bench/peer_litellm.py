"""The peer: LiteLLM's proxy, one worker, no database, over the same backend, in an environment of its own.

The environment is made once, under the user's cache folder (336 MB), and never shared with Parley's. Where it cannot be
installed or does not start, `PeerMissing` says why, and its figures are null.
"""

import os
import subprocess
import sys
from pathlib import Path

from bench.foreign import FAST, PACED

VERSION = "1.106.2"
KEY = "sk-peer"
INSTALL_S = 400
START_S = 90


class PeerMissing(Exception):
    """Why there is no peer to measure beside."""


def environment() -> Path:
    """The folder of its environment, installed now if it is not there. Raises `PeerMissing`."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "parley-bench" / f"litellm-{VERSION}"
    if (folder / "installed").exists():
        return folder
    print(f"installing LiteLLM {VERSION} into {folder} …", file=sys.stderr, flush=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    try:
        for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, f"litellm[proxy]=={VERSION}"]):
            subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise PeerMissing(f"LiteLLM {VERSION} could not be installed: {type(error).__name__}") from error
    (folder / "installed").touch()
    return folder


def start(backend_port: int, port: int, folder: Path) -> "subprocess.Popen[bytes]":
    """Start it; `folder` gets its configuration and its output. Raises `PeerMissing`."""
    models = "".join(
        f"  - model_name: {name}\n"
        f"    litellm_params:\n"
        f"      model: openai/{name}\n"
        f"      api_base: http://127.0.0.1:{backend_port}/v1\n"
        f"      api_key: none\n"
        for name in (FAST, PACED)
    )
    config = folder / "litellm.yaml"
    config.write_text(f"model_list:\n{models}general_settings:\n  master_key: {KEY}\n")
    command = [str(environment() / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    env = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    # Else it fetches its table of prices from the network when it is imported.
    env |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}
    with (folder / "litellm.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--port", str(port), "--num_workers", "1"], cwd=folder, env=env, stdout=log, stderr=log
        )
