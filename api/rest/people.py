"""People: created and changed by whoever knows them, and read with all that is known of them."""

from collections.abc import Mapping
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response, status

from api.dependencies import ActorDep, SessionDep, requires
from api.hot import Caller, as_json, caller
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, decode_entry, encode_cursor
from api.rest.person_shapes import (
    LifecycleOut,
    PersonEntryOut,
    PersonIn,
    PersonOut,
    PersonPatch,
    Role,
    ScoreOut,
    Stage,
)
from api.rest.profile_shapes import ProfileOut
from api.routing import Router
from core.database import TenantSession
from models import Person
from services.identity import directory, lifecycle, normalize, people, profile, reading, scoring, timeline

router = Router(prefix="/people", tags=["people"])

READ = [requires("people:read")]
Reader = Annotated[Caller, caller("people:read")]
WRITE = [requires("people:write")]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE, responses={200: {"model": PersonOut}})
async def upsert(body: PersonIn, session: SessionDep, actor: ActorDep, response: Response) -> PersonOut:
    """Create a person (201), or update the one an identifier points to (200).

    Identifiers the person did not have are attached and become the ones shown. Anonymous visitors that an identifier
    points to become the person, with all they did. 409 where the identifiers point to two people of whom something is
    known: they are never merged behind your back.
    """
    person, created = await people.upsert(session, body.change(), by=actor)
    if not created:
        response.status_code = status.HTTP_200_OK
    return await _answer(session, person)


@router.get("", response_model=Page[PersonOut])
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    caller: Reader,
    email: str | None = None,
    phone: str | None = None,
    external_id: str | None = None,
    anonymous_id: str | None = None,
    role: Role | None = None,
    stage: Stage | None = None,
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Response:
    """List people, newest first; every filter given must hold.

    `q` is the beginning of an email address, a phone number, an external id, a first or a last name, or of both names.
    """
    given = {"email": email, "phone": phone, "external_id": external_id, "anonymous_id": anonymous_id}
    wanted = filter_of(given, role=role, stage=stage, q=q)
    if cursor is None and len(wanted.identifiers) == 1 and wanted == directory.Filter(identifiers=wanted.identifiers):
        async with caller.reading() as connection:
            one = await reading.by_identifier(connection, caller.tenant_id, *wanted.identifiers[0])
        return as_json(Page[PersonOut](items=[] if one is None else [PersonOut.of(one)]))
    async with caller.database.tenant(caller.tenant_id) as session:
        return as_json(await page(session, wanted, limit=limit, cursor=cursor))


def filter_of(
    identifiers: Mapping[str, str | None], *, role: str | None, stage: str | None, q: str | None
) -> directory.Filter:
    """Return which people are asked for; identifiers by their kinds."""
    return directory.Filter(
        identifiers=[
            (kind, normalize.BY_KIND[kind](value, kind)) for kind, value in identifiers.items() if value is not None
        ],
        role=role,
        stage=stage,
        search=q,
    )


async def page(session: TenantSession, wanted: directory.Filter, *, limit: int, cursor: str | None) -> Page[PersonOut]:
    """Return a page of people, newest first."""
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await directory.page(session, wanted, limit=limit + 1, before=before)
    shown = await directory.show(session, found[:limit])
    return Page[PersonOut](
        items=[PersonOut.of(item) for item in shown],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{person_id}", dependencies=READ)
async def get(person_id: UUID, session: SessionDep) -> PersonOut:
    """Return a person."""
    return await _answer(session, await people.get(session, person_id))


@router.patch("/{person_id}", dependencies=WRITE)
async def update(person_id: UUID, body: PersonPatch, session: SessionDep, actor: ActorDep) -> PersonOut:
    """Change a person; a field left out stays as it is.

    A new email address, phone number or external id replaces the one shown, which no longer points to the person. To
    add an identifier and keep the old one, POST both to `/people`.
    """
    return await _answer(session, await people.update(session, person_id, body.change(), by=actor))


@router.get("/{person_id}/lifecycle", dependencies=READ)
async def explain_lifecycle(person_id: UUID, session: SessionDep) -> LifecycleOut:
    """Say which facts give the person each role, and the stage."""
    return LifecycleOut.of(await lifecycle.explain(session, await people.get(session, person_id)))


@router.get("/{person_id}/score", dependencies=READ)
async def explain_score(person_id: UUID, session: SessionDep) -> ScoreOut:
    """Say which score rules hold for the person."""
    return ScoreOut.of(await scoring.explain(session, await people.get(session, person_id)))


@router.get("/{person_id}/profile", response_model=ProfileOut)
async def get_profile(person_id: UUID, caller: Reader) -> Response:
    """Return everything known of a person."""
    async with caller.reading() as connection:
        loaded = await profile.load(connection, caller.tenant_id, person_id)
    return as_json(ProfileOut.of(loaded))


@router.get("/{person_id}/timeline", dependencies=READ)
async def get_timeline(
    person_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[PersonEntryOut]:
    """List what happened to a person, newest first: events, changes, messages and journeys."""
    before = timeline.START if cursor is None else decode_entry(cursor)
    person = await people.get(session, person_id)
    entries = await timeline.page(session, person.id, limit=limit + 1, before=before)
    return Page(
        items=PersonEntryOut.list_of(entries[:limit]),
        next_cursor=encode_cursor(entries[limit - 1].at, entries[limit - 1].id) if len(entries) > limit else None,
    )


async def _answer(session: TenantSession, person: Person) -> PersonOut:
    (shown,) = await directory.show(session, [person])
    return PersonOut.of(shown)
