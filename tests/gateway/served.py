"""The gateway behind the server that the product runs on (Granian), in this process, over a running Parley."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from granian.constants import Interfaces
from granian.server.embed import Server
from openai import AsyncOpenAI

from chat_app.accounts.identity import Identity
from chat_app.gateway.app import api
from chat_app.gateway.completions_route import CompletionsRoute
from chat_app.gateway.hosts import KnownHosts
from chat_app.wiring import Parley
from tests.parley import person
from tests.servers import free_port

DEVELOPMENT = ["http://localhost:3000"]
"""Where `reflex run` serves the pages."""


@dataclass(slots=True)
class Served:
    """A gateway on `url`, and somebody with a key."""

    parley: Parley
    url: str
    who: Identity
    key: str
    http: aiohttp.ClientSession

    def client(self, key: str = "", **options: object) -> AsyncOpenAI:
        """OpenAI's own client. It tries nothing twice unless asked to."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **{"max_retries": 0, **options})  # type: ignore[arg-type]

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def settled(self, generation_id: str) -> str:
        """The status that a generation ends with."""
        for _ in range(500):
            view = await self.parley.generations.view(self.who, generation_id)
            if view.ended:
                return view.status
            await asyncio.sleep(0.02)
        raise AssertionError(f"{generation_id} does not end")


@asynccontextmanager
async def serving(parley: Parley) -> AsyncIterator[str]:
    """Serve the gateway for as long as the block lasts; yields its address."""
    port = free_port()
    app = KnownHosts(CompletionsRoute(lambda: parley).before(api(lambda: parley, DEVELOPMENT)), lambda: parley)
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    task = asyncio.create_task(server.serve())
    while not await _listens(port):
        assert not task.done(), task
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()
        await asyncio.wait_for(task, 10)


@asynccontextmanager
async def served_by(parley: Parley) -> AsyncIterator[Served]:
    """Serve a Parley in which Ada, an ordinary account, has a key."""
    await person(parley, "root@example.org")
    who = await person(parley, "ada@example.org")
    key = await parley.accounts.make_key(who.user_id, "tests")
    async with serving(parley) as url, aiohttp.ClientSession() as http:
        yield Served(parley, url, who, key, http)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.01)
        return False
    writer.close()
    return True
