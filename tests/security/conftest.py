"""The whole of Parley as a person starts it, on both columns, for hostile clients."""

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.app import RunningApp
from tests.gateway.conftest import served, served_anywhere
from tests.servers import drop_database, new_database, shared_postgres, shared_template, shared_valkey

__all__ = ["app", "person", "served", "served_anywhere"]

PAGES = 40
"""Pages that one address may hold open in these tests."""


@pytest.fixture(scope="module", params=["embedded", "fleet"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApp]:
    """A Parley of this module's own on SQLite, then one on PostgreSQL and Valkey. Ada is its administrator.

    A module may add settings: its `ENV`.
    """
    env, database = {"PARLEY_PAGES_PER_ADDRESS": str(PAGES), **getattr(request.module, "ENV", {})}, ""
    if request.param == "fleet":
        database = new_database(shared_postgres(), shared_template())
        with redis.Redis.from_url(shared_valkey()) as client:
            client.flushdb()
        env |= {"PARLEY_DATABASE_URL": database, "PARLEY_REDIS_URL": shared_valkey()}
    with RunningApp(tmp_path_factory.mktemp("security") / "home", env=env) as running:
        running.sign_up("ada@example.org", name="Ada")
        yield running
    if database:
        drop_database(database)


@pytest.fixture
def person(app: RunningApp, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Makes an account of this name; returns its cookie."""

    def make(name: str) -> str:
        return app.sign_up(f"{name}-{abs(hash(request.node.name)) % 10**8}@example.org", name=name.capitalize())

    return make
