"""Pausing an endpoint, by hand or by itself, and having it go on."""

from datetime import datetime
from typing import Final, Literal

from sqlalchemy import func, select, text

from contracts.events import WEBHOOK_PAUSED, WEBHOOK_RESUMED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError
from models import WebhookEndpoint
from services.events.publish import NewEvent, publish
from services.events.wanting import ALL, parted
from services.events.webhooks import writing
from services.shared import activity

Reason = Literal["manual", "failing", "gone"]

_MISSED: Final = text("""
    WITH written AS (
    INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_id, event_type, subject_id, person_id, position)
    SELECT :tenant AS tenant_id, gen_random_uuid(), :endpoint, e.id, e.type, e.subject_id, e.person_id, e.position
    FROM event e
    WHERE e.tenant_id = :tenant AND e.received_at >= :since AND e.received_at <= :until
      AND (:all OR e.type = ANY(:types) OR split_part(e.type, '.', 1) = ANY(:words))
    ON CONFLICT (tenant_id, endpoint_id, event_id) WHERE event_id IS NOT NULL DO NOTHING
    RETURNING id
    )
    SELECT count(*) FROM written
""")


async def pause(session: TenantSession, endpoint: WebhookEndpoint, *, because: Reason, by: Actor) -> None:
    """Tell the endpoint nothing more until it is resumed.

    Raises:
        ConflictError: it is paused already.
    """
    if endpoint.status == "paused":
        raise ConflictError("the endpoint is paused already")
    now = await session.scalar(select(func.now()))
    endpoint.status, endpoint.paused_because, endpoint.paused_at = "paused", because, now
    await _told(session, endpoint, WEBHOOK_PAUSED, ("active", "paused"), {"because": because}, by)


async def resume(session: TenantSession, endpoint: WebhookEndpoint, *, missed: bool, by: Actor) -> int:
    """Go on where it stopped, and with `missed` tell what happened meanwhile; return how many events those are.

    Raises:
        ConflictError: it is not paused.
    """
    if endpoint.paused_at is None:
        raise ConflictError("the endpoint is not paused")
    since = endpoint.paused_at
    endpoint.status, endpoint.paused_because, endpoint.paused_at = "active", None, None
    endpoint.failing_since = None
    told = 0
    if missed:
        now = (await session.scalars(select(func.now()))).one()
        told = await write_missed(session, endpoint, since=since, until=now)
    await session.execute(
        text("""
            UPDATE webhook_delivery SET next_at = now(), attempts = 0
            WHERE tenant_id = :tenant AND endpoint_id = :endpoint AND status = 'pending' AND attempts > 0
        """),
        {"tenant": session.tenant_id, "endpoint": endpoint.id},
    )
    await _told(session, endpoint, WEBHOOK_RESUMED, ("paused", "active"), {"missed": told}, by)
    await writing.wake(session, [endpoint.id])
    return told


async def write_missed(session: TenantSession, endpoint: WebhookEndpoint, *, since: datetime, until: datetime) -> int:
    """Write the events received in this time that the endpoint wants and was never to be told; return how many."""
    types, words = parted(endpoint.event_types)
    written = await session.scalar(
        _MISSED,
        {
            "tenant": session.tenant_id,
            "endpoint": endpoint.id,
            "since": since,
            "until": until,
            "all": ALL in endpoint.event_types,
            "types": types,
            "words": words,
        },
    )
    return written or 0


async def _told(
    session: TenantSession,
    endpoint: WebhookEndpoint,
    verb: str,
    change: tuple[str, str],
    more: dict[str, str | int],
    by: Actor,
) -> None:
    await session.flush()
    await activity.record(
        session,
        by=by,
        subject_type="webhook",
        subject_id=endpoint.id,
        type=verb,
        changes={"status": change, **{name: (None, value) for name, value in more.items()}},
    )
    event = NewEvent(
        type=verb, subject_type="webhook", subject_id=endpoint.id, properties={"url": endpoint.url, **more}
    )
    await publish(session, [event])
