"""Carts: made, filled, changed, joined and found."""

from uuid import UUID

from fastapi import Response, status

from api.dependencies import ActorDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.cart_shapes import (
    CartIn,
    CartOut,
    CartPatch,
    CartStatus,
    JoinIn,
    LinePatch,
    NewLine,
    OfferOut,
    OffersOut,
)
from api.routing import Router
from api.versions import VersionDep, asked
from services.commerce import cart_lines, cart_pricing, carts
from services.commerce.cart_pricing import CartView

router = Router(prefix="/carts", tags=["carts"])

READ = [requires("carts:read")]
WRITE = [requires("carts:write")]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: CartIn, session: SessionDep, actor: ActorDep, response: Response) -> CartOut:
    """Make a cart; a guest's has no person yet."""
    return _answer(await carts.create(session, body.fields(), body.wanted(), by=actor), response)


@router.get("", dependencies=READ)
async def find(
    session: SessionDep,
    person_id: UUID | None = None,
    status: CartStatus | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[CartOut]:
    """List carts, newest first; every filter given must hold."""
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await carts.page(session, person_id=person_id, status=status, limit=limit + 1, before=before)
    return Page(
        items=[CartOut.of(view) for view in await carts.views(session, found[:limit])],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{cart_id}", dependencies=READ)
async def get(cart_id: UUID, session: SessionDep, response: Response) -> CartOut:
    """Return a cart with what it costs now; the header `ETag` names its version."""
    return _answer(await carts.view(session, await carts.get(session, cart_id)), response)


@router.patch("/{cart_id}", dependencies=WRITE)
async def update(
    cart_id: UUID, body: CartPatch, session: SessionDep, actor: ActorDep, response: Response, if_match: VersionDep
) -> CartOut:
    """Change an open cart.

    409 where it is not open, or in another version than the one named.
    """
    version = asked(if_match, body.version)
    return _answer(await carts.change(session, cart_id, body.fields(), by=actor, version=version), response)


@router.get("/{cart_id}/shipping-methods", dependencies=READ)
async def get_offers(cart_id: UUID, session: SessionDep) -> OffersOut:
    """List the ways to send a cart: those in its currency that go where it goes, as far as that is known."""
    cart = await carts.get(session, cart_id)
    found = await carts.view(session, cart)
    offers = await cart_pricing.offers_for(session, cart)
    return OffersOut(items=[OfferOut.of(offer, found) for offer in offers])


@router.post("/{cart_id}/lines", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def add_line(
    cart_id: UUID, body: NewLine, session: SessionDep, actor: ActorDep, response: Response, if_match: VersionDep
) -> CartOut:
    """Put pieces into an open cart; those of a variant that is in it already are added to its line."""
    version = asked(if_match, body.version)
    return _answer(await cart_lines.put(session, cart_id, [body.wanted()], by=actor, version=version), response)


@router.patch("/{cart_id}/lines/{line_id}", dependencies=WRITE)
async def update_line(
    cart_id: UUID,
    line_id: UUID,
    body: LinePatch,
    session: SessionDep,
    actor: ActorDep,
    response: Response,
    if_match: VersionDep,
) -> CartOut:
    """Set how many pieces a line of an open cart has."""
    version = asked(if_match, body.version)
    found = await cart_lines.set_quantity(session, cart_id, line_id, body.quantity, by=actor, version=version)
    return _answer(found, response)


@router.delete("/{cart_id}/lines/{line_id}", dependencies=WRITE)
async def remove_line(
    cart_id: UUID, line_id: UUID, session: SessionDep, actor: ActorDep, response: Response, if_match: VersionDep
) -> CartOut:
    """Take a line out of an open cart; the answer is the cart."""
    return _answer(await cart_lines.remove(session, cart_id, line_id, by=actor, version=if_match), response)


@router.post("/{cart_id}/join", dependencies=WRITE)
async def join(
    cart_id: UUID, body: JoinIn, session: SessionDep, actor: ActorDep, response: Response, if_match: VersionDep
) -> CartOut:
    """Take what is in another open cart, as a guest's, into this one.

    409 where one is not open, or they are of two people or in two currencies.
    """
    version = asked(if_match, body.version)
    return _answer(await carts.join(session, cart_id, body.cart_id, by=actor, version=version), response)


def _answer(found: CartView, response: Response) -> CartOut:
    response.headers["ETag"] = f'"{found.cart.version}"'
    return CartOut.of(found)
