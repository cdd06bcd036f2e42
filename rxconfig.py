"""Reflex's configuration: one port from `PORT`, state in memory (or Redis), nothing that calls home.

What Parley itself can be told is in `chat_app/settings.py`.
"""

import os
import sys
from pathlib import Path

import reflex as rx
from reflex_base import constants

from chat_app.gateway.origins import allowed_origins
from chat_app.settings import settings
from chat_app.ui.same_origin import SameOrigin

_settings = settings()
_redis = _settings.redis_url.get_secret_value() or None
_bun = Path(sys.executable).parent / "bun"
_port = int(os.environ.get("PORT") or 3000)

config = rx.Config(
    app_name="chat_app",
    frontend_port=_port,
    backend_host="127.0.0.1",
    cors_allowed_origins=[*allowed_origins(_settings), f"http://localhost:{_port}", f"http://127.0.0.1:{_port}"],
    redis_url=_redis,
    # The state is a view that the URL rebuilds at any time: it need not outlive the process, nor be pickled to disk.
    state_manager_mode=constants.StateManagerMode.REDIS if _redis else constants.StateManagerMode.MEMORY,
    telemetry_enabled=False,
    show_built_with_reflex=False,
    frontend_compression_formats=["brotli", "gzip"],
    frontend_lazy_bundled_libraries=True,
    plugins=[SameOrigin()],
    disable_plugins=[rx.plugins.SitemapPlugin],
    **({"bun_path": _bun} if _bun.exists() else {}),
)
