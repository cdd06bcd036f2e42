"""The provider of `provider.mjs`, as the tests start it and tell it who signs in."""

import asyncio
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from yarl import URL

from tests.servers import free_port

HERE = Path(__file__).parent
ADA: dict[str, Any] = {"sub": "ada-there", "email": "ada@corp.example", "email_verified": True, "name": "Ada There"}


class OidcProvider:
    """A provider on `issuer`, which knows the clients `parley` and `other`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.issuer = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["node", "provider.mjs", str(self.port)],
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "NODE_NO_WARNINGS": "1"},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "run `make .venv/.installed-oidc` first"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def settings(self, **more: Any) -> dict[str, Any]:
        """What a Parley needs to know of it."""
        return {
            "oidc_issuer": self.issuer,
            "oidc_client_id": "parley",
            "oidc_client_secret": "secret-of-parley",
            "oidc_scopes": "openid email profile groups",
            **more,
        }

    def tell(self, **wanted: Any) -> None:
        """See `provider.mjs`."""
        request = urllib.request.Request(f"{self.issuer}/test/set", json.dumps(wanted).encode())
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200, response.read()

    async def set(self, **wanted: Any) -> None:
        """The same for tests with an event loop."""
        await asyncio.to_thread(self.tell, **wanted)

    async def id_token(self) -> str:
        """The last one that it made."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.issuer}/test/id_token") as response:
            return str(await response.json(content_type=None))


class Browser:
    """Follows redirects between Parley and the provider as a browser does, with its cookies; `page` is where it is."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.http = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.page = base

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()

    async def get(self, url: str, *, until: str = "") -> str:
        """Open a page and follow where it leads, up to a page of Parley's own or an address with `until` in it, which
        is not opened; where that is, from Parley's root if it is there."""
        url = self.base + url if url.startswith("/") else url
        while True:
            if until and until in url:
                break
            async with self.http.get(url, allow_redirects=False) as response:
                await response.read()
                location = response.headers.get("Location")
                if location is None:
                    raise AssertionError(f"{url}: {response.status} {await response.text()}")
                there = location if urlsplit(location).netloc else f"{_root(url)}{location}"
            url = there
            if url.startswith(self.base) and "/auth/" not in url:
                break
        self.page = url.removeprefix(self.base)
        return self.page

    @property
    def token(self) -> str:
        """Of its session; empty if it has none."""
        cookie = self.http.cookie_jar.filter_cookies(URL(self.base)).get("parley_session")
        return cookie.value if cookie else ""

    async def user(self) -> dict[str, Any] | None:
        """Who is signed in."""
        async with self.http.get(f"{self.base}/auth/session") as response:
            found: dict[str, Any] | None = (await response.json())["user"]
            return found


def _root(url: str) -> str:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}"


@pytest.fixture(scope="session")
def oidc_server() -> Iterator[OidcProvider]:
    """One for all tests of this worker."""
    server = OidcProvider()
    server.start()
    yield server
    server.stop()
