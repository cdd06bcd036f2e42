"""What a page may load and run (its Content-Security-Policy): as narrow as Reflex's build lets it be.

The built pages begin with inline scripts, the same for everybody. Each is allowed by its hash, so that none that
somebody injects runs. It does not know which page is asked for: all have the hashes of all.
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from secure import ContentSecurityPolicy

_SCRIPT = re.compile(r"<script(?P<attributes>[^>]*)>(?P<text>.*?)</script>", re.S)
_HOST = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")
_HERE = "'self'"
_NONE = "'none'"


class ContentPolicy:
    """The policy of the pages that were built into these files."""

    def __init__(self, pages: Iterable[Path]) -> None:
        self._scripts = sorted({script for page in pages for script in inline_scripts(page.read_text())})

    def header(self, host: str) -> str:
        """The value of the header for a page that was asked for at `host` (with its port)."""
        # A socket to where the page came from: not every browser takes 'self' for that.
        sockets = (f"ws://{host}", f"wss://{host}") if _HOST.fullmatch(host) else ()
        policy = ContentSecurityPolicy().default_src(_NONE)
        # Reflex runs some of its events by eval.
        policy = policy.script_src(_HERE, *map(source_of, self._scripts), "'unsafe-eval'")
        # Reflex adds its styles as rules of an empty element.
        policy = policy.style_src(_HERE, source_of("")).img_src(_HERE, "data:").connect_src(_HERE, *sockets)
        policy = policy.form_action(_HERE).base_uri(_NONE).frame_ancestors(_NONE).object_src(_NONE).worker_src(_NONE)
        return policy.header_value


def inline_scripts(page: str) -> list[str]:
    """The texts of a page's scripts that stand in it."""
    return [found["text"] for found in _SCRIPT.finditer(page) if "src=" not in found["attributes"]]


def source_of(text: str) -> str:
    """What a policy calls exactly this text of a script or style."""
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
