"""Where recipients choose: unsubscribing, the preference centre, confirming an opt-in.

No key: the token in the address says what may be done, and for whom. GET and HEAD change nothing: scanners and mail
programs follow every link, and what they must not do needs the button's POST.
"""

from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import UploadFile

from api.dependencies import DatabaseDep
from api.form_data import form_data
from api.openapi.answers import NO_PAGE, Responses, page
from api.tracking import pages, preference_page
from api.tracking.routes import TokenPath, TokensDep
from core.database import Database
from core.errors import NotFoundError
from core.tokens import BadTokenError, ConsentRef
from services.marketing import confirmations, preferences
from services.marketing.preferences import Visit

router = APIRouter(prefix="/t", tags=["tracking"])

_MAX_FIELDS: Final = preferences.MAX_TOPICS * 10
_MAX_AGENT: Final = 500
"""Characters kept of what a browser calls itself."""


def _page(title: str) -> Responses:
    return {200: page("A page for people", title), 404: NO_PAGE}


_DEAD: Final = page("The link is too old, or the person chose otherwise since", "This can no longer be confirmed")


_CHOICE: Final[dict[str, Any]] = {
    "requestBody": {
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "properties": {
                        preference_page.TOPIC: {"type": "array", "items": {"type": "string"}},
                        preference_page.SEEN: {"type": "array", "items": {"type": "string"}},
                        preference_page.EVERYTHING: {"type": "string"},
                    },
                },
                "example": {preference_page.TOPIC: ["email:news"], preference_page.SEEN: ["email:news", "sms:news"]},
            }
        }
    }
}


def visit_of(request: Request) -> Visit:
    """Return what is kept of a request as evidence; the address is the proxy's word where one stands before us."""
    agent = "".join(letter for letter in request.headers.get("user-agent", "") if letter.isprintable())
    evidence = {"ip": request.client.host if request.client else None, "user_agent": agent[:_MAX_AGENT] or None}
    return Visit({name: value for name, value in evidence.items() if value is not None}, request.state.request_id)


@router.head("/u/{token}", include_in_schema=False)
@router.get(
    "/u/{token}", operation_id="tracking.unsubscribe.ask", response_class=HTMLResponse, responses=_page("Unsubscribe?")
)
async def ask(token: TokenPath, tokens: TokensDep, database: DatabaseDep) -> HTMLResponse:
    """Ask whether to unsubscribe; nothing changes before the button is pressed."""
    try:
        ref = tokens.read_unsubscribe(token)
        async with database.tenant(ref.tenant_id) as session:
            tenant_name, topic_name = await preferences.topic_of(session, ref)
    except (BadTokenError, NotFoundError):
        return pages.not_found()
    return pages.ask_to_unsubscribe(tenant_name, topic_name)


@router.post(
    "/u/{token}", operation_id="tracking.unsubscribe", response_class=HTMLResponse, responses=_page("Unsubscribed")
)
async def unsubscribe(token: TokenPath, request: Request, tokens: TokensDep, database: DatabaseDep) -> HTMLResponse:
    """Unsubscribe: the page's button, or a mail program's one click (RFC 8058). What it posts does not matter."""
    try:
        ref = tokens.read_unsubscribe(token)
        async with database.tenant(ref.tenant_id) as session:
            await preferences.unsubscribe(session, ref, visit_of(request))
    except (BadTokenError, NotFoundError):
        return pages.not_found()
    return pages.unsubscribed(tokens.preferences(ref))


@router.head("/p/{token}", include_in_schema=False)
@router.get(
    "/p/{token}",
    operation_id="tracking.preferences",
    response_class=HTMLResponse,
    responses=_page("What you get from us"),
)
async def show_preferences(token: TokenPath, tokens: TokensDep, database: DatabaseDep) -> HTMLResponse:
    """Show what the person gets, to choose from."""
    try:
        offered = await _choices(database, tokens.read_preferences(token))
    except (BadTokenError, NotFoundError):
        return pages.not_found()
    return preference_page.preferences(offered)


@router.post(
    "/p/{token}",
    operation_id="tracking.preferences.save",
    response_class=HTMLResponse,
    responses=_page("Saved"),
    openapi_extra=_CHOICE,
)
async def save_preferences(
    token: TokenPath, request: Request, tokens: TokensDep, database: DatabaseDep
) -> HTMLResponse:
    """Save the choice: of what the page showed, what was ticked is wanted and the rest is not; or end everything."""
    try:
        ref = tokens.read_preferences(token)
        async with form_data(request, max_files=0, max_fields=_MAX_FIELDS) as form:
            wanted, seen = (
                {_pair(value) for value in form.getlist(name) if not isinstance(value, UploadFile)}
                for name in (preference_page.TOPIC, preference_page.SEEN)
            )
            everything = preference_page.EVERYTHING in form
        async with database.tenant(ref.tenant_id) as session:
            if everything:
                await preferences.unsubscribe_from_all(session, ref, visit_of(request))
            else:
                await preferences.choose(session, ref, wanted, seen, visit_of(request))
        offered = await _choices(database, ref)
    except (BadTokenError, NotFoundError):
        return pages.not_found()
    return preference_page.preferences(offered, saved=True)


@router.head("/s/{token}", include_in_schema=False)
@router.get(
    "/s/{token}",
    operation_id="tracking.confirmation",
    response_class=HTMLResponse,
    responses={**_page("Confirm"), 410: _DEAD},
)
async def ask_to_confirm(token: TokenPath, tokens: TokensDep, database: DatabaseDep) -> HTMLResponse:
    """Ask whether an opt-in is meant; nothing changes before the button is pressed."""
    try:
        ref = tokens.read_confirm(token)
        async with database.tenant(ref.tenant_id) as session:
            shown = await confirmations.show(session, ref)
    except (BadTokenError, NotFoundError):
        return pages.not_found()
    if shown.asked.state == "open":
        return pages.ask_to_confirm(shown.tenant_name, shown.topic_name, shown.asked.wording)
    return _answered(shown)


@router.post(
    "/s/{token}",
    operation_id="tracking.confirm",
    response_class=HTMLResponse,
    responses={**_page("Confirmed"), 410: _DEAD},
)
async def confirm(token: TokenPath, request: Request, tokens: TokensDep, database: DatabaseDep) -> HTMLResponse:
    """Confirm an opt-in (double opt-in); once is as good as twice."""
    try:
        ref = tokens.read_confirm(token)
        visit = visit_of(request)
        async with database.tenant(ref.tenant_id) as session:
            shown = await confirmations.confirm(session, ref, evidence=visit.evidence, request_id=visit.request_id)
    except (BadTokenError, NotFoundError):
        return pages.not_found()
    return _answered(shown)


def _answered(shown: confirmations.Shown) -> HTMLResponse:
    if shown.asked.state == "confirmed":
        return pages.confirmed(shown.tenant_name, shown.topic_name)
    return pages.no_longer_open(shown.topic_name, expired=shown.asked.state == "expired")


def _pair(value: str) -> preferences.Pair:
    channel, _, topic = value.partition(":")
    return channel, topic


async def _choices(database: Database, ref: ConsentRef) -> preferences.Choices:
    async with database.tenant(ref.tenant_id) as session:
        return await preferences.choices(session, ref)
