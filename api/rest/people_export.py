"""People as a file, streamed: as much memory for a million as for a hundred."""

from collections.abc import AsyncGenerator
from typing import Annotated, Final

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from api.dependencies import DatabaseDep, PrincipalDep, requires
from api.openapi.answers import table
from api.rest.person_shapes import Role, Stage
from api.routing import Router
from services.identity import exports
from services.identity.directory import Filter
from services.identity.exports import FileFormat

router = Router(prefix="/people/export", tags=["people"])


_FILE: Final = table(
    "id,email,first_name\n0199a7d2-8c00-7000-8000-000000000001,ann@shop.example,Ann\n",
    '{"id": "0199a7d2-8c00-7000-8000-000000000001", "email": "ann@shop.example", "first_name": "Ann"}\n',
)


@router.get("", dependencies=[requires("people:read")], response_class=Response, responses=_FILE)
async def export(
    principal: PrincipalDep,
    database: DatabaseDep,
    format: FileFormat = "csv",  # noqa: A002 - the API's word
    role: Role | None = None,
    stage: Stage | None = None,
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
) -> StreamingResponse:
    """Return all people that the filters let through, newest first, in a form that an import takes back.

    CSV has a column for each attribute and each consent; NDJSON an object a line. Cells that a spreadsheet might take
    for formulas begin with an apostrophe, which an import takes away again.
    """
    wanted = Filter(role=role, stage=stage, search=q)

    async def parts() -> AsyncGenerator[str]:
        async for text, _ in exports.texts(lambda: database.tenant(principal.tenant_id), wanted, format):
            yield text

    kind = "text/csv" if format == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="people.{format}"'}
    return StreamingResponse(parts(), media_type=f"{kind}; charset=utf-8", headers=headers)
