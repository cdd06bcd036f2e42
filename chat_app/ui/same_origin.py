"""Lets one build of the page serve under any address and port.

Reflex bakes the backend's address into the build. In production page and backend always share one origin, so after
the build this plugin replaces the baked address by the page's own: no rebuild for another port, and any reverse proxy
will do. It leaves a build alone whose backend lives on another host (`REFLEX_API_URL`).
"""

import re
from pathlib import Path
from typing import Unpack
from urllib.parse import urlsplit

from reflex_base.config import get_config
from reflex_base.plugins.base import Plugin, PostBuildContext

_LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - compared with, never bound to


class SameOrigin(Plugin):
    """Reflex plugin. Raises `RuntimeError` if a build does not look as expected."""

    def post_build(self, **context: Unpack[PostBuildContext]) -> None:
        """Called by Reflex once the static files lie in `static_dir`, before they are compressed."""
        if urlsplit(get_config().api_url).hostname in _LOCAL:
            rewrite(context["static_dir"], get_config().api_url)


def rewrite(static_dir: Path, api_url: str) -> None:
    """Replace the literals that begin with `api_url` (http or ws) in the one file that holds them."""
    files = list(static_dir.glob("**/assets/reflex-env-*.js"))
    host = re.escape(urlsplit(api_url).netloc)
    for file in files:
        text, found = re.subn(
            rf"""([`'"])(http|ws)://{host}(/[^`'"]*)\1""",
            lambda match: f"location.origin{'.replace(/^http/,`ws`)' if match[2] == 'ws' else ''}+`{match[3]}`",
            file.read_text(),
        )
        if found:
            file.write_text(text)
            return
    raise RuntimeError(f"no backend address found in {[file.name for file in files]}: has Reflex changed its build?")
