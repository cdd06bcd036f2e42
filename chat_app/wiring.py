"""Builds Parley from its settings: the only place that knows every room.

`parley()` is the process's one instance; `lifespan()` starts and stops it. Embedded, the process holds its home
directory alone; with Redis any number of replicas run side by side.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial

from chat_app.accounts.key_watch import KeyWatch
from chat_app.accounts.oidc import ExternalSignIn
from chat_app.accounts.people import Accounts
from chat_app.audit.sealing import Sealer
from chat_app.audit.trail import Trail
from chat_app.billing.ledger import Ledger
from chat_app.billing.plans import Plans
from chat_app.data.db import open_database
from chat_app.data.db.base import Database
from chat_app.data.home import hold_home
from chat_app.data.leases import open_leases
from chat_app.data.leases.base import Leases
from chat_app.data.limits import open_limits
from chat_app.data.limits.base import Limits
from chat_app.data.log import open_log
from chat_app.data.log.base import GenerationLog
from chat_app.data.migrations import migrate
from chat_app.safety.review import Reviews
from chat_app.safety.screen import RuleScreen
from chat_app.sessions.generations import Generations
from chat_app.sessions.ownership import Ownership
from chat_app.sessions.removal import Removal
from chat_app.sessions.steps import Steps
from chat_app.sessions.threads import Threads
from chat_app.sessions.viewer import Viewer
from chat_app.settings import Settings
from chat_app.settings import settings as read_settings
from chat_app.telemetry import logs, metrics
from chat_app.telemetry.events import Events
from chat_app.telemetry.exporter import Exporter
from chat_app.telemetry.fleet import FLEET
from chat_app.telemetry.loop_delay import watched_loop
from chat_app.telemetry.measured_log import MeasuredLog
from chat_app.telemetry.pseudonyms import Pseudonyms
from chat_app.turn import Turns
from chat_app.turn.admit import Admission
from chat_app.turn.begin import TurnStarter
from chat_app.turn.bounds import Bounds
from chat_app.turn.cards import ModelCards
from chat_app.turn.closing import Closing
from chat_app.turn.engine import QueueView
from chat_app.turn.hold import Hold
from chat_app.turn.job import VERSION
from chat_app.turn.next_prompt import NextPrompts
from chat_app.turn.prepare import Preparation
from chat_app.turn.purge import Purge
from chat_app.turn.settle import Settlement
from chat_app.turn.stream import Streams
from chat_app.turn.transitions import Transitions
from chat_app.turn.work import Worker
from inference.client import InferenceClient
from inference.continuation import SteadyClient
from inference.pool import Pool
from inference.supervisor import Supervisor


@dataclass(slots=True)
class Parley:
    """Every part of a running Parley."""

    settings: Settings
    db: Database
    log: GenerationLog
    leases: Leases
    limits: Limits
    client: InferenceClient | Pool
    engine: SteadyClient
    queue: QueueView
    supervisor: Supervisor | None
    accounts: Accounts
    external: ExternalSignIn
    key_watch: KeyWatch
    plans: Plans
    ledger: Ledger
    threads: Threads
    generations: Generations
    steps: Steps
    ownership: Ownership
    viewer: Viewer
    reviews: Reviews
    exporter: Exporter
    purge: Purge
    audit: Trail
    sealer: Sealer
    closing: Closing
    admission: Admission
    turns: Turns
    worker: Worker


def build(settings: Settings) -> Parley:
    """Wire every part; nothing is opened yet."""
    db, log, leases, limits = (
        open_database(settings),
        MeasuredLog(open_log(settings)),
        open_leases(settings),
        open_limits(settings),
    )
    supervisor = None
    if not settings.inference_url:
        supervisor = Supervisor(
            settings.home,
            engine=settings.inference_engine,
            model=settings.default_model,
            system_prompt=settings.system_prompt,
        )
    client: InferenceClient | Pool
    if supervisor:
        client = InferenceClient(supervisor.address, supervisor.key)
    elif len(settings.inference_urls) == 1:
        client = InferenceClient(settings.inference_url, settings.inference_keys[0])
    else:
        client = Pool(settings.inference_urls, settings.inference_keys)
    engine = SteadyClient(client)
    pseudonyms = cache(partial(Pseudonyms.of_home, settings.home))  # Read at its first use: nothing is opened yet.

    def network(address: str) -> str:
        return pseudonyms().of(f"address {address}")

    audit = Trail(db, network, limits.hit)
    accounts = Accounts(db, settings, network, audit)
    external = ExternalSignIn(db, settings, accounts, audit)
    plans, ledger, reviews = Plans(db, settings.default_plan, audit), Ledger(db), Reviews(db, audit)
    threads, generations, steps = Threads(db, audit), Generations(db), Steps(db)
    events = Events(db, settings)
    ownership = Ownership(leases, generations, settings.lease_ms, VERSION)
    admission = Admission(limits, generations, ledger)
    cards = ModelCards(engine)
    preparation = Preparation(settings, cards, ledger)
    bounds = Bounds(ledger, preparation, NextPrompts(cards))
    settlement = Settlement(db, log, ledger, generations, steps, reviews, events)
    worker = Worker(
        db=db,
        log=log,
        generations=generations,
        admission=admission,
        transitions=Transitions(db, log, ledger, generations, steps, bounds),
        streams=Streams(engine, log, cards, bounds, RuleScreen, settings.gather_ms),
        settlement=settlement,
        hand_back=ownership.hand_back,
    )
    beginning = TurnStarter(
        log=log,
        plans=plans,
        ownership=ownership,
        admission=admission,
        preparation=preparation,
        hold=Hold(db, ledger, threads, generations, steps, bounds),
        settlement=settlement,
        work=lambda row, job: worker.work(row, job),  # Looked up late: benches put themselves around it.
    )
    return Parley(
        settings=settings,
        db=db,
        log=log,
        leases=leases,
        limits=limits,
        client=client,
        engine=engine,
        queue=QueueView(engine),
        supervisor=supervisor,
        accounts=accounts,
        external=external,
        key_watch=KeyWatch(accounts.in_force),
        plans=plans,
        ledger=ledger,
        threads=threads,
        generations=generations,
        steps=steps,
        ownership=ownership,
        viewer=Viewer(log, generations),
        reviews=reviews,
        exporter=Exporter(db, leases, settings),
        purge=Purge(db, log, leases, Removal(db), reviews, accounts, settings),
        audit=audit,
        sealer=Sealer(db),
        closing=Closing(db, log, accounts, generations),
        admission=admission,
        turns=Turns(settings, log, threads, generations, preparation, beginning),
        worker=worker,
    )


_current: Parley | None = None


def parley() -> Parley:
    """The instance of this process. Raises `RuntimeError` outside its lifespan."""
    if _current is None:
        raise RuntimeError("Parley is not running in this process")
    return _current


@asynccontextmanager
async def lifespan(settings: Settings | None = None) -> AsyncIterator[Parley]:
    """Run Parley for as long as the block lasts. Raises `HomeInUse` if another one holds the home directory."""
    global _current
    settings = settings or read_settings()
    logs.configure(settings.log_level)
    async with AsyncExitStack() as stack:
        if settings.embedded:
            stack.enter_context(hold_home(settings.home))
        await asyncio.to_thread(migrate, settings)
        made = build(settings)
        for part in (made.db, made.log, made.leases, made.limits):
            await part.start()
            stack.push_async_callback(part.close)
        stack.push_async_callback(made.client.close)
        if isinstance(made.client, Pool):
            made.client.start()
            FLEET.replicas = made.client.replicas
        if made.supervisor is not None:
            await made.supervisor.start()
            stack.push_async_callback(made.supervisor.close)
        await made.plans.seed()
        await made.ownership.start(made.worker.work, made.worker.beat)
        metrics.ACTIVE.set_function(lambda: made.ownership.running)
        stack.push_async_callback(made.ownership.close)
        for watch in (made.sealer, made.key_watch, made.exporter, made.purge):
            await watch.start()
            stack.push_async_callback(watch.close)
        await stack.enter_async_context(watched_loop())
        _current = made
        try:
            yield made
        finally:
            _current = None
