"""Imports of people: a file is uploaded, looked at, checked, started, and followed."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Query, Request, Response, status
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep, SessionDep, requires
from api.fields import Strict
from api.form_data import form_data
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.database import TenantSession
from core.errors import InvalidError
from models import PeopleImport
from services.identity import import_upload, imports
from services.identity.exports import reject_lines
from services.identity.import_files import CHUNK, Detected
from services.identity.import_upload import Upload, parsed_object

router = Router(prefix="/people/imports", tags=["people"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]

Status = Literal["uploading", "uploaded", "checking", "checked", "queued", "running", "finished", "failed", "cancelled"]
_FORM_FIELDS: Final = 8
SHOWN_REJECTS: Final = 20
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/x-ndjson": {"schema": {"type": "string"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "mapping": {"type": "string", "description": "JSON: column to field, null to leave out"},
                        "options": {"type": "string", "description": "JSON; see docs/imports.md"},
                        "start": {"type": "boolean"},
                    },
                }
            },
        },
    }
}


class ImportOut(Strict):
    """An import and how far it has come."""

    id: UUID
    status: Status
    file_name: str | None
    format: Literal["csv", "ndjson"]
    columns: list[str]
    """Of a CSV file; a name that comes twice is numbered."""
    mapping: dict[str, str | None]
    """Column to field: what you gave, else what is proposed. null leaves the column out."""
    options: dict[str, Any]
    preset: str | None
    """The system whose export this is, as recognised or given."""
    warnings: list[str]
    size_bytes: int
    bytes_done: int
    lines_done: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    rows_per_second: float | None
    """Since it was started."""
    report: dict[str, Any] | None
    """Of a check: `rows`, what would be `create`, `update`, `unchanged`, `reject`, and the first `problems`."""
    error: str | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime

    @classmethod
    def of(cls, found: PeopleImport) -> "ImportOut":
        """Return the answer for an import."""
        detected = Detected.of(found.detected) if found.detected else Detected("csv")
        own = {name: getattr(found, name) for name in cls.model_fields if hasattr(found, name)}
        return cls.model_validate(
            own
            | {
                "columns": list(detected.columns),
                "preset": detected.preset,
                "warnings": list(detected.warnings),
                "rows_per_second": _rate(found),
            }
        )


def _rate(found: PeopleImport) -> float | None:
    rows = found.created + found.updated + found.unchanged + found.rejected
    if found.started_at is None or not rows:
        return None
    seconds = ((found.finished_at or found.updated_at) - found.started_at).total_seconds()
    return round(rows / seconds, 1) if seconds > 0 else None


class RejectOut(Strict):
    """A row that was not taken."""

    line: int
    """In the file, whose first line is 1."""
    field: str | None
    reason: str
    content: str
    """The row, at most its first 10,000 characters."""


class ImportWithRejectsOut(ImportOut):
    """An import and the first rows that were not taken."""

    rejects: list[RejectOut]
    """Up to 20; the rest at `.../rejects`."""


class StartIn(Strict):
    """What to change before it starts; what is left out stays."""

    mapping: dict[str, str | None] | None = None
    options: dict[str, Any] | None = None


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE, openapi_extra=_BODY)
async def upload(  # noqa: PLR0913 - what may be said about a raw body stands in the query
    request: Request,
    principal: PrincipalDep,
    database: DatabaseDep,
    actor: ActorDep,
    mapping: Annotated[str | None, Query(description="JSON, for a raw body")] = None,
    options: Annotated[str | None, Query(description="JSON, for a raw body")] = None,
    file_name: Annotated[str | None, Query(max_length=200)] = None,
    *,
    start: Annotated[bool, Query(description="Begin at once; false to look at it first")] = True,
) -> ImportOut:
    """Upload a CSV or NDJSON file, as `multipart/form-data` or as the body itself.

    The answer has the columns found and what each is taken for. With `start=false` nothing is imported before
    `POST .../start`, so that both can be looked at and checked first. With `Idempotency-Key` the body may have at most
    2 MiB.
    """
    claimed: TenantSession | None = getattr(request.state, "claimed_session", None)

    def begin() -> AbstractAsyncContextManager[TenantSession]:
        return database.tenant(principal.tenant_id) if claimed is None else nullcontext(claimed)

    content_type = request.headers.get("content-type")
    if content_type is not None and content_type.startswith("multipart/form-data"):
        async with form_data(request, max_files=1, max_fields=_FORM_FIELDS) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidError.of("file", "is needed")
            given = Upload(
                file_name=file.filename,
                content_type=file.content_type,
                mapping=_mapping(_text(form.get("mapping"), mapping)),
                options=parsed_object(_text(form.get("options"), options), "options") or {},
                start=_flag(form.get("start"), otherwise=start),
            )
            made = await import_upload.receive(begin, _pieces(file), given, by=actor)
    else:
        given = Upload(
            file_name=file_name,
            content_type=content_type,
            mapping=_mapping(mapping),
            options=parsed_object(options, "options") or {},
            start=start,
        )
        made = await import_upload.receive(begin, request.stream(), given, by=actor)
    return ImportOut.of(made)


def _text(given: object, otherwise: str | None) -> str | None:
    return given if isinstance(given, str) else otherwise


def _flag(given: object, *, otherwise: bool) -> bool:
    if given is None:
        return otherwise
    if given not in {"true", "false"}:
        raise InvalidError.of("start", "must be true or false")
    return given == "true"


def _mapping(text: str | None) -> dict[str, str | None] | None:
    given = parsed_object(text, "mapping")
    for column, target in (given or {}).items():
        if target is not None and not isinstance(target, str):
            raise InvalidError.of(f"mapping.{column}", "must be the name of a field, or null")
    return given


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(CHUNK):
        yield piece


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
    found = ImportOut.of(await imports.get(session, import_id))
    rejects = await imports.rejects(session, import_id, limit=SHOWN_REJECTS, after=0)
    return ImportWithRejectsOut(**found.model_dump(), rejects=[RejectOut.model_validate(reject) for reject in rejects])


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

    async def lines() -> AsyncGenerator[str]:
        after: int | None = 0
        while after is not None:
            async with database.tenant(principal.tenant_id) as session:
                text, after = await reject_lines(session, found, after=after)
            yield text

    name = f"rejects-{import_id}.csv"
    return StreamingResponse(
        lines(), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
