"""What runs wherever a relay runs: the bus to its consumers, and what is owed to Temporal."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final

from temporalio.client import Client

from contracts.journeys import WORKFLOWS
from core.database import Database
from core.domains import DOMAINS, Domain
from core.settings import Settings
from integrations.dns.txt import Resolver
from relay.calls import CallMaker
from relay.cohorts import CohortStarter
from relay.consumers import CONSUMERS, OF_DOMAIN
from relay.loop import Chore, Relay
from relay.payments import look_after
from relay.schedules import ScheduleKeeper
from relay.starts import WorkflowStarter
from relay.stuck import StuckFinder
from relay.turns import SegmentClock
from relay.type_counts import TypeCounter
from services.commerce import reserving
from services.events import tally
from services.events.webhooks import log as webhook_log
from services.identity import imports, organization_people, scoring
from services.journeys import refusals
from services.journeys.simulation import runs as simulation_runs
from services.marketing import sender_domains
from services.marketing.segments import freshness, runs
from services.tenancy import idempotency, sessions, throttle

PURGE_PAGE: Final = 5_000


async def run(
    database: Database, client: Client, stop: asyncio.Event, *, eager: bool, settings: Settings | None = None
) -> None:
    """Feed the consumers, start workflows, keep schedules and time, and deliver signals until `stop` is set.

    With `settings` calls of others' addresses are made, payment gateways are asked for what is on its way, and the
    records of sender domains are looked for again each day; of the domain that they name only its own consumers are fed
    and its own chores done, while workflows are started whosever they are. `eager` where the worker runs in this
    process and with this client: it gets the first task without polling.
    """
    domain = None if settings is None else settings.domain
    chores = _chores(settings)
    starter = CohortStarter(database, client, eager=eager)
    relay = Relay(
        database,
        CONSUMERS if domain is None else OF_DOMAIN[domain],
        on_committed=starter.committed,
        chores=[chore for each in DOMAINS if domain in {None, each} for chore in chores[each]],
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(relay.run(stop), name="relay")
        group.create_task(starter.run(stop), name="cohorts")
        group.create_task(WorkflowStarter(database, client).run(stop), name="starts")
        group.create_task(ScheduleKeeper(database, client).run(stop), name="schedules")
        walked = [each for each in WORKFLOWS if domain in {None, each}]
        if walked:
            group.create_task(StuckFinder(database, client, walked).run(stop), name="stuck")
        if domain in {None, "identity"}:
            group.create_task(TypeCounter(database).run(stop), name="event-types")
        if domain in {None, "marketing"}:
            group.create_task(SegmentClock(database).run(stop), name="segment-clock")
        if settings is not None and domain in {None, "crm"}:
            group.create_task(CallMaker(database, settings).run(stop), name="calls")
        if settings is not None and domain in {None, "commerce"}:
            group.create_task(look_after(database, settings, stop), name="payments")


def _chores(settings: Settings | None) -> Mapping[Domain, Sequence[Chore]]:
    return {
        "identity": (
            forget_answers,
            forget_sessions,
            forget_imports,
            forget_deliveries,
            forget_counts,
            once_a_day(organization_people.follow_dates),
            once_a_day(scoring.follow_time),
        ),
        "crm": (),
        "marketing": (
            forget_computations,
            once_a_day(forget_refusals),
            forget_simulations,
            runs.resume_stuck,
            *(() if settings is None else (once_a_day(_sender_domains(settings)),)),
        ),
        "commerce": (let_go_of_stock,),
    }


def _sender_domains(settings: Settings) -> Callable[[Database], Awaitable[None]]:
    async def check(database: Database) -> None:
        await sender_domains.check_again(database, Resolver(settings.dns_resolver), spf_include=settings.spf_include)

    return check


async def forget_answers(database: Database) -> None:
    """Delete the answers kept for `Idempotency-Key` that are past their day."""
    while True:
        async with database.system() as session:
            if await idempotency.purge(session) < PURGE_PAGE:
                return


async def forget_sessions(database: Database) -> None:
    """Delete the sessions that are over, and the counts of failed attempts to sign in that are too old to matter."""
    for purge in (sessions.purge, throttle.purge):
        while True:
            async with database.system() as session:
                if await purge(session) < PURGE_PAGE:
                    break


async def forget_counts(database: Database) -> None:
    """Delete the counts of events of days long gone."""
    while True:
        async with database.system() as session:
            if await tally.forget(session, PURGE_PAGE) < PURGE_PAGE:
                return


def once_a_day(chore: Callable[[Database], Awaitable[object]]) -> Callable[[Database], Awaitable[None]]:
    """Return the chore as one that is done when the process starts, and again as soon as a day begins in UTC.

    Every process does it: it must be one that finds nothing to do the second time.
    """
    done: date | None = None

    async def daily(database: Database) -> None:
        nonlocal done
        today = datetime.now(UTC).date()
        if done != today:
            await chore(database)
            done = today

    return daily


async def forget_deliveries(database: Database) -> None:
    """Delete what endpoints were told long ago."""
    while True:
        async with database.system() as session:
            if await webhook_log.purge(session) < webhook_log.PURGE_PAGE:
                return


async def forget_imports(database: Database) -> None:
    """Delete rows that imports refused, after their time, and files that were uploaded and never imported."""
    async with database.system() as session:
        await imports.purge(session)


async def let_go_of_stock(database: Database) -> None:
    """Let go pieces that checkouts held past their time."""
    await reserving.expire_all(database)


async def forget_refusals(database: Database) -> None:
    """Delete who was not let into journeys long ago."""
    async with database.system() as session:
        await refusals.forget(session)


async def forget_simulations(database: Database) -> None:
    """Delete simulations of journeys after their time."""
    async with database.system() as session:
        await simulation_runs.forget_old(session)


async def forget_computations(database: Database) -> None:
    """Delete what was noted of segments' computations and freshness long ago."""
    async with database.system() as session:
        await runs.forget_old(session)
        await freshness.forget(session)
