"""A person as the whole platform knows it; what other domains know is read from the views they publish."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.database import TenantSession
from core.errors import NotFoundError
from services.identity import directory, reading, timeline

NEWEST_ACTIVITIES: Final = 20
NEWEST_DEALS: Final = 20
NEWEST_ORDERS: Final = 20

# One statement, so one round trip and one snapshot. It begins with whom the id means: that of somebody merged away
# means the winner.
STATEMENT: Final = reading.numbered(
    f"""
    WITH who AS MATERIALIZED (
      SELECT id FROM person WHERE tenant_id = :tenant AND id = :asked
      UNION ALL
      SELECT person_id FROM person_alias WHERE tenant_id = :tenant AND id = :asked
      LIMIT 1
    )
    SELECT {reading.SHOWN},
      tenant.base_currency,
      ARRAY(SELECT ROW(t.currency, t.order_count, t.spent_minor, t.last_order_at)
            FROM commerce_customer_totals t WHERE t.tenant_id = :tenant AND t.person_id = :person
            ORDER BY t.currency) AS totals,
      ARRAY(SELECT ROW(d.id, d.title, d.status, d.pipeline_key, d.stage_key, d.amount_minor, d.currency::text,
                       d.close_date, d.closed_at, l.is_primary, l.role)
            FROM crm_deal_people l JOIN crm_deal_facts d ON d.tenant_id = :tenant AND d.id = l.deal_id
            WHERE l.tenant_id = :tenant AND l.person_id = :person
            ORDER BY d.created_at DESC, d.id DESC LIMIT {NEWEST_DEALS}) AS deals,
      ARRAY(SELECT ROW(o.order_key, o.currency::text, o.total_minor, o.refunded_minor, o.placed_at, o.counts)
            FROM commerce_order_facts o WHERE o.tenant_id = :tenant AND o.person_id = :person
            ORDER BY o.placed_at DESC, o.order_key DESC LIMIT {NEWEST_ORDERS}) AS orders,
      ARRAY(SELECT n.journey_key FROM marketing_enrollment_facts n
            WHERE n.tenant_id = :tenant AND n.subject_type = 'person' AND n.subject_id = :person
            GROUP BY n.journey_key ORDER BY max(n.entered_at) DESC, n.journey_key) AS enrolled,
      ARRAY(SELECT s.segment_key FROM marketing_segment_memberships s
            WHERE s.tenant_id = :tenant AND s.person_id = :person ORDER BY s.segment_key) AS segments,
      (SELECT ROW(count(m.sent_at), coalesce(sum(m.opens), 0)::bigint, coalesce(sum(m.clicks), 0)::bigint)
       FROM marketing_message_facts m
       WHERE m.tenant_id = :tenant AND m.person_id = :person AND m.channel = 'email') AS engagement,
      ARRAY(SELECT ROW(entry.id, entry.at, entry.kind, entry.type, entry.detail)
            FROM ({timeline.PAGE}) AS entry) AS activities
    FROM person p CROSS JOIN tenant
    WHERE p.tenant_id = :tenant AND p.id = :person AND tenant.id = :tenant
    """,  # noqa: S608 - statements of our own
    {
        "tenant": "$1",
        "asked": "$2",
        "person": "(SELECT id FROM who)",
        "at": f"'{timeline.START[0].isoformat()}'::timestamptz",
        "id": f"'{timeline.START[1]}'::uuid",
        "message_bound": f"'{timeline.START[1]}'::uuid",
        "limit": str(NEWEST_ACTIVITIES),
        "told": f"'{{{','.join(timeline.TOLD_BY_ACTIVITY)}}}'::text[]",
    },
)


_TOTALS: Final = text("""
    SELECT p.id, tenant.base_currency,
           ARRAY(SELECT ROW(t.currency, t.order_count, t.spent_minor, t.last_order_at)
                 FROM commerce_customer_totals t WHERE t.tenant_id = :tenant AND t.person_id = p.id
                 ORDER BY t.currency) AS totals
    FROM unnest(:people) AS p(id) CROSS JOIN tenant WHERE tenant.id = :tenant
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))
_ENGAGEMENT: Final = text("""
    SELECT p.id, m.sent, m.opens, m.clicks
    FROM unnest(:people) AS p(id)
    CROSS JOIN LATERAL (
      SELECT count(m.sent_at) AS sent, coalesce(sum(m.opens), 0)::bigint AS opens,
             coalesce(sum(m.clicks), 0)::bigint AS clicks
      FROM marketing_message_facts m
      WHERE m.tenant_id = :tenant AND m.person_id = p.id AND m.channel = 'email') m
""").bindparams(bindparam("people", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True)
class Customer:
    """What the person bought, net of refunds, in smallest units of each currency."""

    base_currency: str
    spent_minor: Mapping[str, int]
    """By currency. Only what was spent in the base currency can be called a total while there are no dated rates."""
    order_count: int
    """Orders not wholly refunded."""
    last_order_at: datetime | None
    base_order_count: int
    """Those of them in the base currency."""

    @property
    def average_minor(self) -> int | None:
        """What an order in the base currency brought on average, rounded to the smallest unit; None without any."""
        if not self.base_order_count:
            return None
        return round(self.spent_minor.get(self.base_currency, 0) / self.base_order_count)


@dataclass(frozen=True, slots=True)
class Engagement:
    """How the person takes our mail: messages sent, and all openings and clicks of them."""

    sent: int
    opens: int
    clicks: int


@dataclass(frozen=True, slots=True)
class DealSeen:
    """A deal that the person has a part in."""

    id: UUID
    title: str
    status: str
    pipeline: str
    """By its key, as the stage."""
    stage: str
    amount_minor: int
    currency: str
    close_date: date | None
    closed_at: datetime | None
    is_primary: bool
    """Whether the person is the primary one."""
    role: str | None
    """Of one who is not."""


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """An order of the person's, ours or an outside shop's."""

    id: str
    """As its events called it; of our own, the order's id."""
    currency: str
    total_minor: int
    refunded_minor: int
    placed_at: datetime
    counts: bool
    """Whether anything of it is left."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything on one page."""

    identity: directory.Shown
    customer: Customer
    deals: Sequence[DealSeen]
    """The newest."""
    orders: Sequence[OrderSeen]
    """The newest."""
    enrolled: Sequence[str]
    """Keys of the journeys the person is or was in, the last entered first."""
    segments: Sequence[str]
    """Keys of the segments the person is in now, sorted."""
    email_engagement: Engagement
    activities: Sequence[timeline.Entry]


async def load(connection: reading.Connection, tenant_id: UUID, person_id: UUID) -> Profile:
    """Return the profile of the person that the id means; one round trip, however long the person's history.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    row = await connection.fetchrow(STATEMENT, tenant_id, person_id)
    if row is None:
        raise NotFoundError("No such person.")
    return Profile(
        reading.shown(row),
        _customer(row["base_currency"], row["totals"]),
        [DealSeen(*deal) for deal in row["deals"]],
        [OrderSeen(*order) for order in row["orders"]],
        row["enrolled"],
        row["segments"],
        Engagement(*row["engagement"]),
        [
            timeline.Entry(entry_id, at, kind, type_, from_json(detail))
            for entry_id, at, kind, type_, detail in row["activities"]
        ],
    )


async def customers(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, Customer]:
    """Return what people bought, by person; one statement."""
    values = {"tenant": session.tenant_id, "people": sorted(set(person_ids))}
    rows = await session.execute(_TOTALS, values)
    return {row.id: _customer(row.base_currency, row.totals) for row in rows}


async def engagements(session: TenantSession, person_ids: Collection[UUID]) -> dict[UUID, Engagement]:
    """Return how people take our mail, by person; one statement."""
    values = {"tenant": session.tenant_id, "people": sorted(set(person_ids))}
    rows = await session.execute(_ENGAGEMENT, values)
    return {row.id: Engagement(row.sent, row.opens, row.clicks) for row in rows}


def _customer(base_currency: str, totals: Sequence[tuple[Any, ...]]) -> Customer:
    return Customer(
        base_currency=base_currency,
        spent_minor={currency: spent for currency, _, spent, _ in totals},
        order_count=sum(orders for _, orders, _, _ in totals),
        last_order_at=max((last for _, _, _, last in totals), default=None),
        base_order_count=sum(orders for currency, orders, _, _ in totals if currency == base_currency),
    )
