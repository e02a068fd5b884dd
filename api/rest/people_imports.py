"""Imports of people: a file is uploaded, looked at, checked, started, and followed."""

from uuid import UUID

from fastapi import Response, status
from fastapi.responses import StreamingResponse

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, requires
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.import_shapes import (
    BODY,
    SHOWN_REJECTS,
    ArrivingDep,
    ImportOut,
    ImportWithRejectsOut,
    RejectOut,
    StartIn,
    rejects_file,
    with_rejects,
)
from api.routing import Router
from services.identity import imports

router = Router(prefix="/people/imports", tags=["people"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE, openapi_extra=BODY)
async def upload(arriving: ArrivingDep) -> ImportOut:
    """Upload a CSV or NDJSON file, as `multipart/form-data` or as the body itself.

    The answer has the columns found and what each is taken for. With `start=false` nothing is imported before
    `POST .../start`, so that both can be looked at and checked first. With `Idempotency-Key` the body may have at most
    2 MiB.
    """
    return await arriving.receive()


@router.get("", dependencies=READ)
async def find(session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None) -> Page[ImportOut]:
    """List imports, newest first."""
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await imports.page(session, limit=limit + 1, before=before)
    return Page(
        items=[ImportOut.of(each) for each in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{import_id}", dependencies=READ)
async def get(import_id: UUID, session: SessionDep) -> ImportWithRejectsOut:
    """Return an import, how far it has come, and the first rows that were not taken, with the reasons."""
    found = await imports.get(session, import_id)
    return with_rejects(found, await imports.rejects(session, import_id, limit=SHOWN_REJECTS, after=0))


@router.post("/{import_id}/check", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def check(import_id: UUID, body: StartIn, session: SessionDep, actor: ActorDep) -> ImportOut:
    """Have the whole file read and compared with who is there, changing nothing; `report` then says what would be."""
    found = await imports.check(session, import_id, mapping=body.mapping, options=body.options, by=actor)
    return ImportOut.of(found)


@router.post("/{import_id}/start", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def start(import_id: UUID, body: StartIn, session: SessionDep, actor: ActorDep) -> ImportOut:
    """Begin, or go on where an import that failed had stopped."""
    found = await imports.start(session, import_id, mapping=body.mapping, options=body.options, by=actor)
    return ImportOut.of(found)


@router.post("/{import_id}/cancel", dependencies=WRITE)
async def cancel(import_id: UUID, session: SessionDep, actor: ActorDep) -> ImportOut:
    """Stop for good. People taken in so far stay; the file is deleted."""
    return ImportOut.of(await imports.cancel(session, import_id, by=actor))


@router.get("/{import_id}/rejects", dependencies=READ)
async def list_rejects(
    import_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[RejectOut]:
    """List the rows that were not taken, in the file's order; they are kept for 30 days."""
    after: int = 0 if cursor is None else decode_cursor(cursor, [int])[0]
    await imports.get(session, import_id)
    found = await imports.rejects(session, import_id, limit=limit + 1, after=after)
    return Page(
        items=[RejectOut.model_validate(each) for each in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].line) if len(found) > limit else None,
    )


@router.get("/{import_id}/rejects.csv", dependencies=READ, response_class=Response)
async def download_rejects(import_id: UUID, principal: PrincipalDep, database: DatabaseDep) -> StreamingResponse:
    """Return the same as a CSV file: `line,field,reason`, and the row's own cells to mend and upload again."""
    async with database.tenant(principal.tenant_id) as session:
        found = await imports.get(session, import_id)
    return rejects_file(database, found)
