"""The routes of imports of one kind: a file is uploaded, looked at, checked, started, and followed."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Response, status
from fastapi.responses import StreamingResponse

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, requires
from api.openapi.answers import REJECTS
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
from api.routing import Router
from services.identity import imports
from services.identity.import_kinds import KINDS, Contents, Kinds


def routes(noun: str, contents: Contents, kinds: Kinds = KINDS, *, parameter: str) -> Router:
    """Return the routes below `/NOUN/imports` for files with such rows, under the scopes of the noun.

    `parameter` is what the import's id is called in their paths.
    """
    router = Router(prefix=f"/{noun}/imports", tags=[noun])
    read: list[Any] = [requires(f"{noun}:read")]
    write: list[Any] = [requires(f"{noun}:write")]
    one = f"/{{{parameter}}}"

    @router.post("", status_code=status.HTTP_201_CREATED, dependencies=write, openapi_extra=BODY)
    async def upload(arriving: ArrivingDep) -> ImportOut:
        """Upload a CSV or NDJSON file, as `multipart/form-data` or as the body itself.

        The answer has the columns found and what each is taken for. With `start=false` nothing is imported before
        `POST .../start`, so that both can be looked at and checked first. With `Idempotency-Key` the body may have at
        most 2 MiB.
        """
        return await arriving.receive(contents, kinds)

    @router.get("", dependencies=read)
    async def find(
        session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
    ) -> Page[ImportOut]:
        """List imports, newest first."""
        return await listed(session, contents, limit, cursor)

    @router.get(one, dependencies=read)
    async def get(import_id: Annotated[UUID, Path(alias=parameter)], session: SessionDep) -> ImportWithRejectsOut:
        """Return an import, how far it has come, and the first rows that were not taken, with the reasons."""
        return await with_rejects(session, import_id, contents)

    @router.post(f"{one}/check", status_code=status.HTTP_202_ACCEPTED, dependencies=write)
    async def check(
        import_id: Annotated[UUID, Path(alias=parameter)], body: StartIn, session: SessionDep, actor: ActorDep
    ) -> ImportOut:
        """Have the whole file compared with what is there, changing nothing; `report` then says what would be."""
        found = await imports.check(
            session, import_id, contents=contents, kinds=kinds, mapping=body.mapping, options=body.options, by=actor
        )
        return ImportOut.of(found)

    @router.post(f"{one}/start", status_code=status.HTTP_202_ACCEPTED, dependencies=write)
    async def start(
        import_id: Annotated[UUID, Path(alias=parameter)], body: StartIn, session: SessionDep, actor: ActorDep
    ) -> ImportOut:
        """Begin, or go on where an import that failed had stopped."""
        found = await imports.start(
            session, import_id, contents=contents, kinds=kinds, mapping=body.mapping, options=body.options, by=actor
        )
        return ImportOut.of(found)

    @router.post(f"{one}/cancel", dependencies=write)
    async def cancel(
        import_id: Annotated[UUID, Path(alias=parameter)], session: SessionDep, actor: ActorDep
    ) -> ImportOut:
        """Stop for good. What was taken in so far stays; the file is deleted."""
        return ImportOut.of(await imports.cancel(session, import_id, contents=contents, by=actor))

    @router.get(f"{one}/rejects", dependencies=read)
    async def list_rejects(
        import_id: Annotated[UUID, Path(alias=parameter)],
        session: SessionDep,
        limit: LimitParam = DEFAULT_LIMIT,
        cursor: CursorParam = None,
    ) -> Page[RejectOut]:
        """List the rows that were not taken, in the file's order; they are kept for 30 days."""
        return await rejects_page(session, import_id, contents, limit, cursor)

    @router.get(f"{one}/rejects.csv", dependencies=read, response_class=Response, responses=REJECTS)
    async def download_rejects(
        import_id: Annotated[UUID, Path(alias=parameter)], principal: PrincipalDep, database: DatabaseDep
    ) -> StreamingResponse:
        """Return the same as a CSV file: `line,field,reason`, and the row's own cells to mend and upload again."""
        async with database.tenant(principal.tenant_id) as session:
            found = await imports.get(session, import_id, contents=contents)
        return rejects_file(database, found)

    return router
