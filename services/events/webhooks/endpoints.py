"""Endpoints: made, changed, tried out and deleted."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from core.sealing import Seal
from integrations.webhooks.signing import PREFIX
from models import WebhookDelivery, WebhookEndpoint
from services.events.wanting import checked_types
from services.events.webhooks import writing
from services.shared import activity

MAX_ENDPOINTS: Final = 50
TEST: Final = "webhook.test"
"""The type of what tries an endpoint out; no event has it."""
_SECRET_BYTES: Final = 32


async def create(
    session: TenantSession,
    *,
    url: str,
    event_types: Sequence[str],
    description: str,
    batch_size: int,
    seal: Seal,
    by: Actor,
) -> tuple[WebhookEndpoint, str]:
    """Make an endpoint, and the secret that its requests are signed with, which cannot be had again.

    Raises:
        InvalidError: a type is none.
        ConflictError: there are too many.
    """
    wanted = checked_types(event_types)
    count = select(func.count()).select_from(WebhookEndpoint).where(WebhookEndpoint.tenant_id == session.tenant_id)
    if (await session.scalar(count) or 0) >= MAX_ENDPOINTS:
        raise ConflictError(f"There can be at most {MAX_ENDPOINTS} endpoints.")
    secret = _new_secret()
    endpoint = WebhookEndpoint(
        tenant_id=session.tenant_id,
        id=new_id(),
        url=url,
        description=description,
        event_types=wanted,
        batch_size=batch_size,
        secret=seal.close(secret.encode()),
    )
    session.add(endpoint)
    await session.flush()
    await session.refresh(endpoint)
    changes = {"url": (None, url), "event_types": (None, wanted), "batch_size": (None, batch_size)}
    await _record(session, endpoint, "webhook.created", changes, by)
    return endpoint, secret


async def get(session: TenantSession, endpoint_id: UUID, *, lock: bool = False) -> WebhookEndpoint:
    """Return an endpoint; with `lock` nobody else changes it before the transaction ends.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    found = await session.get(
        WebhookEndpoint, (session.tenant_id, endpoint_id), with_for_update=lock or None, populate_existing=lock
    )
    if found is None:
        raise NotFoundError(f"there is no webhook {endpoint_id}")
    return found


async def page(session: TenantSession, *, after: UUID | None, limit: int) -> Sequence[WebhookEndpoint]:
    """Return endpoints, oldest first."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.tenant_id == session.tenant_id)
    if after is not None:
        query = query.where(WebhookEndpoint.id > after)
    return (await session.scalars(query.order_by(WebhookEndpoint.id).limit(limit))).all()


async def update(session: TenantSession, endpoint_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> WebhookEndpoint:
    """Change `url`, `event_types`, `description` or `batch_size`, as far as they are given.

    What was written for the endpoint before is told to the new address.

    Raises:
        NotFoundError: the tenant has none of that id.
        InvalidError: a type is none.
    """
    endpoint = await get(session, endpoint_id, lock=True)
    wanted = dict(fields)
    if "event_types" in wanted:
        wanted["event_types"] = checked_types(wanted["event_types"])
    changes = {
        name: (getattr(endpoint, name), value) for name, value in wanted.items() if getattr(endpoint, name) != value
    }
    if changes:
        for name, (_, value) in changes.items():
            setattr(endpoint, name, value)
        endpoint.updated_at = func.now()  # pyright: ignore[reportAttributeAccessIssue]  # SQL for a column
        await _record(session, endpoint, "webhook.updated", changes, by)
        await session.flush()
        await session.refresh(endpoint)
    return endpoint


async def delete(session: TenantSession, endpoint_id: UUID, *, by: Actor) -> None:
    """Delete an endpoint with the log of its deliveries; its workflow ends.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    endpoint = await get(session, endpoint_id, lock=True)
    await _record(session, endpoint, "webhook.deleted", {"url": (endpoint.url, None)}, by)
    await session.delete(endpoint)
    await session.flush()
    await writing.wake(session, [endpoint_id])


async def rotate_secret(
    session: TenantSession, endpoint_id: UUID, *, keep_old_for: timedelta, seal: Seal, by: Actor
) -> tuple[WebhookEndpoint, str]:
    """Make a new secret; requests are signed by the old one too until `keep_old_for` is over.

    Raises:
        NotFoundError: the tenant has none of that id.
    """
    endpoint = await get(session, endpoint_id, lock=True)
    secret = _new_secret()
    until = (await session.scalars(select(func.now() + keep_old_for))).one()
    endpoint.old_secret, endpoint.old_secret_until = endpoint.secret, until
    endpoint.secret = seal.close(secret.encode())
    await session.flush()
    await _record(session, endpoint, "webhook.secret_rotated", {"old_secret_until": (None, until.isoformat())}, by)
    return endpoint, secret


async def try_out(session: TenantSession, endpoint_id: UUID, *, by: Actor) -> WebhookDelivery:
    """Have the endpoint told something that means nothing; the delivery says how it answered.

    Raises:
        NotFoundError: the tenant has none of that id.
        ConflictError: it is paused.
    """
    endpoint = await get(session, endpoint_id, lock=True)
    if endpoint.status == "paused":
        raise ConflictError("the endpoint is paused: resume it first")
    last = select(func.coalesce(func.max(WebhookDelivery.position), 0)).where(
        WebhookDelivery.tenant_id == session.tenant_id, WebhookDelivery.endpoint_id == endpoint_id
    )
    delivery_id = new_id()
    written = (
        insert(WebhookDelivery)
        .values(
            tenant_id=session.tenant_id,
            id=delivery_id,
            endpoint_id=endpoint_id,
            event_type=TEST,
            subject_id=delivery_id,
            position=last.scalar_subquery(),
        )
        .returning(WebhookDelivery)
    )
    delivery = (await session.scalars(written)).one()
    await _record(session, endpoint, "webhook.tested", {"delivery": (None, str(delivery.id))}, by)
    await writing.wake(session, [endpoint_id])
    return delivery


def _new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


async def _record(
    session: TenantSession, endpoint: WebhookEndpoint, verb: str, changes: activity.Changes, by: Actor
) -> None:
    await activity.record(session, by=by, subject_type="webhook", subject_id=endpoint.id, type=verb, changes=changes)
