"""The SQL database: its protocol (`base`), SQLite and PostgreSQL behind it. Knows no table and no room."""

from chat_app.data.db.base import Database
from chat_app.settings import Settings


def open_database(settings: Settings) -> Database:
    """The database that the settings name, not yet started: PostgreSQL, or SQLite under `home`."""
    url = settings.database_url.get_secret_value()
    if url:
        from chat_app.data.db.postgres import PostgresDatabase

        return PostgresDatabase(url)
    from chat_app.data.db.sqlite import SqliteDatabase

    return SqliteDatabase(settings.sqlite_path)
