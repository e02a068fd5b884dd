"""Organizations: their tree, the people in them, and what they owe."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Response, status

from api.dependencies import ActorDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.organization_shapes import (
    EntryIn,
    Kind,
    LedgerAccountOut,
    LedgerEntryOut,
    LinkIn,
    LinkPatch,
    OrganizationIn,
    OrganizationLinkOut,
    OrganizationOut,
    RollupOut,
    TreeOut,
)
from api.routing import Router
from services.identity import (
    normalize,
    organization_directory,
    organization_ledger,
    organization_people,
    organization_tree,
    organizations,
    people,
)

router = Router(tags=["organizations"])

READ = [requires("organizations:read")]
WRITE = [requires("organizations:write")]

CurrentParam = Annotated[bool | None, Query(description="Only links that hold today, or only others")]


@router.post(
    "/organizations",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
    responses={200: {"model": OrganizationOut}},
)
async def upsert(body: OrganizationIn, session: SessionDep, actor: ActorDep, response: Response) -> OrganizationOut:
    """Create an organization (201), or update the one that has the external id or the domain (200).

    409 where those are of two organizations, or the domain's organization has another external id.
    """
    organization, created = await organizations.upsert(session, body.change(nulls=False), by=actor)
    if not created:
        response.status_code = status.HTTP_200_OK
    return OrganizationOut.of(organization)


@router.get("/organizations", dependencies=READ)
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
    kind: Kind | None = None,
    domain: str | None = None,
    external_id: str | None = None,
    parent_id: UUID | None = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[OrganizationOut]:
    """List organizations, newest first; every filter given must hold.

    `q` is the beginning of a name, a domain or an external id; `parent_id` asks for those directly below.
    """
    wanted = organization_directory.Filter(
        kind=kind,
        domain=None if domain is None else normalize.domain(domain),
        external_id=None if external_id is None else normalize.external_id(external_id),
        parent_id=parent_id,
        search=q,
    )
    found = await organization_directory.page(session, wanted, limit=limit + 1, before=_before(cursor))
    return Page(
        items=[OrganizationOut.of(organization) for organization in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/organizations/{organization_id}", dependencies=READ)
async def get(organization_id: UUID, session: SessionDep) -> OrganizationOut:
    """Return an organization."""
    return OrganizationOut.of(await organizations.get(session, organization_id))


@router.patch("/organizations/{organization_id}", dependencies=WRITE)
async def update(organization_id: UUID, body: OrganizationIn, session: SessionDep, actor: ActorDep) -> OrganizationOut:
    """Change an organization; a field left out stays, null clears it.

    409 where the new parent is the organization itself or below it, the external id or the domain is another's, or the
    currency is fixed by the ledger.
    """
    change = body.change(nulls=True)
    return OrganizationOut.of(await organizations.update(session, organization_id, change, by=actor))


@router.delete("/organizations/{organization_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(organization_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete an organization with its addresses and its links to people.

    409 while other organizations are below it, or its ledger has entries.
    """
    await organizations.remove(session, organization_id, by=actor)


@router.get("/organizations/{organization_id}/tree", dependencies=READ)
async def get_tree(
    organization_id: UUID,
    session: SessionDep,
    depth: Annotated[int, Query(ge=1, le=organization_tree.MAX_DEPTH)] = organization_tree.MAX_DEPTH,
) -> TreeOut:
    """Return what is above an organization, and what is at most `depth` levels below."""
    await organizations.get(session, organization_id)
    return TreeOut.model_validate(await organization_tree.tree(session, organization_id, depth=depth))


@router.get("/organizations/{organization_id}/rollup", dependencies=READ)
async def get_rollup(organization_id: UUID, session: SessionDep) -> RollupOut:
    """Return what an organization and all below it are together: people, balances and their people's orders."""
    await organizations.get(session, organization_id)
    return RollupOut.of(await organization_tree.rollup(session, organization_id))


@router.post("/organizations/{organization_id}/people", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def link_person(organization_id: UUID, body: LinkIn, session: SessionDep, actor: ActorDep) -> OrganizationLinkOut:
    """Say what a person is to the organization; roles of the person follow.

    409 where the person is linked as that kind already, for some of the time.
    """
    link = await organization_people.add(session, organization_id, body.link(), by=actor)
    return OrganizationLinkOut.of(await organization_people.show(session, link))


@router.get("/organizations/{organization_id}/people", dependencies=READ)
async def list_people(
    organization_id: UUID,
    session: SessionDep,
    current: CurrentParam = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[OrganizationLinkOut]:
    """List an organization's links to people, the last made first."""
    await organizations.get(session, organization_id)
    found = await organization_people.of_organization(
        session, organization_id, current=current, limit=limit + 1, before=_before(cursor)
    )
    return _links(found, limit)


@router.patch("/organizations/{organization_id}/people/{link_id}", dependencies=WRITE)
async def update_link(
    organization_id: UUID, link_id: UUID, body: LinkPatch, session: SessionDep, actor: ActorDep
) -> OrganizationLinkOut:
    """Change a link; `ended_on` ends it, and roles that came of it with it."""
    link = await organization_people.update(session, organization_id, link_id, body.fields(), by=actor)
    return OrganizationLinkOut.of(await organization_people.show(session, link))


@router.delete(
    "/organizations/{organization_id}/people/{link_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE
)
async def unlink_person(organization_id: UUID, link_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a link, as if it had never been; to keep that it was, set `ended_on` instead."""
    await organization_people.remove(session, organization_id, link_id, by=actor)


@router.get("/people/{person_id}/organizations", dependencies=[*READ, requires("people:read")])
async def list_organizations_of_person(
    person_id: UUID,
    session: SessionDep,
    current: CurrentParam = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[OrganizationLinkOut]:
    """List a person's links to organizations, the last made first."""
    person = await people.get(session, person_id)
    found = await organization_people.of_person(
        session, person.id, current=current, limit=limit + 1, before=_before(cursor)
    )
    return _links(found, limit)


@router.post(
    "/organizations/{organization_id}/entries",
    status_code=status.HTTP_201_CREATED,
    dependencies=WRITE,
    responses={200: {"model": LedgerEntryOut}},
)
async def book(
    organization_id: UUID, body: EntryIn, session: SessionDep, actor: ActorDep, response: Response
) -> LedgerEntryOut:
    """Book an entry of the ledger (201); a kind and reference booked before give the first one again (200).

    409 where that one differs, or a charge goes beyond the credit limit: `available` says what does not.
    """
    entry, created = await organization_ledger.book(session, organization_id, body.entry(), by=actor)
    if not created:
        response.status_code = status.HTTP_200_OK
    return LedgerEntryOut.of(entry)


@router.get("/organizations/{organization_id}/entries", dependencies=READ)
async def list_entries(
    organization_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[LedgerEntryOut]:
    """List the ledger, the last booked first."""
    await organizations.get(session, organization_id)
    before = None if cursor is None else decode_cursor(cursor, [int])[0]
    found = await organization_ledger.page(session, organization_id, limit=limit + 1, before=before)
    return Page(
        items=[LedgerEntryOut.of(entry) for entry in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].number) if len(found) > limit else None,
    )


@router.get("/organizations/{organization_id}/account", dependencies=READ)
async def get_account(organization_id: UUID, session: SessionDep) -> LedgerAccountOut:
    """Return balance, credit and what is overdue."""
    organization = await organizations.get(session, organization_id)
    return LedgerAccountOut.of(await organization_ledger.account(session, organization))


def _before(cursor: str | None) -> UUID | None:
    return None if cursor is None else decode_cursor(cursor, [UUID])[0]


def _links(found: list[organization_people.Linked], limit: int) -> Page[OrganizationLinkOut]:
    return Page(
        items=[OrganizationLinkOut.of(linked) for linked in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].link.id) if len(found) > limit else None,
    )
