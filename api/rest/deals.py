"""Deals: made, changed, moved and found."""

from datetime import date
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response, status

from api.dependencies import ActorDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.deal_answers import BulkMoveOut, ContactOut, DealOut, RefusedOut, StayOut, WholeDealOut
from api.rest.deal_shapes import BULK, BulkMoveIn, ContactIn, DealIn, DealPatch, MoveIn, Status
from api.routing import Router
from api.versions import VersionDep, asked
from core.database import TenantSession
from core.errors import InvalidError
from services.crm import contacts, deal_directory, deals, history, moving
from services.crm.deal_directory import Filter
from services.crm.deal_fields import Contact
from services.identity import aliases, normalize

router = Router(prefix="/deals", tags=["deals"])

READ = [requires("deals:read")]
WRITE = [requires("deals:write")]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: DealIn, session: SessionDep, actor: ActorDep, response: Response) -> WholeDealOut:
    """Make a deal. Money in a currency without a rate to the base currency is refused.

    409 where the external id is another deal's.
    """
    deal_id = await deals.create(session, body.new(), by=actor)
    return await _whole(session, deal_id, response)


@router.get("", dependencies=READ)
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
    pipeline_id: UUID | None = None,
    stage_id: UUID | None = None,
    status: Status | None = None,
    owner_id: UUID | None = None,
    person_id: UUID | None = None,
    organization_id: UUID | None = None,
    external_id: str | None = None,
    close_from: date | None = None,
    close_until: date | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[DealOut]:
    """List deals, newest first; every filter given must hold.

    `q` is the beginning of a title, `person_id` the primary person; `close_from` and `close_until` bound the day on
    which a deal is expected to close, both days included.
    """
    wanted = Filter(
        pipeline_id=pipeline_id,
        stage_id=stage_id,
        status=status,
        owner_id=owner_id,
        person_id=None if person_id is None else await aliases.living(session, person_id),
        organization_id=organization_id,
        external_id=None if external_id is None else normalize.external_id(external_id),
        close_from=close_from,
        close_until=close_until,
        search=q,
    )
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await deal_directory.page(session, wanted, limit=limit + 1, before=before)
    return Page(
        items=[DealOut.of(shown) for shown in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].deal.id) if len(found) > limit else None,
    )


@router.post("/move", operation_id="deals.move_many", dependencies=WRITE)
async def move_many(body: BulkMoveIn, session: SessionDep, actor: ActorDep) -> BulkMoveOut:
    """Move up to 10,000 deals to a stage; the answer says of each that may not go why."""
    if (body.deal_ids is None) == (body.filter is None):
        raise InvalidError.of("deal_ids", "or filter must be given, and not both")
    ids = body.deal_ids or []
    if body.filter is not None:
        ids = await deal_directory.ids(session, body.filter.filter(), limit=BULK + 1)
        if len(ids) > BULK:
            raise InvalidError.of("filter", f"holds of more than {BULK} deals: narrow it")
    moved = await moving.move(
        session,
        ids,
        body.stage_id,
        by=actor,
        pipeline_id=body.pipeline_id,
        versions=body.versions,
        lost_reason=body.lost_reason,
    )
    return BulkMoveOut(
        moved=moved.moved,
        unchanged=moved.unchanged,
        refused=[RefusedOut.of(deal_id, error) for deal_id, error in moved.refused.items()],
    )


@router.get("/{deal_id}", dependencies=READ)
async def get(deal_id: UUID, session: SessionDep, response: Response) -> WholeDealOut:
    """Return a deal; the header `ETag` names its version."""
    return await _whole(session, deal_id, response)


@router.patch("/{deal_id}", dependencies=WRITE)
async def update(
    deal_id: UUID, body: DealPatch, session: SessionDep, actor: ActorDep, response: Response, if_match: VersionDep
) -> WholeDealOut:
    """Change a deal. An amount that was what the products cost follows them.

    409 where the deal is in another version than the one named, or the external id is another deal's.
    """
    await deals.update(session, deal_id, body.change(), by=actor, version=asked(if_match, body.version))
    return await _whole(session, deal_id, response)


@router.delete("/{deal_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(deal_id: UUID, session: SessionDep, actor: ActorDep, if_match: VersionDep) -> None:
    """Delete a deal with its history, contacts, products and tasks."""
    await deals.remove(session, deal_id, by=actor, version=if_match)


@router.post("/{deal_id}/move", dependencies=WRITE)
async def move(
    deal_id: UUID, body: MoveIn, session: SessionDep, actor: ActorDep, response: Response, if_match: VersionDep
) -> WholeDealOut:
    """Move a deal to a stage.

    422 where the stages do not allow it, naming what the deal lacks; 409 where it is in another version than the one
    named.
    """
    version = asked(if_match, body.version)
    await deals.get(session, deal_id)
    moved = await moving.move(
        session,
        [deal_id],
        body.stage_id,
        by=actor,
        pipeline_id=body.pipeline_id,
        versions=None if version is None else {deal_id: version},
        lost_reason=body.lost_reason,
    )
    if moved.refused:
        raise moved.refused[deal_id]
    return await _whole(session, deal_id, response)


@router.get("/{deal_id}/history", dependencies=READ)
async def get_history(
    deal_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[StayOut]:
    """List where a deal was, the first stage first, each until the next one began."""
    await deals.get(session, deal_id)
    after: int = 0 if cursor is None else decode_cursor(cursor, [int])[0]
    found = await history.page(session, deal_id, limit=limit + 1, after=after)
    return Page(
        items=[StayOut.of(stay) for stay in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].number) if len(found) > limit else None,
    )


@router.post(
    "/{deal_id}/contacts",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
    responses={200: {"model": ContactOut}},
)
async def add_contact(
    deal_id: UUID, body: ContactIn, session: SessionDep, actor: ActorDep, response: Response
) -> ContactOut:
    """Give a person a part in a deal (201), or another role (200). 409 where it is the primary person."""
    contact = Contact(person_id=body.person_id, role=body.role)
    person_id, created = await contacts.add(session, deal_id, contact, by=actor)
    if not created:
        response.status_code = 200
    found = await deal_directory.contacts(session, deal_id)
    return next(ContactOut.model_validate(one) for one in found if one.person_id == person_id)


@router.delete("/{deal_id}/contacts/{person_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove_contact(deal_id: UUID, person_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Take a person's part in a deal away."""
    await contacts.remove(session, deal_id, person_id, by=actor)


async def _whole(session: TenantSession, deal_id: UUID, response: Response) -> WholeDealOut:
    whole = await deal_directory.whole(session, deal_id)
    response.headers["ETag"] = f'"{whole.shown.deal.version}"'
    return WholeDealOut.whole(whole)
