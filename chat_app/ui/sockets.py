"""Which pages may open the socket: those of this server, and those that the settings name.

A browser sends its cookies along with a socket that any page opens, so a foreign page's would act for the person who
is signed in. Reflex itself takes only a list of origins; that list is in `rxconfig.py`.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from reflex_base.config import get_config

NETWORK_ADDRESS = "parley-network-address"
"""Under which of a socket's headers its state finds where it comes from, as limits count it: the guard writes that."""


def may_open(origin: str | None, environ: Mapping[str, Any]) -> bool:
    """Whether the page of this origin may open the socket that `environ` (the WSGI form of its request) asks for.

    A page is ours when it came from the very host and port that it connects to, under whatever name.
    """
    if not origin:  # No browser, so nobody's cookies.
        return environ.get("HTTP_SEC_FETCH_SITE", "none") in ("same-origin", "none")
    host = str(environ.get("HTTP_HOST", "")).lower()
    return origin in get_config().cors_allowed_origins or (bool(host) and urlsplit(origin).netloc.lower() == host)
