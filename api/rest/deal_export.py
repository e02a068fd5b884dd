"""Deals as a file, streamed: as much memory for a million as for a hundred."""

from collections.abc import AsyncGenerator
from datetime import date
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from api.dependencies import DatabaseDep, PrincipalDep, requires
from api.openapi.answers import table
from api.rest.deal_shapes import Status
from api.routing import Router
from services.crm import deal_exports
from services.crm.deal_directory import Filter
from services.identity import aliases
from services.identity.exports import FileFormat

router = Router(prefix="/deals/export", tags=["deals"])


_FILE: Final = table(
    "id,title,pipeline\n0199a7d2-8c00-7000-8000-000000000001,Shelves,sales\n",
    '{"id": "0199a7d2-8c00-7000-8000-000000000001", "title": "Shelves", "pipeline": "sales"}\n',
)


@router.get("", dependencies=[requires("deals:read")], response_class=Response, responses=_FILE)
async def export(  # noqa: PLR0913, PLR0917 - the filters of the list
    principal: PrincipalDep,
    database: DatabaseDep,
    format: FileFormat = "csv",  # noqa: A002 - the API's word
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
    pipeline_id: UUID | None = None,
    stage_id: UUID | None = None,
    status: Status | None = None,
    owner_id: UUID | None = None,
    person_id: UUID | None = None,
    organization_id: UUID | None = None,
    close_from: date | None = None,
    close_until: date | None = None,
) -> StreamingResponse:
    """Return all deals that the filters of the list let through, newest first, in a form that an import takes back.

    CSV has a column for each attribute; NDJSON an object a line. Cells that a spreadsheet might take for formulas
    begin with an apostrophe, which an import takes away again.
    """
    if person_id is not None:
        async with database.tenant(principal.tenant_id) as session:
            person_id = await aliases.living(session, person_id)
    wanted = Filter(
        pipeline_id=pipeline_id,
        stage_id=stage_id,
        status=status,
        owner_id=owner_id,
        person_id=person_id,
        organization_id=organization_id,
        close_from=close_from,
        close_until=close_until,
        search=q,
    )

    async def parts() -> AsyncGenerator[str]:
        async for text, _ in deal_exports.texts(lambda: database.tenant(principal.tenant_id), wanted, format):
            yield text

    kind = "text/csv" if format == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="deals.{format}"'}
    return StreamingResponse(parts(), media_type=f"{kind}; charset=utf-8", headers=headers)
