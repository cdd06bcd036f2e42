"""A served gateway: `served` embedded, `served_anywhere` embedded and then on PostgreSQL and Valkey."""

from collections.abc import AsyncIterator

import pytest

from chat_app.wiring import Parley
from tests.gateway.served import Served, served_by
from tests.parley import StartParley


@pytest.fixture
async def served(start_parley: StartParley) -> AsyncIterator[Served]:
    async with served_by(await start_parley()) as served:
        yield served


@pytest.fixture
async def served_anywhere(parley: Parley) -> AsyncIterator[Served]:
    async with served_by(parley) as served:
        yield served
