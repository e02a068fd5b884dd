"""Products as a file, streamed: as much memory for a million as for a hundred."""

from collections.abc import AsyncGenerator
from typing import Annotated, Final
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import StreamingResponse

from api.dependencies import DatabaseDep, PrincipalDep, requires
from api.openapi.answers import table
from api.rest.product_shapes import Status
from api.routing import Router
from services.commerce import product_exports
from services.commerce.product_directory import Filter
from services.identity.exports import FileFormat

router = Router(prefix="/products/export", tags=["products"])


_FILE: Final = table(
    "id,name,sku\n0199a7d2-8c00-7000-8000-000000000001,Cup,cup\n",
    '{"id": "0199a7d2-8c00-7000-8000-000000000001", "name": "Cup", "variants": [{"sku": "cup"}]}\n',
)


@router.get("", dependencies=[requires("products:read")], response_class=Response, responses=_FILE)
async def export(
    principal: PrincipalDep,
    database: DatabaseDep,
    format: FileFormat = "csv",  # noqa: A002 - the API's word
    q: Annotated[str | None, Query(min_length=1, max_length=200, pattern=r"\S")] = None,
    status: Status | None = None,
    category_id: UUID | None = None,
) -> StreamingResponse:
    """Return all products that the filters let through, newest first, with variants, prices and what can be had.

    CSV has a row for each variant; NDJSON an object for each product. Cells that a spreadsheet might take for formulas
    begin with an apostrophe.
    """
    wanted = Filter(status=status, category_id=category_id, search=q)

    async def parts() -> AsyncGenerator[str]:
        async for text, _ in product_exports.texts(lambda: database.tenant(principal.tenant_id), wanted, format):
            yield text

    kind = "text/csv" if format == "csv" else "application/x-ndjson"
    headers = {"Content-Disposition": f'attachment; filename="products.{format}"'}
    return StreamingResponse(parts(), media_type=f"{kind}; charset=utf-8", headers=headers)
