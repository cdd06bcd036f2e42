"""Alembic's entry: plain `alembic upgrade head` finds its database in Parley's settings, as the app does."""

from typing import Literal

from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection
from sqlmodel import AutoString, SQLModel

import chat_app.data.tables  # noqa: F401  (registers every table with SQLModel's metadata)
from alembic import context
from chat_app.data.migrations import run_in_transaction
from chat_app.settings import settings


def rendered(kind: str, item: object, _: AutogenContext) -> str | Literal[False]:
    """How a new migration writes SQLModel's own type of text: as SQLAlchemy's."""
    return "sa.String()" if kind == "type" and isinstance(item, AutoString) else False


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=SQLModel.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        render_item=rendered,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("Parley's migrations need the database itself: run alembic without --sql")

bound = context.config.attributes.get("connection")
if bound is None:
    run_in_transaction(settings(), run)
else:
    run(bound)
