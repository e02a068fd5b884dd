"""What imports share at the edge, whatever they are of: their shapes, how a file arrives, and what was refused."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import Depends, Query, Request
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from api.dependencies import ActorDep, DatabaseDep, PrincipalDep
from api.fields import Strict
from api.form_data import form_data
from api.paging import Page, decode_cursor, encode_cursor
from core.actor import Actor
from core.database import Database, TenantSession
from core.errors import InvalidError
from models import PeopleImport
from services.identity import import_upload, imports
from services.identity.exports import reject_lines
from services.identity.import_files import CHUNK, Detected
from services.identity.import_kinds import KINDS, OF_PEOPLE, Contents, Kinds
from services.identity.import_upload import Upload, parsed_object

Status = Literal["uploading", "uploaded", "checking", "checked", "queued", "running", "finished", "failed", "cancelled"]
_FORM_FIELDS: Final = 8
_SHOWN_REJECTS: Final = 20
"""Of an import that is looked at."""
BODY: Final[dict[str, Any]] = {
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
                        "mapping": {
                            "type": "string",
                            "description": "JSON: column to field or property, null to leave out",
                        },
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
    """Column to field or property: what you gave, else what is proposed. null leaves the column out."""
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


@dataclass(frozen=True, slots=True)
class Arriving:
    """A file on its way in, and what the request says about it."""

    request: Request
    database: Database
    tenant_id: UUID
    actor: Actor
    mapping: str | None
    options: str | None
    file_name: str | None
    start: bool

    def begin(self) -> AbstractAsyncContextManager[TenantSession]:
        """Open a transaction that commits when its block ends; with `Idempotency-Key` the one that holds the claim."""
        claimed: TenantSession | None = getattr(self.request.state, "claimed_session", None)
        return self.database.tenant(self.tenant_id) if claimed is None else nullcontext(claimed)

    async def receive(self, contents: Contents = OF_PEOPLE, kinds: Kinds = KINDS) -> ImportOut:
        """Keep the file, with such rows; return its import."""
        content_type = self.request.headers.get("content-type")
        if content_type is not None and content_type.startswith("multipart/form-data"):
            async with form_data(self.request, max_files=1, max_fields=_FORM_FIELDS) as form:
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise InvalidError.of("file", "is needed")
                given = Upload(
                    file_name=file.filename,
                    content_type=file.content_type,
                    contents=contents,
                    kinds=kinds,
                    mapping=_mapping(_text(form.get("mapping"), self.mapping)),
                    options=parsed_object(_text(form.get("options"), self.options), "options") or {},
                    start=_flag(form.get("start"), otherwise=self.start),
                )
                made = await import_upload.receive(self.begin, _pieces(file), given, by=self.actor)
        else:
            given = Upload(
                file_name=self.file_name,
                content_type=content_type,
                contents=contents,
                kinds=kinds,
                mapping=_mapping(self.mapping),
                options=parsed_object(self.options, "options") or {},
                start=self.start,
            )
            made = await import_upload.receive(self.begin, self.request.stream(), given, by=self.actor)
        return ImportOut.of(made)


async def _arriving(  # noqa: PLR0913 - what may be said about a raw body stands in the query
    request: Request,
    principal: PrincipalDep,
    database: DatabaseDep,
    actor: ActorDep,
    mapping: Annotated[str | None, Query(description="JSON, for a raw body")] = None,
    options: Annotated[str | None, Query(description="JSON, for a raw body")] = None,
    file_name: Annotated[str | None, Query(max_length=200)] = None,
    *,
    start: Annotated[bool, Query(description="Begin at once; false to look at it first")] = True,
) -> Arriving:
    return Arriving(request, database, principal.tenant_id, actor, mapping, options, file_name, start)


ArrivingDep = Annotated[Arriving, Depends(_arriving)]


async def listed(session: TenantSession, contents: Contents, limit: int, cursor: str | None) -> Page[ImportOut]:
    """Return a page of imports of such contents."""
    before: UUID | None = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await imports.page(session, contents=contents, limit=limit + 1, before=before)
    return Page(
        items=[ImportOut.of(each) for each in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


async def with_rejects(session: TenantSession, import_id: UUID, contents: Contents) -> ImportWithRejectsOut:
    """Return an import and the first rows that were not taken.

    Raises:
        NotFoundError: no such import.
    """
    found = await imports.get(session, import_id, contents=contents)
    rejects = await imports.rejects(session, import_id, limit=_SHOWN_REJECTS, after=0)
    return ImportWithRejectsOut(
        **ImportOut.of(found).model_dump(), rejects=[RejectOut.model_validate(reject) for reject in rejects]
    )


async def rejects_page(
    session: TenantSession, import_id: UUID, contents: Contents, limit: int, cursor: str | None
) -> Page[RejectOut]:
    """Return a page of the rows that were not taken.

    Raises:
        NotFoundError: no such import.
    """
    after: int = 0 if cursor is None else decode_cursor(cursor, [int])[0]
    await imports.get(session, import_id, contents=contents)
    found = await imports.rejects(session, import_id, limit=limit + 1, after=after)
    return Page(
        items=[RejectOut.model_validate(each) for each in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].line) if len(found) > limit else None,
    )


def rejects_file(database: Database, found: PeopleImport) -> StreamingResponse:
    """Return the rows that were not taken as a CSV file, a page of them at a time."""

    async def lines() -> AsyncGenerator[str]:
        after: int | None = 0
        while after is not None:
            async with database.tenant(found.tenant_id) as session:
                text, after = await reject_lines(session, found, after=after)
            yield text

    name = f"rejects-{found.id}.csv"
    return StreamingResponse(
        lines(), media_type="text/csv; charset=utf-8", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


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
