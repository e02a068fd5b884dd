"""What each long-running process does beside its work: it is measured, and says in Postgres that it is there.

`throughline doctor` reads from the latter whether all processes of a deployment agree: on `SECRET_KEY`, on the version
of the code, on Temporal's namespace, on `PUBLIC_URL` and on what time it is.
"""

import asyncio
import hashlib
import hmac
import json
import os
import socket
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from importlib.metadata import version
from typing import Any, Final, Literal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core import metrics, temporal
from core.database import Database
from core.exposition import Exposition, Refresh, exposed
from core.ids import new_id
from core.logging import get_logger
from core.settings import Settings

Kind = Literal["api", "worker", "relay", "sender", "inbound"]

BEAT: Final = timedelta(seconds=60)
"""How often a process says that it is there."""
GONE_AFTER: Final = 2.5 * BEAT
"""One that has been silent for so long is not there."""
PRESENT: Final = f"seen_at > now() - interval '{GONE_AFTER.total_seconds():.0f} s'"
"""In SQL: a row of `process_beat` whose process is there."""
_FIRST_RETRY: Final = 5.0
_TICK: Final = 1.0
_LABEL: Final = b"throughline: which SECRET_KEY a process has"

_BEAT: Final = """
    WITH forgotten AS (DELETE FROM process_beat WHERE seen_at < now() - interval '1 day')
    INSERT INTO process_beat (id, kind, facts) VALUES ($1, $2, $3::jsonb)
    ON CONFLICT (id) DO UPDATE SET facts = excluded.facts, seen_at = now()
    RETURNING clock_timestamp()
"""
_END: Final = "DELETE FROM process_beat WHERE id = $1"

log = get_logger(__name__)


def fingerprint(settings: Settings) -> str:
    """Return what tells one `SECRET_KEY` from another, and nothing of it."""
    return hmac.new(settings.secret_key.get_secret_value().encode(), _LABEL, hashlib.sha256).hexdigest()[:16]


class PoolUse(Collector):
    """How many connections to Postgres the process has, and how many of them are lent."""

    def __init__(self, database: Database) -> None:
        """Look at this database's pools."""
        self._database = database

    def collect(self) -> list[Metric]:
        """Return the figures of this moment."""
        open_ = GaugeMetricFamily(
            "throughline_database_connections", "Connections to Postgres.", labels=["pool", "state"]
        )
        limits = GaugeMetricFamily(
            "throughline_database_connections_limit", "How many there may be of a pool.", labels=["pool"]
        )
        for name, use in self._database.pools().items():
            open_.add_metric([name, "lent"], use.lent)
            open_.add_metric([name, "idle"], use.idle)
            limits.add_metric([name], use.limit)
        return [open_, limits]


@asynccontextmanager
async def present(
    kind: Kind,
    database: Database,
    settings: Settings,
    *,
    collectors: Sequence[Collector] = (),
    refresh: Refresh | None = None,
    temporals: bool = False,
) -> AsyncGenerator[None]:
    """Be there while the block runs.

    Args:
        kind: what the process does.
        database: where that is noted, and whose pools are shown.
        settings: the process's.
        collectors: figures to show besides its own.
        refresh: brings them up to date.
        temporals: whether it has a client of Temporal's, whose figures are shown too.
    """
    metrics.INFO.labels(kind, settings.domain or "all", version("throughline"), settings.worker_version or "").set(1)
    async with _measured(database, settings, collectors, refresh, temporals=temporals):
        beats = asyncio.create_task(_beat(kind, database, settings), name="presence")
        ticks = asyncio.create_task(_tick(), name="loop-lag")
        try:
            yield
        finally:
            for task in (beats, ticks):
                task.cancel()
            await asyncio.gather(beats, ticks, return_exceptions=True)


@asynccontextmanager
async def _measured(
    database: Database,
    settings: Settings,
    collectors: Sequence[Collector],
    refresh: Refresh | None,
    *,
    temporals: bool,
) -> AsyncGenerator[None]:
    if settings.metrics_listen is None:
        yield
        return
    beside = temporal.measured()[1] if temporals else None
    exposition = Exposition([PoolUse(database), *collectors], refresh=refresh, beside=beside)
    async with exposed(exposition, settings.metrics_listen):
        yield


async def _tick() -> None:
    while True:
        due = time.monotonic() + _TICK
        await asyncio.sleep(_TICK)
        metrics.LOOP_LAG.set(max(0.0, time.monotonic() - due))


async def _beat(kind: Kind, database: Database, settings: Settings) -> None:
    own = new_id()
    facts: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "domain": settings.domain,
        "version": version("throughline"),
        "secret": fingerprint(settings),
        "temporal": f"{settings.temporal_address}/{settings.temporal_namespace}",
        "public_url": settings.public_url,
        "connections": sum(use.limit for use in database.pools().values()),
    }
    try:
        while True:
            try:
                async with database.hot_system() as connection:
                    began = time.time()
                    now: datetime = await connection.fetchval(_BEAT, own, kind, json.dumps(facts))
                    # Half of the way there and back: that is as well as it can be known.
                    skew = (began + time.time()) / 2 - now.timestamp()
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the store, the work itself tells
                log.info("presence.not_noted", error=type(error).__name__)
                await asyncio.sleep(_FIRST_RETRY)
                continue
            metrics.CLOCK_SKEW.set(skew)
            first = "skew" not in facts
            facts["skew"] = round(skew, 3)
            await asyncio.sleep(0 if first else BEAT.total_seconds())
    finally:
        with suppress(Exception):
            async with asyncio.timeout(2), database.hot_system() as connection:
                await connection.execute(_END, own)
