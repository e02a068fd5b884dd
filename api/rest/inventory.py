"""How many pieces there are, where, and what became of them."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from fastapi import status as http
from pydantic import Field, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.product_shapes import Sku
from api.routing import Router
from services.commerce import adjusting, inventory, stock
from services.commerce.adjusting import Adjusted, Adjustment

router = Router(prefix="/inventory", tags=["inventory"])

READ = [requires("inventory:read")]
WRITE = [requires("inventory:write")]

MovementKind = Literal["receive", "adjust", "ship", "return"]
ReservationStatus = Literal["held", "shipped", "released", "expired"]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


class AdjustmentIn(Strict):
    """A correction of how many pieces of a variant lie in a place."""

    variant_id: UUID | None = None
    sku: Sku | None = None
    """Either of the two names the variant."""
    location_id: UUID | None = None
    """The first active one unless given; a tenant that has none gets one."""
    delta: StrictInt | None = None
    """What came (more than zero) or went."""
    counted: StrictInt | None = None
    """How many pieces there are; instead of `delta`."""
    kind: Literal["receive", "adjust", "return"] = "adjust"
    reference: Annotated[Text | None, Field(examples=["delivery:4711"])] = None
    """What it stands for: with its kind, variant and location it is booked once."""
    note: Text | None = None


class AdjustmentsIn(Strict):
    """Corrections, of which all are made or none."""

    adjustments: Annotated[list[AdjustmentIn], Field(min_length=1, max_length=stock.MAX_MOVEMENTS)]


class AdjustedOut(Strict):
    """A level after its correction."""

    variant_id: UUID
    sku: str
    location_id: UUID
    movement_id: UUID | None
    """Its entry in the ledger; null where the count was right."""
    delta: int
    on_hand: int
    reserved: int
    """Held for checkouts and orders."""
    available: int

    @classmethod
    def of(cls, one: Adjusted) -> "AdjustedOut":
        """Return it as it is shown."""
        return cls(
            variant_id=one.variant_id,
            sku=one.sku,
            location_id=one.location_id,
            movement_id=None if one.movement is None else one.movement.id,
            delta=0 if one.movement is None else one.movement.quantity,
            on_hand=one.on_hand,
            reserved=one.reserved,
            available=one.on_hand - one.reserved,
        )


class AdjustmentsOut(Strict):
    """Levels after their corrections, in the order given."""

    items: list[AdjustedOut]


class LevelOut(Strict):
    """How many pieces of a variant lie in a location."""

    variant_id: UUID
    location_id: UUID
    sku: str
    product_id: UUID
    product_name: str
    variant_name: str | None
    on_hand: int
    reserved: int
    """Held for checkouts and orders."""
    available: int
    """Negative where a variant on backorder was sold beyond what there is."""
    updated_at: datetime


class MovementOut(Strict):
    """An entry of the ledger."""

    id: UUID
    variant_id: UUID
    location_id: UUID
    number: int
    """From 1 without gaps, of this variant in this location."""
    kind: MovementKind
    quantity: int
    on_hand: int
    """After it."""
    reference: str | None
    note: str | None
    actor: str
    created_at: datetime


class ReservationOut(Strict):
    """Pieces held for a checkout or an order."""

    id: UUID
    cart_id: UUID
    attempt: int
    order_id: UUID | None
    variant_id: UUID
    location_id: UUID
    quantity: int
    status: ReservationStatus
    expires_at: datetime | None
    """Null once there is an order."""
    created_at: datetime
    updated_at: datetime


@router.get("", dependencies=READ)
async def list_levels(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    variant_id: UUID | None = None,
    sku: Annotated[str | None, Query(max_length=100)] = None,
    product_id: UUID | None = None,
    location_id: UUID | None = None,
    available_below: Annotated[int | None, Query(ge=-stock.MAX_PIECES, le=stock.MAX_PIECES)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[LevelOut]:
    """List levels in the order of their variants; every filter given must hold.

    `available_below` asks for those of which fewer pieces can be had.
    """
    after = None if cursor is None else decode_cursor(cursor, [UUID, UUID])
    wanted = inventory.LevelFilter(
        variant_id=variant_id, sku=sku, product_id=product_id, location_id=location_id, below=available_below
    )
    found = await inventory.levels(
        session, wanted, limit=limit + 1, after=None if after is None else (after[0], after[1])
    )
    last = found[limit - 1] if len(found) > limit else None
    return Page(
        items=[LevelOut.model_validate(one) for one in found[:limit]],
        next_cursor=None if last is None else encode_cursor(last.variant_id, last.location_id),
    )


@router.get("/movements", dependencies=READ)
async def list_movements(
    session: SessionDep,
    variant_id: UUID | None = None,
    location_id: UUID | None = None,
    kind: MovementKind | None = None,
    reference: Annotated[str | None, Query(max_length=200)] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[MovementOut]:
    """List entries of the ledger, the last first; every filter given must hold."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    wanted = inventory.MovementFilter(variant_id=variant_id, location_id=location_id, kind=kind, reference=reference)
    found = await inventory.movements(session, wanted, limit=limit + 1, before=before)
    return Page(
        items=[MovementOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/reservations", dependencies=READ)
async def list_reservations(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    variant_id: UUID | None = None,
    location_id: UUID | None = None,
    cart_id: UUID | None = None,
    order_id: UUID | None = None,
    status: ReservationStatus | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ReservationOut]:
    """List what is or was held for checkouts and orders, the last first; every filter given must hold."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    wanted = inventory.ReservationFilter(
        variant_id=variant_id, location_id=location_id, cart_id=cart_id, order_id=order_id, status=status
    )
    found = await inventory.reservations(session, wanted, limit=limit + 1, before=before)
    return Page(
        items=[ReservationOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.post("/adjustments", status_code=http.HTTP_201_CREATED, dependencies=WRITE)
async def adjust(body: AdjustmentsIn, session: SessionDep, actor: ActorDep) -> AdjustmentsOut:
    """Correct levels: all of them or none, each an entry in the ledger.

    409 where fewer pieces would be left than are held for checkouts and orders (unless the variant is on backorder),
    or fewer than none.
    """
    wanted = [Adjustment(**one.model_dump()) for one in body.adjustments]
    return AdjustmentsOut(items=[AdjustedOut.of(one) for one in await adjusting.adjust(session, wanted, by=actor)])
