"""What the tests of a pool say to it and ask of it."""

from dataclasses import replace

from inference.continuation import SteadyClient
from inference.pool import Pool
from inference.protocol import Chunk, Request
from tests.inference.conftest import request


async def answer(client: Pool | SteadyClient, asked: Request) -> list[Chunk]:
    return [chunk async for chunk in client.stream(asked)]


def of(thread: str, question: str = "hello", **options: object) -> Request:
    return replace(request(question, **options), affinity=thread)


def homed_at(made: Pool, url: str) -> str:
    """A thread whose first choice is the replica at this address."""
    names = (f"thread-{number}" for number in range(1_000))
    return next(name for name in names if max(made.replicas, key=lambda one: one.rank(name)).url == url)
