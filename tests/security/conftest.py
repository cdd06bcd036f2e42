"""A served gateway, embedded and then on PostgreSQL and Valkey."""

from tests.gateway.conftest import served, served_anywhere

__all__ = ["served", "served_anywhere"]
