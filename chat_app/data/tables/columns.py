"""Column types that several tables share, and how constraints are named."""

from typing import Any

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel

# A constraint without a name cannot be changed by a later migration on SQLite. Set before any table is defined.
SQLModel.metadata.naming_convention = {
    "ix": "%(table_name)s_%(column_0_N_name)s_index",
    "uq": "%(table_name)s_%(column_0_N_name)s_unique",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}


def big(default: int | None = None, *, nullable: bool = False) -> Any:
    """A 64-bit integer: milliseconds, tokens or micro-units."""
    return Field(default=default, sa_column=Column(BigInteger, nullable=nullable))


def text(default: str = "") -> Any:
    """Text of any length."""
    return Field(default=default, sa_column=Column(Text, nullable=False))
