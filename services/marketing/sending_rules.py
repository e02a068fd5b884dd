"""What a tenant's settings say about when marketing may reach people, and how often: quiet hours and frequency caps.

Quiet hours and days are those of the person's clock, of the tenant's where the person's zone is not known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sqlalchemy import select, text

from core.database import TenantSession
from models import CampaignRun

Hold = Literal["pause", "cancel"]

LONGEST_WAIT: Final = timedelta(days=62)
"""A message that waited longer than this between queueing and sending is not counted by caps."""
_HELD: Final[dict[str, Hold]] = {"paused": "pause", "cancelled": "cancel"}
# One lock for all of a tenant's channels: two transactions that queue on two of them cannot wait for each other.
_READ: Final = text("""
    SELECT time_zone, quiet_hours, frequency_caps,
           CASE WHEN frequency_caps @> CAST(:caps_of_channel AS jsonb)
                THEN pg_advisory_xact_lock(31913, hashtext(CAST(id AS text))) IS NULL END AS locked
    FROM tenant WHERE tenant.id = :tenant
""")


@dataclass(frozen=True, slots=True)
class Cap:
    """At most so many marketing messages in so many calendar days, the present one the last of them."""

    messages: int
    days: int

    def since(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return when the days begin of which the one of `moment` is the last."""
        return _at(moment.astimezone(zone).date() - timedelta(days=self.days - 1), time(), zone)


@dataclass(frozen=True, slots=True)
class Quiet:
    """From when to when nothing goes out; may span midnight."""

    start: time
    end: time

    def until(self, moment: datetime, zone: ZoneInfo) -> datetime:
        """Return the end of the quiet hours that `moment` is within, else `moment`."""
        local = moment.astimezone(zone)
        clock = local.time()
        if self.start <= self.end:
            within, tomorrow = self.start <= clock < self.end, False
        else:
            within, tomorrow = not self.end <= clock < self.start, clock >= self.start
        return _at(local.date() + timedelta(days=tomorrow), self.end, zone) if within else moment


@dataclass(frozen=True, slots=True)
class SendingRules:
    """The rules for one channel as they stand; compared by value, so that a statement can be kept for them."""

    time_zone: str = "UTC"
    quiet: Quiet | None = None
    caps: tuple[Cap, ...] = ()
    hold: Hold | None = None
    """What pages of the run are held for that are queued now."""

    @classmethod
    def read(
        cls,
        channel: str,
        *,
        time_zone: str,
        quiet_hours: Mapping[str, str] | None,
        frequency_caps: Sequence[Mapping[str, Any]],
        hold: Hold | None = None,
    ) -> "SendingRules":
        """Read a tenant's settings."""
        quiet = None
        if quiet_hours is not None and quiet_hours["from"] != quiet_hours["to"]:
            quiet = Quiet(time.fromisoformat(quiet_hours["from"]), time.fromisoformat(quiet_hours["to"]))
        caps = sorted({(cap["messages"], cap["days"]) for cap in frequency_caps if cap["channel"] == channel})
        return cls(time_zone, quiet, tuple(Cap(*cap) for cap in caps), hold)

    @property
    def concern_people(self) -> bool:
        """Whether it matters whose clock it is."""
        return self.quiet is not None or bool(self.caps)

    def zone(self, of_person: str | None) -> ZoneInfo:
        """Return whose clock counts: the person's, else the tenant's, else UTC."""
        return _zone(of_person) or _zone(self.time_zone) or ZoneInfo("UTC")


async def of(session: TenantSession, *, channel: str, purpose: str, run_id: UUID | None = None) -> SendingRules:
    """Return the rules for what is queued in this transaction.

    Under caps the transactions of a tenant that queue go one after another, from here to their end, so that each counts
    what the others queued; a run stays as it is as long. Transactional messages obey no rules.
    """
    hold: Hold | None = None
    if run_id is not None:
        run = select(CampaignRun.status).where(CampaignRun.tenant_id == session.tenant_id, CampaignRun.id == run_id)
        hold = _HELD.get(await session.scalar(run.with_for_update(read=True)) or "")
    if purpose != "marketing":
        return SendingRules(hold=hold)
    asked = {"tenant": session.tenant_id, "caps_of_channel": f'[{{"channel": "{channel}"}}]'}
    row = (await session.execute(_READ, asked)).one()
    return SendingRules.read(
        channel,
        time_zone=row.time_zone,
        quiet_hours=row.quiet_hours,
        frequency_caps=row.frequency_caps,
        hold=hold,
    )


def local_due(local: datetime, zone: ZoneInfo) -> datetime:
    """Return when clocks of a zone first show a time; one that they skip comes an hour later."""
    return local.replace(tzinfo=zone, fold=0).astimezone(UTC)


def _at(day: date, clock: time, zone: ZoneInfo) -> datetime:
    """Return a time of a day as the server's AT TIME ZONE has it.

    The later of two where it comes twice; where clocks skip it, so much after the skip as it was after its beginning.
    """
    local = datetime.combine(day, clock)
    return max(local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))


@cache
def _zone(name: str | None) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder's name, or a path out of the database
        return None
