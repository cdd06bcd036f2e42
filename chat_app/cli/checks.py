"""What `doctor` looks at, one function a part. Nothing is started, nothing is changed."""

import asyncio
import http.client
import shutil
import socket
import tempfile
from dataclasses import dataclass

import orjson
from alembic.config import Config
from alembic.script import ScriptDirectory
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chat_app.data.db import open_database
from chat_app.data.db.base import DatabaseUnavailable, Statement
from chat_app.data.migrations import ROOT
from chat_app.settings import Settings
from inference import catalog, catalog_file
from inference.client import InferenceClient
from inference.protocol import EngineError
from inference.replica import shown

LEAST_FREE = 512 * 1024 * 1024
"""Bytes of disk below which an installation is in danger: a busy day's database and logs."""

ENGINE_S = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One part's state: what was found and, if it is not well, what to do."""

    part: str
    well: bool
    found: str
    advice: str = ""


def home(settings: Settings) -> Finding:
    """The directory of all state: writable, with room."""
    directory = settings.home.absolute()
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding("home", False, f"{existing}: {error.strerror}", "Set PARLEY_HOME to a directory of yours.")
    room = f"{free / 1e9:.1f} GB free"
    if free < LEAST_FREE:
        return Finding("home", False, f"{directory}: {room}", "Make room, or move PARLEY_HOME to another disk.")
    made = "" if directory.exists() else ", made at the first start"
    return Finding("home", True, f"{directory}: writable, {room}{made}")


async def database(settings: Settings) -> Finding:
    """Reachable, writable, at the present schema."""
    embedded = not settings.database_url.get_secret_value()
    kind = "SQLite" if embedded else "PostgreSQL"
    if embedded and not settings.sqlite_path.exists():
        return Finding("database", True, f"{kind}: made at the first start")
    db = open_database(settings)
    try:
        await db.start()
        wanted = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_current_head()
        known = await db.query("SELECT version_num FROM alembic_version")
        if [row["version_num"] for row in known] != [wanted]:
            return Finding("database", False, f"{kind}: an old schema", "Run: python -m chat_app migrate")
        await db.batch(Statement("UPDATE plan SET position = position WHERE id = ''"))  # Takes the lock to write.
        return Finding("database", True, f"{kind}: writable, schema {wanted}")
    except DatabaseUnavailable as error:
        advice = "Is another program writing to it?" if embedded else "Check PARLEY_DATABASE_URL and the server."
        return Finding("database", False, f"{kind}: {error}", advice)
    except Exception as error:
        return Finding("database", False, f"{kind}: {error}", "Run: python -m chat_app migrate")
    finally:
        await db.close()


async def redis(settings: Settings) -> Finding:
    """Redis or Valkey answers, if one is set."""
    url = settings.redis_url.get_secret_value()
    if not url:
        return Finding("Redis", True, "none: this process keeps limits, leases and the log itself")
    try:
        async with Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            version = (await client.info("server"))["redis_version"]
    except (RedisError, OSError, ValueError) as error:
        return Finding("Redis", False, str(error), "Check PARLEY_REDIS_URL and the server.")
    return Finding("Redis", True, f"answers, version {version}")


def model(settings: Settings) -> Finding:
    """The file of the model that the app's own engine is to serve: there, and undamaged to the last byte."""
    if settings.inference_url or settings.inference_engine != "llama_cpp":
        return Finding("model", True, "none of our own is needed")
    try:
        found, path = catalog.find(settings.default_model, settings.home / "models", catalog_file.known(settings.home))
        catalog.verify(found, path)
    except EngineError as error:
        return Finding("model", False, str(error), "Check PARLEY_DEFAULT_MODEL, or run: make setup")
    verified = "SHA-256 verified" if found.sha256 else "its hash is not known"
    return Finding("model", True, f"{found.id}: {path.stat().st_size / 1e6:,.0f} MB, {verified}")


async def engines(settings: Settings) -> list[Finding]:
    """Each address of an engine answers; or the app's own does, or will be started by it."""
    urls = settings.inference_urls
    if not urls:
        return [await _own_engine(settings)]
    keys = settings.inference_keys * (len(urls) // len(settings.inference_keys))
    offered = await asyncio.gather(*(_offered(url, key) for url, key in zip(urls, keys, strict=True)))
    advice = "Check PARLEY_INFERENCE_URL, PARLEY_INFERENCE_KEY and the engine."
    if len(urls) == 1:
        return [Finding("engine", well, found, "" if well else advice) for well, found in offered]
    return [
        Finding(f"engine {number}", well, f"{shown(url)}: {found}", "" if well else advice)
        for number, (url, (well, found)) in enumerate(zip(urls, offered, strict=True), 1)
    ]


async def _own_engine(settings: Settings) -> Finding:
    try:  # What the app's engine announces there while it runs.
        url = str(orjson.loads((settings.home / "inference.json").read_bytes())["url"])
        key = (settings.home / "inference.key").read_text().strip()
    except (OSError, ValueError, KeyError, TypeError):
        return Finding("engine", True, f"{settings.inference_engine}: started together with Parley")
    well, found = await _offered(url, key)
    return Finding("engine", True, found if well else "not running now: started together with Parley")


async def _offered(url: str, key: str) -> tuple[bool, str]:
    """Whether an engine answers there, and with which models, or why not."""
    client = InferenceClient(url, key)
    try:
        async with asyncio.timeout(ENGINE_S):
            models = ", ".join(card.id for card in await client.models())
        return True, f"answers, with {models or 'no model'}"
    except EngineError as error:
        return False, str(error)
    except TimeoutError:
        return False, "no answer in time"
    finally:
        await client.close()


def port(host: str, number: int) -> Finding:
    """The port is free, or Parley itself answers there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
            return Finding("port", True, f"{number} is free")
        except OSError as error:
            taken = error
    if _parley_answers(host, number):
        return Finding("port", True, f"{number}: Parley is running there")
    advice = f"End what uses it, or choose another: PORT={number + 1}"
    return Finding("port", False, f"{number} on {host}: {taken.strerror}", advice)


def proxy(settings: Settings) -> Finding:
    """Whoever speaks TLS in front is named: else it is taken for every visitor at once."""
    if settings.trusted_proxies:
        return Finding("proxy", True, f"{settings.trusted_proxies}: believed about where a request comes from")
    if not settings.public_url.startswith("https://"):
        return Finding("proxy", True, "none")
    found = "none is named, so all visitors count as one and share one limit of sign-ins"
    return Finding("proxy", False, found, "Set PARLEY_TRUSTED_PROXIES to the address of what speaks TLS.")


def _parley_answers(host: str, number: int) -> bool:
    connection = http.client.HTTPConnection(host, number, timeout=3)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().read() == b'{"status":"ok"}'
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
