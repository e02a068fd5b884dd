"""What waits in Postgres, over all tenants: one statement, whose cost does not grow with what there is.

How far consumers are behind is found by one probe of an index each; what is counted is counted up to `COUNTED`.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from core.database import Database
from core.logging import get_logger
from core.presence import PRESENT
from models.messages import READY

COUNTED: Final = 10_000
"""Nothing is counted further: who has so many dead events need not know how many more."""
KEPT_SECONDS: Final = 10.0
"""Scrapes that follow one another sooner are told the same."""
PATIENCE: Final = 5.0

log = get_logger(__name__)

FAILURES: Final = Counter("throughline_figures_failures", "Times that Postgres could not be asked what waits there.")

_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "consumer_lag_events": (
        "consumer",
        "Events on the bus behind what the consumer has read; those that it does not want count for some seconds.",
    ),
    "consumer_lag_seconds": ("consumer", "How long ago the first event arrived that the consumer has not read."),
    "cursors_from_elsewhere": ("", "Consumers whose cursor was made in another cluster: they read nothing."),
    "dead_events": ("consumer", "Events that a consumer could not handle and that nobody has settled."),
    "cohorts_waiting": ("", "Runs of journeys whose workflow is still to be started."),
    "cohorts_waiting_seconds": ("", "How long the first of them has waited."),
    "cohorts_stuck": ("why", "Runs whose workflow is over, is gone or stands still while members are inside."),
    "cohort_signals_waiting": ("", "Signals that workflows of journeys are still to be sent."),
    "workflow_starts_waiting": ("", "Other workflows still to be started."),
    "workflow_starts_waiting_seconds": ("", "How long the first of them has waited."),
    "schedules_owed": ("", "Schedules that Temporal is still to be told of, or to forget."),
    "messages_waiting": ("channel", "Messages in pages that are due and that no sender holds."),
    "messages_waiting_seconds": ("channel", "How long the first of these pages has been due."),
    "messages_sending": ("channel", "Messages in pages that senders hold."),
    "segment_refreshes_waiting": ("status", "Computations of segments that are queued or running."),
    "segment_refreshes_still_seconds": ("status", "How long ago the one that moved longest ago moved."),
    "webhook_endpoints_waiting": ("", "Endpoints with deliveries that were due a minute ago."),
    "webhook_waiting_seconds": ("", "How long the first delivery that is due has waited."),
    "deployment_secrets": ("", "How many different SECRET_KEYs the running processes have: more than one is a fault."),
    "processes": ("kind", "Processes that say they are there."),
}
"""Each figure's label, if any, and what it means; as a metric it is called `throughline_` and this."""

_NOW: Final = "now()"
# One probe of an index finds the first event a consumer has not seen, however far it is behind: above its snapshot's
# end, or of a transaction that was open then, or, within a delta that is read in pages, behind its position.
STATEMENT: Final = f"""
    WITH newest AS (SELECT coalesce(max(position), 0) AS position FROM event),
    unread AS (
        SELECT c.consumer, first.position, first.received_at
        FROM consumer_cursor c CROSS JOIN LATERAL (
            SELECT e.position, e.received_at FROM (
                (SELECT position, received_at FROM event
                 WHERE c.target IS NULL AND xid >= pg_snapshot_xmax(c.seen)
                 ORDER BY xid LIMIT 1)
                UNION ALL
                (SELECT late.position, late.received_at FROM pg_snapshot_xip(c.seen) AS open(id) CROSS JOIN LATERAL (
                    SELECT position, received_at FROM event WHERE c.target IS NULL AND xid >= open.id AND xid <= open.id
                    ORDER BY xid LIMIT 1  -- with = the planner may read the table
                 ) AS late)
                UNION ALL
                (SELECT position, received_at FROM event
                 WHERE c.target IS NOT NULL AND position > c.position
                 ORDER BY position LIMIT 1)
            ) AS e ORDER BY e.received_at LIMIT 1
        ) AS first
    ),
    lags AS (
        SELECT c.consumer,
               CASE WHEN u.position IS NULL THEN 0 ELSE greatest(n.position - u.position + 1, 1) END AS events,
               coalesce(extract(epoch FROM greatest({_NOW} - u.received_at, interval '0')), 0) AS seconds
        FROM consumer_cursor c CROSS JOIN newest n LEFT JOIN unread u ON u.consumer = c.consumer
    ),
    elsewhere AS (
        SELECT 1 FROM consumer_cursor WHERE pg_snapshot_xmax(seen) > pg_snapshot_xmax(pg_current_snapshot())
    ),
    dead AS (SELECT consumer FROM dead_event WHERE resolved_at IS NULL LIMIT {COUNTED}),
    unstarted AS (SELECT created_at FROM cohort WHERE started_at IS NULL ORDER BY created_at LIMIT {COUNTED}),
    stuck AS (SELECT stuck FROM cohort WHERE stuck IS NOT NULL LIMIT {COUNTED}),
    signals AS (SELECT position FROM cohort_signal ORDER BY position LIMIT {COUNTED}),
    starts AS (SELECT created_at FROM workflow_start LIMIT {COUNTED}),
    owed AS (SELECT 1 FROM workflow_schedule WHERE applied_revision IS DISTINCT FROM revision LIMIT {COUNTED}),
    pages AS (
        SELECT channel, size, ready_at, leased_until > {_NOW} AS held FROM message_page
        WHERE {READY.text} LIMIT {COUNTED}
    ),
    refreshes AS (
        SELECT status, updated_at FROM segment_refresh WHERE status = 'queued' OR status = 'running'
        ORDER BY updated_at LIMIT {COUNTED}
    ),
    -- Endpoints with something pending: one probe for each, whatever number of deliveries waits there.
    endpoints AS (
        WITH RECURSIVE each AS (
            (SELECT tenant_id, endpoint_id, 1 AS number FROM webhook_delivery WHERE status = 'pending'
             ORDER BY tenant_id, endpoint_id LIMIT 1)
            UNION ALL
            SELECT next.tenant_id, next.endpoint_id, each.number + 1 FROM each CROSS JOIN LATERAL (
                SELECT d.tenant_id, d.endpoint_id FROM webhook_delivery d
                WHERE d.status = 'pending' AND (d.tenant_id, d.endpoint_id) > (each.tenant_id, each.endpoint_id)
                ORDER BY d.tenant_id, d.endpoint_id LIMIT 1
            ) AS next
            WHERE each.number < 1000
        )
        SELECT first.next_at FROM each CROSS JOIN LATERAL (
            SELECT d.next_at FROM webhook_delivery d
            WHERE d.tenant_id = each.tenant_id AND d.endpoint_id = each.endpoint_id AND d.status = 'pending'
            ORDER BY d.position, d.id LIMIT 1
        ) AS first
        WHERE first.next_at < {_NOW}
    ),
    present AS (SELECT kind, facts ->> 'secret' AS secret FROM process_beat WHERE {PRESENT})
    SELECT 'consumer_lag_events' AS name, consumer AS label, CAST(events AS double precision) AS value FROM lags
    UNION ALL SELECT 'consumer_lag_seconds', consumer, seconds FROM lags
    UNION ALL SELECT 'cursors_from_elsewhere', '', count(*) FROM elsewhere
    UNION ALL SELECT 'dead_events', consumer, count(*) FROM dead GROUP BY consumer
    UNION ALL SELECT 'cohorts_waiting', '', count(*) FROM unstarted
    UNION ALL SELECT 'cohorts_waiting_seconds', '', extract(epoch FROM {_NOW} - min(created_at)) FROM unstarted
    UNION ALL SELECT 'cohorts_stuck', stuck, count(*) FROM stuck GROUP BY stuck
    UNION ALL SELECT 'cohort_signals_waiting', '', count(*) FROM signals
    UNION ALL SELECT 'workflow_starts_waiting', '', count(*) FROM starts
    UNION ALL SELECT 'workflow_starts_waiting_seconds', '', extract(epoch FROM {_NOW} - min(created_at)) FROM starts
    UNION ALL SELECT 'schedules_owed', '', count(*) FROM owed
    UNION ALL SELECT 'messages_waiting', channel, sum(size) FROM pages
        WHERE held IS NOT TRUE AND ready_at <= {_NOW} GROUP BY channel
    UNION ALL SELECT 'messages_waiting_seconds', channel, extract(epoch FROM {_NOW} - min(ready_at)) FROM pages
        WHERE held IS NOT TRUE AND ready_at <= {_NOW} GROUP BY channel
    UNION ALL SELECT 'messages_sending', channel, sum(size) FROM pages WHERE held GROUP BY channel
    UNION ALL SELECT 'segment_refreshes_waiting', status, count(*) FROM refreshes GROUP BY status
    UNION ALL SELECT 'segment_refreshes_still_seconds', status, extract(epoch FROM {_NOW} - min(updated_at))
        FROM refreshes GROUP BY status
    UNION ALL SELECT 'webhook_endpoints_waiting', '', count(*) FILTER (WHERE next_at < {_NOW} - interval '1 minute')
        FROM endpoints
    UNION ALL SELECT 'webhook_waiting_seconds', '', extract(epoch FROM {_NOW} - min(next_at)) FROM endpoints
    UNION ALL SELECT 'deployment_secrets', '', count(DISTINCT secret) FROM present
    UNION ALL SELECT 'processes', kind, count(*) FROM present GROUP BY kind
"""  # noqa: S608 - constants of ours


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure."""

    name: str
    label: str
    """Of what it is; empty where there is one of it."""
    value: float


async def read(database: Database) -> list[Figure]:
    """Ask Postgres; as tl_system."""
    async with database.hot_system() as connection:
        rows = await connection.fetch(STATEMENT, timeout=PATIENCE)
    return [Figure(row["name"], row["label"], float(row["value"] or 0)) for row in rows]


class Figures(Collector):
    """The figures as metrics. Every process that has them shows the same: take the maximum, not the sum."""

    def __init__(self, database: Database) -> None:
        """Ask this database."""
        self._database = database
        self._figures: Sequence[Figure] = ()
        self._asked: float | None = None
        self._asking = asyncio.Lock()

    async def refresh(self) -> None:
        """Ask again where the last answer is old. Where Postgres does not answer there are no figures."""
        async with self._asking:
            if self._asked is not None and time.monotonic() - self._asked < KEPT_SECONDS:
                return
            try:
                self._figures = await read(self._database)
            except Exception as error:  # noqa: BLE001 - the process's own figures are to be had
                self._figures = ()
                FAILURES.inc()
                log.warning("figures.missing", error=type(error).__name__)
            self._asked = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """Yield what was found last."""
        found: dict[str, list[Figure]] = defaultdict(list)
        for figure in self._figures:
            found[figure.name].append(figure)
        for name, (label, meaning) in _NAMES.items():
            family = GaugeMetricFamily(f"throughline_{name}", meaning, labels=[label] if label else [])
            for figure in found[name]:
                family.add_metric([figure.label] if label else [], figure.value)
            yield family
