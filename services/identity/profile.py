"""A person as the whole platform knows it; what other domains know is read from the views they publish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, text

from core.database import TenantSession
from models import Person
from services.identity import directory, timeline

NEWEST_ACTIVITIES = 20

_TOTALS = text("""
    SELECT tenant.base_currency, t.currency, t.order_count, t.spent_minor, t.last_order_at
    FROM tenant
    LEFT JOIN commerce_customer_totals t ON t.tenant_id = :tenant AND t.person_id = :person
    WHERE tenant.id = :tenant
    ORDER BY t.currency
""")

_ENROLLED = text("""
    SELECT journey_key FROM marketing_enrollment_facts
    WHERE tenant_id = :tenant AND subject_type = 'person' AND subject_id = :person
    GROUP BY journey_key ORDER BY max(entered_at) DESC, journey_key
""")

_ENGAGEMENT = text("""
    SELECT count(sent_at) AS sent, coalesce(sum(opens), 0)::bigint AS opens, coalesce(sum(clicks), 0)::bigint AS clicks
    FROM marketing_message_facts
    WHERE tenant_id = :tenant AND person_id = :person AND channel = 'email'
""")


@dataclass(frozen=True, slots=True)
class Customer:
    """What the person bought, net of refunds, in smallest units of each currency."""

    base_currency: str
    spent_minor: Mapping[str, int]
    """By currency. Only what was spent in the base currency can be called a total while there are no dated rates."""
    order_count: int
    """Orders not wholly refunded."""
    last_order_at: datetime | None


@dataclass(frozen=True, slots=True)
class Engagement:
    """How the person takes our mail: messages sent, and all openings and clicks of them."""

    sent: int
    opens: int
    clicks: int


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything on one page."""

    identity: directory.Shown
    customer: Customer
    enrolled: Sequence[str]
    """Keys of the journeys the person is or was in, the last entered first."""
    email_engagement: Engagement
    activities: Sequence[timeline.Entry]


async def load(session: TenantSession, person: Person) -> Profile:
    """Return the profile; six statements, however long the person's history."""
    (identity,) = await directory.show(session, [person])
    values = {"tenant": session.tenant_id, "person": person.id}
    totals = (await session.execute(_TOTALS, values)).all()
    enrolled = list(await session.scalars(_ENROLLED, values))
    engagement = (await session.execute(_ENGAGEMENT, values)).one()
    return Profile(
        identity,
        _customer(totals),
        enrolled,
        Engagement(engagement.sent, engagement.opens, engagement.clicks),
        await timeline.page(session, person.id, limit=NEWEST_ACTIVITIES),
    )


def _customer(totals: Sequence[Row[tuple[object, ...]]]) -> Customer:
    bought = [row for row in totals if row.currency is not None]
    return Customer(
        base_currency=totals[0].base_currency,
        spent_minor={row.currency: row.spent_minor for row in bought},
        order_count=sum(row.order_count for row in bought),
        last_order_at=max((row.last_order_at for row in bought), default=None),
    )
