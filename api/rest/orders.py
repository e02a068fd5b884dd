"""Orders: found, changed and sent, and their history."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from api.dependencies import ActorDep, ClaimDep, DatabaseDep, GatewaysDep, PrincipalDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, decode_entry, encode_cursor
from api.rest.audit import ActivityOut
from api.rest.order_shapes import (
    CancelIn,
    FulfilmentIn,
    FulfilmentOut,
    FulfilmentStatus,
    OrderOut,
    OrderPatch,
    OrderStatus,
    PaymentStatus,
    WholeOrderOut,
)
from api.routing import Router
from api.versions import VersionDep, asked
from core.database import TenantSession
from services.commerce import cancelling, fulfilments, order_changes, order_directory, orders, refunding
from services.commerce.order_directory import Filter
from services.identity import aliases
from services.shared import audit

router = Router(prefix="/orders", tags=["orders"])

parcels = Router(prefix="/fulfilments", tags=["orders"])

READ = [requires("orders:read")]
WRITE = [requires("orders:write")]


@router.get("", dependencies=READ)
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    status: OrderStatus | None = None,
    payment_status: PaymentStatus | None = None,
    fulfilment_status: FulfilmentStatus | None = None,
    person_id: UUID | None = None,
    organization_id: UUID | None = None,
    number: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[OrderOut]:
    """List orders, newest first; every filter given must hold."""
    wanted = Filter(
        status=status,
        payment_status=payment_status,
        fulfilment_status=fulfilment_status,
        person_id=None if person_id is None else await aliases.living(session, person_id),
        organization_id=organization_id,
        number=number,
    )
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await order_directory.page(session, wanted, limit=limit + 1, before=before)
    return Page(
        items=[OrderOut.of(order) for order in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{order_id}", dependencies=READ)
async def get(order_id: UUID, session: SessionDep, response: Response) -> WholeOrderOut:
    """Return an order with its lines and parcels; the header `ETag` names its version."""
    return await _whole(session, order_id, response)


@router.get("/{order_id}/history", dependencies=READ)
async def get_history(
    order_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ActivityOut]:
    """List what was done to an order, newest first, and who did it."""
    await orders.get(session, order_id)
    before = None if cursor is None else decode_entry(cursor)
    found = await audit.history(session, orders.SUBJECT, order_id, limit=limit + 1, before=before)
    return Page(
        items=[ActivityOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].at, found[limit - 1].id) if len(found) > limit else None,
    )


@router.patch("/{order_id}", dependencies=WRITE)
async def update(
    order_id: UUID,
    body: OrderPatch,
    session: SessionDep,
    actor: ActorDep,
    response: Response,
    if_match: VersionDep,
) -> WholeOrderOut:
    """Change what is noted of an order.

    409 where it is in another version than the one named.
    """
    version = asked(if_match, body.version)
    await order_changes.update(session, order_id, body.fields(), by=actor, version=version)
    return await _whole(session, order_id, response)


@router.post("/{order_id}/cancel", dependencies=WRITE)
async def cancel(  # noqa: PLR0913, PLR0917 - what a change beyond the store needs
    order_id: UUID,
    body: CancelIn,
    principal: PrincipalDep,
    actor: ActorDep,
    database: DatabaseDep,
    gateways: GatewaysDep,
    claim: ClaimDep,
    response: Response,
) -> WholeOrderOut:
    """Call an order off before anything was sent: its pieces are let go, and what was taken is given back.

    A second time changes nothing. 409 once a parcel was sent.
    """
    # Committed before the gateway is asked: what is left pending, the relay asks for.
    async with database.tenant(principal.tenant_id) as session:
        refund = await cancelling.cancel(
            session, order_id, reason=body.reason, refund=body.refund, refund_id=claim, by=actor
        )
    if refund is not None and refund.status == "pending":
        await refunding.ask(database, gateways, principal.tenant_id, refund.id, by=actor)
    async with database.tenant(principal.tenant_id) as session:
        return await _whole(session, order_id, response)


@router.post("/{order_id}/fulfilments", status_code=201, dependencies=WRITE)
async def ship(order_id: UUID, body: FulfilmentIn, session: SessionDep, actor: ActorDep) -> FulfilmentOut:
    """Send a parcel: some pieces of the order, or all that are left. They leave the stock.

    409 where the order was cancelled, or less than that is left to be sent or on hand.
    """
    return FulfilmentOut.of(await fulfilments.ship(session, order_id, body.new(), by=actor))


@parcels.post("/{fulfilment_id}/deliver", dependencies=WRITE)
async def deliver(fulfilment_id: UUID, session: SessionDep, actor: ActorDep) -> FulfilmentOut:
    """Note that a parcel arrived; a second time it changes nothing."""
    return FulfilmentOut.of(await fulfilments.deliver(session, fulfilment_id, by=actor))


async def _whole(session: TenantSession, order_id: UUID, response: Response) -> WholeOrderOut:
    whole = await order_directory.whole(session, order_id)
    response.headers["ETag"] = f'"{whole.order.version}"'
    return WholeOrderOut.whole(whole)
