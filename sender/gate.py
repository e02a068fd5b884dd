"""Decides at the moment of sending which messages of a page may go: clocks, quiet hours, caps and rate limits."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from core.database import Database
from sender import limits
from sender.limits import Limit, Part, Run, Taken, TenantLimits
from sender.pages import ClaimedPage
from sender.results import Result
from services.marketing import sending_rules
from services.marketing.queueing import BULK
from services.marketing.sending_rules import LONGEST_WAIT, Cap, SendingRules

_LONGEST_REST: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)
# What goes before a message counts: all sent, what waits and is more urgent, and of its own kind what was queued before
# it, for that may be on its way at another sender.
_OVER_CAP: Final = """
    SELECT asked.id
    FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::uuid[])
         AS asked(id, person_id, since, until, first_id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS number FROM message AS m
        WHERE m.tenant_id = $1 AND m.person_id = asked.person_id AND m.id >= asked.first_id
          AND m.channel = $7 AND m.priority > 0 AND m.id <> asked.id AND m.status NOT IN ('excluded', 'failed')
          AND CASE WHEN m.status = 'queued'
              THEN (m.priority < $8 OR m.priority = $8 AND m.id < asked.id) AND coalesce(
                   (SELECT ready_at FROM message_page WHERE tenant_id = $1 AND id = m.page_id) < asked.until, true)
              ELSE coalesce(m.sent_at, m.created_at) >= asked.since END
    ) AS counted
    WHERE counted.number >= $9
"""

Row = Mapping[str, Any]


@dataclass(slots=True)
class Admission:
    """What may go of a page, and what becomes of the rest."""

    rows: list[Row]
    """To be sent now, in their order."""
    excluded: list[Result] = field(default_factory=list[Result])
    ready_at: datetime | None = None
    """When the page is to come again for those put off; null: where it stands in line."""
    blocked_until: datetime | None = None
    """When a limit of all the messages like these lets more of them go."""

    def put_off(self, until: datetime) -> None:
        """Have the page come again then at the latest."""
        self.ready_at = until if self.ready_at is None else min(self.ready_at, until)


class Gate:
    """Asks of each message of a page whether it may go now."""

    def __init__(self, database: Database) -> None:
        """Take where limits are kept."""
        self._database = database

    async def admit(
        self,
        page: ClaimedPage,
        rows: Sequence[Row],
        *,
        barred: Callable[[Row], bool],
        provider: Limit | None = None,
    ) -> Admission:
        """Say what may go of the rows of a page that are still queued.

        Args:
            page: held by this sender.
            rows: as `Letters.load` gives them.
            barred: whether nothing will be sent for a row in any case, so that it takes from no limit.
            provider: the limit of what the page goes by.
        """
        admission = Admission(list(rows))
        now = datetime.now(UTC)
        rules = SendingRules.read(
            page.channel,
            time_zone=page.time_zone,
            quiet_hours=page.quiet_hours,
            frequency_caps=page.frequency_caps,
        )
        if page.local_at is not None or rules.quiet is not None:
            _by_the_clock(admission, page, rules, now)
        if page.priority == BULK:
            for cap in rules.caps:
                await self._by_cap(admission, page, rules, cap, now)
        await self._by_limits(admission, page, barred, provider)
        if admission.ready_at is not None and page.expires_at is not None:
            admission.ready_at = min(admission.ready_at, page.expires_at)
        return admission

    async def _by_cap(
        self, admission: Admission, page: ClaimedPage, rules: SendingRules, cap: Cap, now: datetime
    ) -> None:
        asked = [row for row in admission.rows if row["priority"] > 0]
        if not asked:
            return
        zones = [rules.zone(row["person_time_zone"]) for row in asked]
        since = {zone: cap.since(now, zone) for zone in set(zones)}
        until = {zone: Cap(1, 1).since(now + _DAY, zone) for zone in since}
        values = (
            [row["id"] for row in asked],
            [row["person_id"] for row in asked],
            [since[zone] for zone in zones],
            [until[zone] for zone in zones],
            [_first_id(since[zone] - LONGEST_WAIT) for zone in zones],
        )
        async with self._database.hot(page.tenant_id) as connection:
            found = await connection.fetch(
                _OVER_CAP, page.tenant_id, *values, page.channel, page.priority, cap.messages
            )
        over = {row["id"] for row in found}
        admission.excluded += [Result(each, "excluded", "capped") for each in over]
        admission.rows = [row for row in admission.rows if row["id"] not in over]

    async def _by_limits(
        self, admission: Admission, page: ClaimedPage, barred: Callable[[Row], bool], provider: Limit | None
    ) -> None:
        of_tenant = TenantLimits.of(page.tenant_id, page.channel, page.send_limits)
        shared = [limit for limit in (provider, of_tenant.channel) if limit is not None]
        run = None
        if page.run_id is not None and page.rate_per_minute is not None:
            run = Run(page.tenant_id, page.run_id)
        if not shared and run is None and not of_tenant.domains:
            return
        groups: dict[Limit | None, list[UUID]] = defaultdict(list)
        for row in admission.rows:
            if not barred(row):
                groups[of_tenant.domains.get(_domain(row["address"]))].append(row["id"])
        if not groups or (not shared and run is None and list(groups) == [None]):
            return
        parts = [Part(len(ids), limit) for limit, ids in groups.items()]
        taken = await limits.take(self._database, shared, parts, run)
        _refuse(admission, taken, parts, list(groups.values()))


def _refuse(admission: Admission, taken: Taken, parts: Sequence[Part], ids_of: Sequence[Sequence[UUID]]) -> None:
    """Put off what limits did not grant."""
    refused: set[UUID] = set()
    rest = timedelta()
    for part, ids, granted in zip(parts, ids_of, taken.granted, strict=True):
        refused.update(ids[granted:])
        if part.limit is None and granted < part.number:
            admission.blocked_until = taken.again_at
        elif part.limit is not None and not granted:
            # others take what there is: it is not worth asking again at once
            rest = max(rest, timedelta(minutes=part.number / part.limit.per_minute))
    if not refused:
        return
    admission.rows = [row for row in admission.rows if row["id"] not in refused]
    if admission.blocked_until is None and taken.again_at is not None:
        admission.put_off(taken.again_at + min(rest, _LONGEST_REST))


def _by_the_clock(admission: Admission, page: ClaimedPage, rules: SendingRules, now: datetime) -> None:
    """Put off those whose clock does not yet show the time, or shows quiet hours."""
    going: list[Row] = []
    for row in admission.rows:
        zone = rules.zone(row["person_time_zone"])
        due = now if page.local_at is None else max(now, sending_rules.local_due(page.local_at, zone))
        if rules.quiet is not None and row["priority"] > 0 and row["person_id"] is not None:
            due = rules.quiet.until(due, zone)
        if due > now:
            admission.put_off(due)
        else:
            going.append(row)
    admission.rows = going


def _domain(address: str | None) -> str:
    return (address or "").rpartition("@")[2].lower()


def _first_id(moment: datetime) -> UUID:
    """Return what ids made since `moment` are not below: they are UUIDs of version 7, which begin with the time."""
    milliseconds = max(0, int(moment.timestamp() * 1000))
    return UUID(int=milliseconds << 80 | 7 << 76 | 2 << 62)
