"""Rows of `generation` for tests, and what is stored of them."""

import pytest

from chat_app.data.db.base import Database, Row, Statement, Unmet
from chat_app.sessions.generations import NOT_OWNER, GenerationRow


def row(generation_id: str = "g", owner: str = "ann", created_at: int = 1) -> GenerationRow:
    return GenerationRow(generation_id, "t", "ada", "free", "2026-11", created_at, owner=owner)


async def stored(db: Database, generation_id: str = "g") -> Row:
    return (await db.query("SELECT * FROM generation WHERE id = $1", generation_id))[0]


async def lost(db: Database, *statements: Statement) -> None:
    """Each of the statements is refused, by itself and with others before it."""
    for statement in statements:
        with pytest.raises(Unmet) as unmet:
            await db.batch(statement)
        assert unmet.value.name == NOT_OWNER
