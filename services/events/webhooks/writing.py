"""What endpoints are to be told: written by a consumer of the bus, with the move of its cursor, so once each."""

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, bindparam, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from contracts.webhooks import WOKEN, WORKFLOW, EndpointRef
from core.database import TenantSession
from core.ids import new_ids
from core.temporal import WEBHOOK_QUEUE
from models import WebhookEndpoint
from services.events.bus import Consumer, EventRow
from services.events.wanting import wants
from services.shared import starts

_WRITE: Final = text("""
    INSERT INTO webhook_delivery (tenant_id, id, endpoint_id, event_id, event_type, subject_id, person_id, position)
    SELECT :tenant AS tenant_id, d.id, d.endpoint_id, d.event_id, d.event_type, d.subject_id, d.person_id, d.position
    FROM unnest(:ids, :endpoints, :events, :types, :subjects, :people, :positions)
      AS d(id, endpoint_id, event_id, event_type, subject_id, person_id, position)
    ON CONFLICT (tenant_id, endpoint_id, event_id) WHERE event_id IS NOT NULL DO NOTHING
""").bindparams(
    *(bindparam(name, type_=ARRAY(Uuid)) for name in ("ids", "endpoints", "events", "subjects", "people")),
    bindparam("types", type_=ARRAY(Text)),
    bindparam("positions", type_=ARRAY(BigInteger)),
)


async def concerning(session: TenantSession, types: frozenset[str]) -> frozenset[str]:
    """Return which of these types some active endpoint wants."""
    wanted = [endpoint.event_types for endpoint in await _active(session)]
    return frozenset(each for each in types if any(wants(event_types, each) for event_types in wanted))


async def _active(session: TenantSession) -> Sequence[Any]:
    endpoint = WebhookEndpoint
    active = select(endpoint.id, endpoint.event_types, endpoint.created_at).where(
        endpoint.tenant_id == session.tenant_id, endpoint.status == "active"
    )
    return (await session.execute(active.order_by(endpoint.id))).all()


async def handle(session: TenantSession, events: Sequence[EventRow]) -> None:
    """Write, for each active endpoint, the events it wants that came after it was made; wake those that sleep."""
    told = [
        (endpoint.id, event)
        for endpoint in await _active(session)
        for event in events
        if wants(endpoint.event_types, event.type) and event.received_at >= endpoint.created_at
    ]
    if not told:
        return
    # Locked, so that whoever goes to sleep meanwhile sees what is written here first; one paused since is left out.
    # Shared with who notes what came of deliveries: neither waits for the other's two thousand rows.
    locked = await session.execute(
        select(WebhookEndpoint.id, WebhookEndpoint.idle)
        .where(
            WebhookEndpoint.tenant_id == session.tenant_id,
            WebhookEndpoint.id.in_({endpoint_id for endpoint_id, _ in told}),
            WebhookEndpoint.status == "active",
        )
        .order_by(WebhookEndpoint.id)
        .with_for_update(read=True)
    )
    idle = {row.id: row.idle for row in locked}
    told = [(endpoint_id, event) for endpoint_id, event in told if endpoint_id in idle]
    await session.execute(
        _WRITE,
        {
            "tenant": session.tenant_id,
            "ids": new_ids(len(told)),
            "endpoints": [endpoint_id for endpoint_id, _ in told],
            "events": [event.id for _, event in told],
            "types": [event.type for _, event in told],
            "subjects": [event.subject_id for _, event in told],
            "people": [event.person_id for _, event in told],
            "positions": [event.position for _, event in told],
        },
    )
    await wake(session, [endpoint_id for endpoint_id, sleeps in idle.items() if sleeps])


async def wake(session: TenantSession, endpoints: Sequence[UUID]) -> None:
    """Have the workflows of endpoints look; one that was never begun begins."""
    if not endpoints:
        return
    await session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.tenant_id == session.tenant_id, WebhookEndpoint.id.in_(endpoints))
        .values(idle=False)
    )
    for endpoint_id in endpoints:
        await starts.owe(
            session,
            workflow=WORKFLOW,
            entity_id=endpoint_id,
            input=EndpointRef(tenant_id=session.tenant_id, endpoint_id=endpoint_id),
            signal=WOKEN,
            queue=WEBHOOK_QUEUE,
        )


CONSUMER: Final = Consumer("webhooks", handle, concerning=concerning, only_with="webhook_endpoint")
