"""Imports of an object's records, as those of people; and the records as a file."""

from collections.abc import AsyncGenerator
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Response, status
from fastapi.responses import StreamingResponse

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, requires
from api.openapi.answers import REJECTS, table
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page
from api.rest.import_shapes import (
    BODY,
    ArrivingDep,
    ImportOut,
    ImportWithRejectsOut,
    RejectOut,
    StartIn,
    listed,
    rejects_file,
    rejects_page,
    with_rejects,
)
from api.rest.objects import ObjectKey
from api.routing import Router
from services.identity import imports
from services.identity.exports import FileFormat
from services.identity.import_kinds import Contents, of_records
from services.objects import definitions, exports

router = Router(prefix="/objects/{object_key}", tags=["objects"])

READ = [requires("objects:read")]
WRITE = [requires("objects:write")]


async def _contents(object_key: ObjectKey, session: SessionDep) -> Contents:
    return of_records((await definitions.get(session, object_key)).id)


ContentsDep = Annotated[Contents, Depends(_contents, scope="function")]


@router.post("/imports", status_code=status.HTTP_201_CREATED, dependencies=WRITE, openapi_extra=BODY)
async def upload(object_key: ObjectKey, arriving: ArrivingDep) -> ImportOut:
    """Upload a CSV or NDJSON file of records, as `multipart/form-data` or as the body itself.

    The answer has the columns found and what each is taken for. With `start=false` nothing is imported before
    `POST .../start`, so that both can be looked at and checked first. With `Idempotency-Key` the body may have at most
    2 MiB.
    """
    async with arriving.begin() as session:
        contents = of_records((await definitions.get(session, object_key)).id)
    return await arriving.receive(contents)


@router.get("/imports", dependencies=READ)
async def find(
    contents: ContentsDep, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ImportOut]:
    """List imports of the object's records, newest first."""
    return await listed(session, contents, limit, cursor)


@router.get("/imports/{record_import_id}", dependencies=READ)
async def get(record_import_id: UUID, contents: ContentsDep, session: SessionDep) -> ImportWithRejectsOut:
    """Return an import, how far it has come, and the first rows that were not taken, with the reasons."""
    return await with_rejects(session, record_import_id, contents)


@router.post("/imports/{record_import_id}/check", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def check(
    record_import_id: UUID, contents: ContentsDep, body: StartIn, session: SessionDep, actor: ActorDep
) -> ImportOut:
    """Have the whole file read and compared with what is there, changing nothing; `report` then says what would be."""
    found = await imports.check(
        session, record_import_id, contents=contents, mapping=body.mapping, options=body.options, by=actor
    )
    return ImportOut.of(found)


@router.post("/imports/{record_import_id}/start", status_code=status.HTTP_202_ACCEPTED, dependencies=WRITE)
async def start(
    record_import_id: UUID, contents: ContentsDep, body: StartIn, session: SessionDep, actor: ActorDep
) -> ImportOut:
    """Begin, or go on where an import that failed had stopped."""
    found = await imports.start(
        session, record_import_id, contents=contents, mapping=body.mapping, options=body.options, by=actor
    )
    return ImportOut.of(found)


@router.post("/imports/{record_import_id}/cancel", dependencies=WRITE)
async def cancel(record_import_id: UUID, contents: ContentsDep, session: SessionDep, actor: ActorDep) -> ImportOut:
    """Stop for good. Records taken in so far stay; the file is deleted."""
    return ImportOut.of(await imports.cancel(session, record_import_id, contents=contents, by=actor))


@router.get("/imports/{record_import_id}/rejects", dependencies=READ)
async def list_rejects(
    record_import_id: UUID,
    contents: ContentsDep,
    session: SessionDep,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[RejectOut]:
    """List the rows that were not taken, in the file's order; they are kept for 30 days."""
    return await rejects_page(session, record_import_id, contents, limit, cursor)


@router.get("/imports/{record_import_id}/rejects.csv", dependencies=READ, response_class=Response, responses=REJECTS)
async def download_rejects(
    object_key: ObjectKey, record_import_id: UUID, principal: PrincipalDep, database: DatabaseDep
) -> StreamingResponse:
    """Return the same as a CSV file: `line,field,reason`, and the row's own cells to mend and upload again."""
    async with database.tenant(principal.tenant_id) as session:
        contents = of_records((await definitions.get(session, object_key)).id)
        found = await imports.get(session, record_import_id, contents=contents)
    return rejects_file(database, found)


_FILE: Final = table(
    "id,external_id,productName,quantity\n0199a7d2-8c00-7000-8000-000000000001,,Shelf,3\n",
    '{"id": "0199a7d2-8c00-7000-8000-000000000001", "properties": {"productName": "Shelf", "quantity": 3}}\n',
)


@router.get("/records/export", dependencies=READ, response_class=Response, responses=_FILE)
async def export(
    object_key: ObjectKey,
    principal: PrincipalDep,
    database: DatabaseDep,
    format: FileFormat = "csv",  # noqa: A002 - the API's word
) -> StreamingResponse:
    """Return all records of the object, oldest first, in a form that an import takes back as it was.

    CSV has a column for each property, called `NAME:json` where its cells hold JSON; NDJSON an object a line. Cells
    that a spreadsheet might take for formulas begin with an apostrophe, which an import takes away again.
    """
    async with database.tenant(principal.tenant_id) as session:
        found = await definitions.get(session, object_key)

    async def parts() -> AsyncGenerator[str]:
        async for text, _ in exports.texts(lambda: database.tenant(principal.tenant_id), found, format):
            yield text

    kind = "text/csv" if format == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="{found.key}.{format}"'}
    return StreamingResponse(parts(), media_type=f"{kind}; charset=utf-8", headers=headers)
