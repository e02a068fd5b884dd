"""Where the links of messages lead. No key: the token in the address says what may be done, and for whom.

GET and HEAD change nothing but counters, and HEAD not even those: scanners and mail programs follow every link.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import RedirectResponse

from api.dependencies import DatabaseDep, SettingsDep
from api.openapi.answers import LED_ON, NO_PAGE, binary
from api.tracking import pages
from api.tracking.machines import is_machine, is_machine_open
from core.database import Database
from core.errors import NotFoundError
from core.logging import get_logger
from core.tokens import BadTokenError, Click, Tokens
from services.marketing import engagement, short_links

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

router = APIRouter(prefix="/t", tags=["tracking"])

_PIXEL: Final = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
"""A transparent GIF of one pixel."""
_MAX_TOKEN: Final = 8_000

_log = get_logger(__name__)

TokenPath = Annotated[str, Path(max_length=_MAX_TOKEN)]
CodePath = Annotated[str, Path(max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


def get_tokens(settings: SettingsDep) -> Tokens:
    """Return what reads tokens."""
    return Tokens(settings.secret_key.get_secret_value())


TokensDep = Annotated[Tokens, Depends(get_tokens)]


@router.head("/o/{token}", include_in_schema=False)
@router.get(
    "/o/{token}",
    operation_id="tracking.open",
    response_class=Response,
    responses={200: binary("A transparent picture", "image/gif"), 404: NO_PAGE},
)
async def pixel(token: TokenPath, request: Request, tokens: TokensDep, database: DatabaseDep) -> Response:
    """Count an open."""
    try:
        ref = tokens.read_open(token)
    except BadTokenError:
        return pages.not_found()
    if request.method == "GET":
        machine = is_machine_open(request.headers)
        await _count(database, lambda connection: engagement.opened(connection, ref, machine=machine), ref.tenant_id)
    return Response(_PIXEL, media_type="image/gif", headers={"Cache-Control": "no-store"})


@router.head("/c/{token}", include_in_schema=False)
@router.get(
    "/c/{token}", operation_id="tracking.click", status_code=302, response_class=RedirectResponse, responses=LED_ON
)
async def click(token: TokenPath, request: Request, tokens: TokensDep, database: DatabaseDep) -> Response:
    """Count a click and lead on."""
    try:
        found = tokens.read_click(token)
    except BadTokenError:
        return pages.not_found()
    if urlsplit(found.target).scheme not in {"http", "https"}:
        return pages.not_found()
    return await _led_on(request, database, found)


@router.head("/l/{code}", include_in_schema=False)
@router.get(
    "/l/{code}", operation_id="tracking.short_link", status_code=302, response_class=RedirectResponse, responses=LED_ON
)
async def short_link(code: CodePath, request: Request, database: DatabaseDep) -> Response:
    """Count a click on the short address in a text message, and lead on."""
    try:
        async with database.system() as session:
            found = await short_links.find(session, code)
    except NotFoundError:
        return pages.not_found()
    return await _led_on(request, database, found)


async def _led_on(request: Request, database: Database, click: Click) -> Response:
    if request.method == "GET":
        machine = is_machine(request.headers)
        await _count(
            database, lambda connection: engagement.clicked(connection, click, machine=machine), click.tenant_id
        )
    headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return RedirectResponse(click.target, status_code=302, headers=headers)


async def _count(
    database: Database, count: "Callable[[PoolConnectionProxy[Any]], Awaitable[bool]]", tenant_id: UUID
) -> None:
    """Count, if the store is there: whether or not, the recipient gets to see what was linked."""
    try:
        async with database.hot(tenant_id) as connection:
            try:
                first = await count(connection)
            except (asyncpg.ForeignKeyViolationError, asyncpg.DeadlockDetectedError):
                first = await count(connection)  # the recipient has just been merged: now the message is the winner's
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _log.warning("engagement_not_counted", error=type(error).__name__)
        return
    if first:
        database.wake()
