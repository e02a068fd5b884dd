"""What messages brought: each order is credited to the last touch before it.

A touch is a person's first click or first open of a mail, and the delivery of a text or push message, if it was sent
by a campaign or a journey. What machines do is none. The latest touch wins whatever its kind; of two at one moment
the click. It must lie within its channel's window before the order was placed.

The credits are a function of the messages and of what is known of the orders, so that computing them again gives
the same rows as were kept all along. Somebody erased leaves theirs as they were.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime, Integer, Text, Uuid

from contracts.attribution import WORKFLOW, AttributionInput
from contracts.events import PERSON_MERGED, PERSON_ORDERS_CHANGED, PERSON_UNMERGED
from core.actor import Actor
from core.database import TenantSession
from core.errors import InvalidError
from core.ids import new_id
from models import Tenant
from services.events.bus import Consumer, EventRow
from services.shared import activity, starts

WINDOWS: Final[Mapping[str, int]] = {"email": 120, "sms": 12, "push": 24}
"""Hours after a touch in which an order is credited to it, by channel."""
PAGE: Final = 1_000
"""People whose orders are credited in one statement."""

_PERIOD: Final = """
    o.tenant_id = :tenant AND o.person_id IS NOT NULL
    AND (:since IS NULL OR o.placed_at >= :since) AND (:until IS NULL OR o.placed_at < :until)
"""
# One row an order, in the order of keys, so that two that credit the same orders wait for one another.
_CREDIT: Final = text(f"""
    WITH bought AS MATERIALIZED (
        SELECT o.order_key, o.person_id, o.currency, o.total_minor - o.refunded_minor AS amount_minor, o.placed_at
        FROM commerce_order_facts o
        WHERE {_PERIOD} AND o.person_id = ANY(:people)
    ), credited AS MATERIALIZED (
        SELECT b.*, t.*
        FROM bought b
        CROSS JOIN LATERAL (
            SELECT m.id AS message_id, m.campaign_id, m.enrollment_id, m.channel, touch.kind, touch.at
            FROM message m
            JOIN unnest(:channels, :hours) AS w(channel, hours) ON w.channel = m.channel
            CROSS JOIN LATERAL (VALUES
                (0, 'click', CASE WHEN m.clicks > 0 THEN m.clicked_at END),
                (1, 'open', CASE WHEN m.opens > 0 AND m.channel = 'email' THEN m.opened_at END),
                (2, 'delivery', CASE WHEN m.channel IN ('sms', 'push') AND m.status IN ('sent', 'delivered')
                                     THEN m.sent_at END)
            ) AS touch(place, kind, at)
            WHERE m.tenant_id = :tenant AND m.person_id = b.person_id
              AND (m.campaign_id IS NOT NULL OR m.enrollment_id IS NOT NULL)
              AND touch.at <= b.placed_at AND touch.at > b.placed_at - make_interval(hours => w.hours)
            ORDER BY touch.at DESC, touch.place, m.id DESC
            LIMIT 1
        ) AS t
    ), dropped AS (
        DELETE FROM conversion c USING bought b
        WHERE c.tenant_id = :tenant AND c.order_key = b.order_key
          AND NOT EXISTS (SELECT FROM credited k WHERE k.order_key = b.order_key)
    )
    INSERT INTO conversion AS c (tenant_id, id, person_id, order_key, message_id, campaign_id, enrollment_id, channel,
                                 touch, touched_at, converted_at, currency, amount_minor)
    SELECT :tenant AS tenant_id, tl_uuid7(), k.person_id, k.order_key, k.message_id, k.campaign_id, k.enrollment_id,
           k.channel, k.kind, k.at, k.placed_at, k.currency, k.amount_minor
    FROM credited k ORDER BY k.order_key
    ON CONFLICT (tenant_id, order_key) DO UPDATE
    SET person_id = excluded.person_id, message_id = excluded.message_id, campaign_id = excluded.campaign_id,
        enrollment_id = excluded.enrollment_id, channel = excluded.channel, touch = excluded.touch,
        touched_at = excluded.touched_at, converted_at = excluded.converted_at, currency = excluded.currency,
        amount_minor = excluded.amount_minor
    WHERE (c.person_id, c.message_id, c.touch, c.touched_at, c.converted_at, c.currency, c.amount_minor)
          IS DISTINCT FROM (excluded.person_id, excluded.message_id, excluded.touch, excluded.touched_at,
                            excluded.converted_at, excluded.currency, excluded.amount_minor)
""").bindparams(  # noqa: S608 - the text is ours
    bindparam("people", type_=ARRAY(Uuid)),
    bindparam("channels", type_=ARRAY(Text)),
    bindparam("hours", type_=ARRAY(Integer)),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)
_PEOPLE: Final = text(f"""
    SELECT DISTINCT o.person_id FROM commerce_order_facts o
    WHERE {_PERIOD} AND o.person_id > :after
    ORDER BY o.person_id LIMIT :limit
""").bindparams(  # noqa: S608 - the text is ours
    bindparam("after", type_=Uuid),
    bindparam("since", type_=DateTime(timezone=True)),
    bindparam("until", type_=DateTime(timezone=True)),
)


async def windows(session: TenantSession) -> dict[str, int]:
    """Return the hours of each channel's window, the tenant's own where it has them."""
    own: Mapping[str, Any] | None = await session.scalar(
        select(Tenant.attribution_hours).where(Tenant.id == session.tenant_id)
    )
    return {channel: int((own or {}).get(channel, hours)) for channel, hours in WINDOWS.items()}


async def credit(
    session: TenantSession, people: Sequence[UUID], *, since: datetime | None = None, until: datetime | None = None
) -> None:
    """Credit these people's orders, those placed in the period if one is given; again it changes nothing."""
    if not people:
        return
    hours = await windows(session)
    await session.execute(
        _CREDIT,
        {
            "tenant": session.tenant_id,
            "people": sorted(people),
            "channels": list(hours),
            "hours": list(hours.values()),
            "since": since,
            "until": until,
        },
    )


async def recompute(session: TenantSession, *, since: datetime | None, until: datetime | None, by: Actor) -> UUID:
    """Have orders placed in a period credited again in the background, by what is known now; return its id.

    Raises:
        InvalidError: the period ends before it begins.
    """
    if since is not None and until is not None and until <= since:
        raise InvalidError.of("until", "must be after from")
    recomputation = new_id()
    await starts.owe(
        session,
        workflow=WORKFLOW,
        entity_id=recomputation,
        input=AttributionInput(tenant_id=session.tenant_id, since=since, until=until),
        domain=starts.MARKETING,
    )
    await activity.record(
        session,
        by=by,
        subject_type="tenant",
        subject_id=session.tenant_id,
        type="attribution.recomputed",
        changes={"from": (None, since and since.isoformat()), "until": (None, until and until.isoformat())},
    )
    return recomputation


async def recompute_page(
    session: TenantSession, *, since: datetime | None, until: datetime | None, after: UUID | None
) -> tuple[int, UUID | None]:
    """Credit again the orders placed in a period, of the next people; return how many those are and the last.

    None for the last where there are no more of them.
    """
    found = await session.scalars(
        _PEOPLE,
        {"tenant": session.tenant_id, "since": since, "until": until, "after": after or UUID(int=0), "limit": PAGE},
    )
    people: list[UUID] = list(found.all())
    await credit(session, people, since=since, until=until)
    return len(people), people[-1] if len(people) == PAGE else None


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Credit the orders of people whose orders, or messages, are others now."""
    named = {UUID(event.properties[name]) for event in events for name in _NAMES if name in event.properties}
    await credit(session, sorted(named | {event.person_id for event in events if event.person_id is not None}))


_NAMES: Final = ("winner_id", "loser_id")

CONSUMER: Final = Consumer("attribution", handle, frozenset({PERSON_ORDERS_CHANGED, PERSON_MERGED, PERSON_UNMERGED}))
