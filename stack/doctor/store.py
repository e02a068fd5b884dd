"""Looks at Postgres: the server, our roles and schema in it, and what waits there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import asyncpg
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.database import Database, driver_url
from core.presence import PRESENT
from core.settings import Settings
from migrations import run as migrations
from relay import figures
from relay.consumers import CONSUMERS, OF_DOMAIN
from stack.doctor.findings import Finding, failure, ok, skipped, warning

OLDEST, NEWEST = 15, 18
"""The major versions that the tests run on, and those between."""
ROLES: Final = ("tl_app", "tl_system", "tl_reader")
LATE_SECONDS: Final = 60.0
"""What waits longer is told of."""
NEARLY: Final = 0.9
PARKED: Final = 1_000
"""Parked members of a tenant are counted no further."""
PARKED_SECONDS: Final = 3

_SERVER: Final = """
    SELECT current_setting('server_version_num')::int / 10000 AS major, current_setting('server_version') AS version,
           current_setting('max_connections')::int AS allowed, current_setting('TimeZone') AS zone,
           (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used,
           (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) AS superuser,
           to_regclass('public.alembic_version') IS NOT NULL AS migrated
"""
_MAY_TAKE: Final = """
    SELECT name, (SELECT pg_has_role(session_user, oid, 'MEMBER') FROM pg_roles WHERE rolname = name) AS may
    FROM unnest($1::text[]) AS name
"""
# A tenant's open passages are one range of an index; those that stand parked are few among them.
_PARKED: Final = text(f"""
    SELECT count(*) FROM (
        SELECT FROM enrollment WHERE tenant_id = :tenant AND ended_at IS NULL AND NOT overlapping AND status = 'failed'
        LIMIT {PARKED}
    ) AS parked
""")  # noqa: S608 - a constant of ours


async def server(settings: Settings) -> tuple[list[Finding], bool]:
    """Look at the server and our schema; say whether our tables can be asked."""
    try:
        connection = await asyncpg.connect(driver_url(settings.database_url), timeout=10)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        do = "Start Postgres, or correct DATABASE_URL: nothing works without it."
        return [failure("postgres.reachable", f"Postgres does not answer: {_told(error)}", do)], False
    try:
        (row,) = await connection.fetch(_SERVER)
        found = dict(row)
        roles = await connection.fetch(_MAY_TAKE, list(ROLES))
        missing = [row["name"] for row in roles if not row["may"]]
        findings = [_version(found), _roles(missing, superuser=found["superuser"]), _zone(found["zone"])]
        if missing or not found["migrated"]:
            do = "Run `throughline migrate` with a login that may create roles."
            says = "the roles or tables of Throughline are missing"
            return [*findings, failure("postgres.migrations", says, do)], False
        await connection.execute("SET ROLE tl_system")
        at = await connection.fetchval("SELECT version_num FROM alembic_version")
        planned = await connection.fetchval(
            f"SELECT coalesce(sum((facts ->> 'connections')::int), 0) FROM process_beat WHERE {PRESENT}"  # noqa: S608 - a constant
        ) if at >= _SINCE else 0  # fmt: skip
    except asyncpg.InsufficientPrivilegeError:
        says = f"the schema is older than {_SINCE}, this version of the code needs {_head()}"
        return [failure("postgres.migrations", says, "Run `throughline migrate`.")], False
    except asyncpg.PostgresError as error:
        do = "Run `throughline migrate`; the login needs the roles it grants."
        return [failure("postgres.migrations", f"the schema cannot be asked: {_told(error)}", do)], False
    finally:
        await connection.close()
    schema = _schema(at)
    findings += [schema, _connections(found, planned)]
    return findings, not schema.do


_SINCE: Final = "0036"
"""The revision that brought `process_beat`."""


def _version(found: Mapping[str, Any]) -> Finding:
    says = f"PostgreSQL {found['version']}"
    if found["major"] < OLDEST:
        return failure("postgres.version", says, f"Upgrade to PostgreSQL {OLDEST} or newer.")
    if found["major"] > NEWEST:
        return warning("postgres.version", says, f"It was tried with {OLDEST} to {NEWEST} only.")
    return ok("postgres.version", says)


def _roles(missing: Sequence[str], *, superuser: bool) -> Finding:
    if missing:
        return failure(
            "postgres.roles",
            f"the login may not become {', '.join(missing)}",
            f"GRANT {', '.join(missing)} TO the login of DATABASE_URL, after `throughline migrate` made them.",
        )
    if superuser:
        return warning(
            "postgres.roles",
            "the processes' login is a superuser",
            "Give them a login of their own that may only become tl_app, tl_system and tl_reader (docs/deploying.md).",
        )
    return ok("postgres.roles", f"the login may become {', '.join(ROLES)}")


def _zone(zone: str) -> Finding:
    if zone in {"UTC", "Etc/UTC", "GMT"}:
        return ok("postgres.time_zone", zone)
    do = "ALTER DATABASE ... SET TimeZone = 'UTC': days are counted in UTC, or in a tenant's zone where that is said."
    return warning("postgres.time_zone", f"the server's time zone is {zone}", do)


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    return ScriptDirectory.from_config(config)


def _head() -> str:
    return _script().get_current_head() or "base"


def _schema(at: str) -> Finding:
    head = _head()
    if at == head:
        return ok("postgres.migrations", f"at {at}, as this version of the code has it")
    if at in {revision.revision for revision in _script().walk_revisions()}:
        says = f"the schema is at {at}, this version of the code needs {head}"
        return failure("postgres.migrations", says, "Run `throughline migrate`.")
    says = f"the schema is at {at}, which this version of the code (at {head}) does not know"
    return failure("postgres.migrations", says, "Run the doctor, and the processes, of the newer version.")


def _connections(found: Mapping[str, Any], planned: int) -> Finding:
    allowed, used = found["allowed"], found["used"]
    says = f"{used} of {allowed} connections used, the running processes may open {planned}"
    if used > allowed * NEARLY:
        return failure("postgres.connections", says, "Raise max_connections, or lower DATABASE_POOL_SIZE.")
    if planned > allowed * NEARLY:
        do = "Raise max_connections, or lower DATABASE_POOL_SIZE: under load processes will be refused connections."
        return warning("postgres.connections", says, do)
    return ok("postgres.connections", says)


async def waiting(database: Database, settings: Settings) -> list[Finding]:
    """Look at what waits in Postgres for somebody, or has waited too long."""
    try:
        found = await figures.read(database)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [failure("bus.lag", f"Postgres does not say what waits: {_told(error)}", "Ask again; see its log.")]
    of: dict[str, dict[str, float]] = defaultdict(dict)
    for figure in found:
        of[figure.name][figure.label] = figure.value
    return [
        _cursors(of),
        _lag(of, settings),
        _dead(of),
        _owed(of),
        _stuck(of),
        _messages(of),
        _webhooks(of),
        _segments(of),
        await _parked(database),
    ]


def _cursors(of: Mapping[str, Mapping[str, float]]) -> Finding:
    count = of["cursors_from_elsewhere"].get("", 0)
    if count:
        return failure(
            "bus.cursors",
            f"{count:.0f} consumers have cursors of another cluster: nothing on the bus is handled",
            "This database was restored from a dump: run `throughline restored`, once, before anything writes"
            " (docs/backup.md).",
        )
    return ok("bus.cursors", "the consumers' cursors are of this cluster")


def _lag(of: Mapping[str, Mapping[str, float]], settings: Settings) -> Finding:
    behind = {name: seconds for name, seconds in of["consumer_lag_seconds"].items() if seconds > LATE_SECONDS}
    if behind:
        told = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in sorted(behind.items()))
        return failure(
            "bus.lag",
            f"consumers are behind: {told}",
            "See whether a worker or a relay runs, its log's `relay_failed`, and docs/scaling.md if it is only busy.",
        )
    wanted = CONSUMERS if settings.domain is None else OF_DOMAIN[settings.domain]
    never = sorted({consumer.name for consumer in wanted} - of["consumer_lag_seconds"].keys())
    if never:
        return warning("bus.lag", f"have never read the bus: {', '.join(never)}", "Start a worker, or a relay.")
    worst = max(of["consumer_lag_seconds"].values(), default=0.0)
    return ok("bus.lag", f"no consumer is more than {worst:.0f} s behind")


def _dead(of: Mapping[str, Mapping[str, float]]) -> Finding:
    if of["dead_events"]:
        told = ", ".join(f"{name} {count:.0f}" for name, count in sorted(of["dead_events"].items()))
        do = "GET /v1/dead-events of the tenants tells why; once mended, POST /v1/dead-events/{id}/replay."
        return warning("bus.dead_events", f"events that could not be handled: {told}", do)
    return ok("bus.dead_events", "none")


def _owed(of: Mapping[str, Mapping[str, float]]) -> Finding:
    late = max(of["cohorts_waiting_seconds"].get("", 0), of["workflow_starts_waiting_seconds"].get("", 0))
    told = (
        f"{of['cohorts_waiting'].get('', 0):.0f} runs of journeys, {of['workflow_starts_waiting'].get('', 0):.0f} other"
        f" workflows, {of['cohort_signals_waiting'].get('', 0):.0f} signals,"
        f" {of['schedules_owed'].get('', 0):.0f} schedules"
    )
    if late > LATE_SECONDS:
        do = "See whether Temporal answers and a worker or a relay runs; its log names what is refused."
        return failure("journeys.owed", f"Temporal has been owed for {late:.0f} s: {told}", do)
    return ok("journeys.owed", f"owed to Temporal: {told}")


def _stuck(of: Mapping[str, Mapping[str, float]]) -> Finding:
    if of["cohorts_stuck"]:
        told = ", ".join(f"{count:.0f} {why}" for why, count in sorted(of["cohorts_stuck"].items()))
        do = "GET /v1/journeys/{key}/stuck names them, POST there gives their members a new workflow."
        return warning("journeys.stuck", f"runs whose members do not move: {told}", do)
    return ok("journeys.stuck", "no run is known to be stuck")


def _messages(of: Mapping[str, Mapping[str, float]]) -> Finding:
    late = {name: seconds for name, seconds in of["messages_waiting_seconds"].items() if seconds > 5 * LATE_SECONDS}
    if late:
        told = ", ".join(f"{name} for {seconds:.0f} s" for name, seconds in sorted(late.items()))
        do = "See whether a sender runs and the provider answers, and which limits hold (docs/sending.md)."
        return warning("sending.waiting", f"messages have been due: {told}", do)
    total = sum(of["messages_waiting"].values())
    return ok("sending.waiting", f"{total:.0f} messages are due")


def _webhooks(of: Mapping[str, Mapping[str, float]]) -> Finding:
    late, endpoints = of["webhook_waiting_seconds"].get("", 0), of["webhook_endpoints_waiting"].get("", 0)
    if late > 10 * LATE_SECONDS:
        do = "Of one endpoint its receiver is slow or down; of many, see the workers of the queue `webhooks`."
        return warning("webhooks.waiting", f"deliveries to {endpoints:.0f} endpoints are due, {late:.0f} s at most", do)
    return ok("webhooks.waiting", f"the first delivery that is due has waited {late:.0f} s")


def _segments(of: Mapping[str, Mapping[str, float]]) -> Finding:
    still = of["segment_refreshes_still_seconds"].get("running", 0)
    if still > 15 * LATE_SECONDS:
        do = "GET /v1/segments/{key} shows its error; see whether a worker of marketing runs."
        return warning("segments.refreshes", f"a segment's computation has stood still for {still:.0f} s", do)
    return ok("segments.refreshes", f"{sum(of['segment_refreshes_waiting'].values()):.0f} under way")


async def _parked(database: Database) -> Finding:
    total = 0
    parked: list[UUID] = []
    try:
        async with database.system() as session:
            tenants = (await session.scalars(text("SELECT id FROM tenant ORDER BY id LIMIT 1000"))).all()
        for tenant_id in tenants:
            async with database.tenant(tenant_id) as session:
                await session.execute(text(f"SET LOCAL statement_timeout = '{PARKED_SECONDS}s'"))
                count = await session.scalar(_PARKED, {"tenant": tenant_id}) or 0
            if count:
                total += count
                parked.append(tenant_id)
    except DBAPIError:
        return skipped("journeys.parked", f"not counted within {PARKED_SECONDS} s")
    if parked:
        do = "GET /v1/journeys/{key}/parked of the tenants tells where and why; retry, skip or remove them."
        return warning("journeys.parked", f"{total} members stand parked, of {len(parked)} tenants", do)
    return ok("journeys.parked", "no member stands parked")


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no answer'}"
