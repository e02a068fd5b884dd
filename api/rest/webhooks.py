"""Webhooks: addresses that are told of events, the log of what they were told, and telling them again."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response, status

from api.dependencies import ActorDep, SessionDep, SettingsDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.webhook_shapes import (
    DeliveryOut,
    DeliveryWithRequest,
    NewWebhook,
    Replay,
    Replayed,
    Resumed,
    Resumption,
    Rotation,
    WebhookOut,
    WebhookPatch,
    WebhookWithSecret,
)
from api.routing import Router
from core.errors import InvalidError
from core.sealing import Seal
from core.settings import Settings
from integrations import outward
from models import WebhookEndpoint
from services.events.webhooks import endpoints, log, pausing

router = Router(prefix="/webhooks", tags=["webhooks"])

READ = [requires("webhooks:read")]
WRITE = [requires("webhooks:write")]


async def _check(url: str, settings: Settings) -> None:
    try:
        await outward.check_host(url, private=settings.allow_private_hosts)
    except ValueError as error:
        raise InvalidError.of("url", str(error)) from error


def _seal(settings: Settings) -> Seal:
    return Seal(settings.secret_key.get_secret_value())


def _with_secret(endpoint: WebhookEndpoint, secret: str, response: Response) -> WebhookWithSecret:
    response.headers["Cache-Control"] = "no-store"
    return WebhookWithSecret(**WebhookOut.model_validate(endpoint).model_dump(), secret=secret)


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(
    body: NewWebhook, session: SessionDep, actor: ActorDep, settings: SettingsDep, response: Response
) -> WebhookWithSecret:
    """Make an endpoint. It is told of what happens from now on; the secret is shown this once."""
    await _check(body.url, settings)
    endpoint, secret = await endpoints.create(
        session,
        url=body.url,
        event_types=body.event_types,
        description=body.description,
        batch_size=body.batch_size,
        seal=_seal(settings),
        by=actor,
    )
    return _with_secret(endpoint, secret, response)


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[WebhookOut]:
    """List endpoints, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await endpoints.page(session, limit=limit + 1, after=after)
    return Page(
        items=[WebhookOut.model_validate(endpoint) for endpoint in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/deliveries/{delivery_id}", dependencies=READ)
async def get_delivery(delivery_id: UUID, session: SessionDep) -> DeliveryWithRequest:
    """Return a delivery with what is posted and how it was answered."""
    delivery = await log.get(session, delivery_id)
    endpoint = await endpoints.get(session, delivery.endpoint_id)
    request: dict[str, Any] = await log.told(session, delivery)
    shown = DeliveryOut.model_validate(delivery).model_dump()
    return DeliveryWithRequest(**shown, url=endpoint.url, request=request)


@router.post("/deliveries/{delivery_id}/replay", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def replay_delivery(delivery_id: UUID, session: SessionDep, actor: ActorDep) -> DeliveryOut:
    """Make a delivery once more, under the same id."""
    return DeliveryOut.model_validate(await log.replay(session, delivery_id, by=actor))


@router.get("/{webhook_id}", dependencies=READ)
async def get(webhook_id: UUID, session: SessionDep) -> WebhookOut:
    """Return an endpoint."""
    return WebhookOut.model_validate(await endpoints.get(session, webhook_id))


@router.patch("/{webhook_id}", dependencies=WRITE)
async def update(
    webhook_id: UUID, body: WebhookPatch, session: SessionDep, actor: ActorDep, settings: SettingsDep
) -> WebhookOut:
    """Change an endpoint; what waits for it goes to the new address."""
    if body.url is not None:
        await _check(body.url, settings)
    fields = body.model_dump(exclude_none=True)
    return WebhookOut.model_validate(await endpoints.update(session, webhook_id, fields, by=actor))


@router.delete("/{webhook_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(webhook_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete an endpoint, with its log."""
    await endpoints.delete(session, webhook_id, by=actor)


@router.post("/{webhook_id}/pause", dependencies=WRITE)
async def pause(webhook_id: UUID, session: SessionDep, actor: ActorDep) -> WebhookOut:
    """Tell the endpoint nothing until it is resumed."""
    endpoint = await endpoints.get(session, webhook_id, lock=True)
    await pausing.pause(session, endpoint, because="manual", by=actor)
    return WebhookOut.model_validate(endpoint)


@router.post("/{webhook_id}/resume", dependencies=WRITE)
async def resume(webhook_id: UUID, session: SessionDep, actor: ActorDep, body: Resumption | None = None) -> Resumed:
    """Go on where it stopped; unless `missed` is false, with what happened meanwhile."""
    endpoint = await endpoints.get(session, webhook_id, lock=True)
    missed = await pausing.resume(session, endpoint, missed=(body or Resumption()).missed, by=actor)
    await session.refresh(endpoint)
    return Resumed(**WebhookOut.model_validate(endpoint).model_dump(), missed=missed)


@router.post("/{webhook_id}/test", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def try_out(webhook_id: UUID, session: SessionDep, actor: ActorDep) -> DeliveryOut:
    """Send the endpoint something of type `webhook.test`; the delivery tells how it answers."""
    return DeliveryOut.model_validate(await endpoints.try_out(session, webhook_id, by=actor))


@router.post("/{webhook_id}/rotate-secret", dependencies=WRITE)
async def rotate_secret(
    webhook_id: UUID,
    session: SessionDep,
    actor: ActorDep,
    settings: SettingsDep,
    response: Response,
    body: Rotation | None = None,
) -> WebhookWithSecret:
    """Make a new secret, shown this once; for a day, unless said otherwise, requests are signed by the old one too."""
    hours = (body or Rotation()).keep_old_hours
    endpoint, secret = await endpoints.rotate_secret(
        session, webhook_id, keep_old_for=timedelta(hours=hours), seal=_seal(settings), by=actor
    )
    return _with_secret(endpoint, secret, response)


@router.post("/{webhook_id}/replay", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def replay(webhook_id: UUID, body: Replay, session: SessionDep, actor: ActorDep) -> Replayed:
    """Tell all events of a time once more, in their order: those never told, too."""
    until = body.until or datetime.now(UTC)
    for name, value in (("since", body.since), ("until", until)):
        if value.tzinfo is None:
            raise InvalidError.of(name, "must say its offset from UTC, as in 2026-01-31T09:00:00Z")
    if until <= body.since:
        raise InvalidError.of("until", "must be after since")
    count = await log.replay_range(
        session, webhook_id, since=body.since, until=until, only_failed=body.only_failed, by=actor
    )
    return Replayed(deliveries=count)


@router.get("/{webhook_id}/deliveries", dependencies=READ)
async def deliveries(
    webhook_id: UUID,
    session: SessionDep,
    status: Literal["pending", "delivered", "failed"] | None = None,
    event_type: Annotated[str | None, Query(max_length=100)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[DeliveryOut]:
    """List what the endpoint was and is to be told, the newest event first."""
    await endpoints.get(session, webhook_id)
    before: tuple[int, UUID] | None = None
    if cursor is not None:
        position, delivery_id = decode_cursor(cursor, [int, UUID])
        before = position, delivery_id
    found = await log.page(session, webhook_id, status=status, event_type=event_type, before=before, limit=limit + 1)
    last = found[limit - 1] if len(found) > limit else None
    return Page(
        items=[DeliveryOut.model_validate(delivery) for delivery in found[:limit]],
        next_cursor=encode_cursor(last.position, last.id) if last else None,
    )
