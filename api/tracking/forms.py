"""Forms as visitors use them: `GET /forms/{key}` shows one, `POST /forms/{key}` takes what was filled in.

A plain HTML post is taken from any page, as HTML has it. A post by a script is taken from the tenant's own websites,
which may read the answer, and from what is no browser at all.
"""

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from api.errors import respond
from api.form_data import form_data
from api.openapi.answers import Responses, page
from api.resources import Resources
from api.routing import MalformedError, parse_json
from api.tracking import form_pages, websites
from api.tracking.form_pages import ANONYMOUS, HONEYPOT, SUBMISSION, TOKEN, URL, State
from api.tracking.machines import is_machine
from api.tracking.rates import network_of
from core.errors import FieldProblem, InvalidError, NotFoundError, PlatformError, TooLargeError
from core.logging import get_logger
from core.tokens import BadTokenError, FormView, Tokens
from services.identity import forms, submissions
from services.identity.forms import PublicForm
from services.identity.submissions import Context, Submitted

router = APIRouter(prefix="/forms", tags=["tracking"])

MAX_BYTES: Final = 64 * 1024
MAX_POSTED: Final = 200
"""Fields of a post."""
LEAST_SECONDS: Final = 2
"""Nobody fills in a form faster; programs do."""
MAX_USER_AGENT: Final = 500

_log = get_logger(__name__)

_REFUSED: Final = {
    400: "The body cannot be read",
    409: "The answers belong to two people",
    413: "The body is too large",
    415: "The body is of a type that is not taken here",
    422: "An answer is at fault: the form again, or a problem for a script",
    429: "Too many submissions; wait for as long as `Retry-After` says",
    503: "Something we depend on does not answer now",
}

KeyPath = Annotated[str, Path(max_length=100)]
Answers = dict[str, Any]


_NO_FORM: Final = page("There is no such form", "There is no such form")
_SUBMITTED: Final[Responses] = {
    200: {
        "description": "Taken: a page of thanks, or JSON for a script",
        "content": {
            **page("", "Thank you")["content"],
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["ok", "message", "redirect_url"],
                    "properties": {
                        "ok": {"type": "boolean"},
                        "message": {"type": "string"},
                        "redirect_url": {"type": ["string", "null"]},
                        "anonymous_id": {"type": "string"},
                    },
                },
                "example": {"ok": True, "message": form_pages.THANKS, "redirect_url": "https://shop.example"},
            },
        },
    },
    303: {
        "description": "Taken: to the form's `redirect_url`",
        "headers": {"Location": {"description": "The address", "schema": {"type": "string"}}},
    },
    403: {},
    404: _NO_FORM,
    **{status: page("", "This could not be sent") | {"description": words} for status, words in _REFUSED.items()},
}
_FIELDS: Final[dict[str, Any]] = {"schema": {"type": "object"}, "example": {"email": "ann@shop.example"}}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {"content": {"application/json": _FIELDS, "application/x-www-form-urlencoded": _FIELDS}}
}


@router.head("/{public_key}", include_in_schema=False)
@router.get(
    "/{public_key}",
    operation_id="forms.show",
    response_class=HTMLResponse,
    responses={200: page("The form", "Contact"), 404: _NO_FORM},
)
async def show(public_key: KeyPath, request: Request) -> Response:
    """Show the form; answers may be filled in by the address, as in `?email=ann@shop.example`."""
    resources = cast("Resources", request.app.state.resources)
    try:
        form = await _find(resources, public_key)
    except NotFoundError as error:
        return form_pages.refused("There is no such form", error.detail, 404)
    answers = {field.name: request.query_params.get(field.name) for field in form.definition.fields}
    return _hosted(resources, form, answers, {}, [])


@router.options("/{public_key}", include_in_schema=False)
async def may_submit(public_key: KeyPath, request: Request) -> Response:
    """Answer a preflight: from a website of the form's tenant."""
    resources = cast("Resources", request.app.state.resources)
    origin = request.headers.get("origin", "")
    try:
        form = await _find(resources, public_key)
    except NotFoundError:
        return Response(status_code=404)
    if origin not in form.allowed_origins:
        return Response(status_code=403, headers={"Vary": "Origin"})
    return Response(status_code=204, headers=websites.preflight(origin))


@router.post(
    "/{public_key}", operation_id="forms.submit", response_class=HTMLResponse, responses=_SUBMITTED, openapi_extra=_BODY
)
async def submit(public_key: KeyPath, request: Request) -> Response:
    """Take a submission: form fields or a JSON object, by the names of the form's fields.

    A page gets the form's page of thanks, or is led to its `redirect_url` (303); what asks for JSON gets
    `{ok, message, redirect_url, anonymous_id}`. Answers at fault: 422, as a page with the form or a problem document.
    """
    resources = cast("Resources", request.app.state.resources)
    navigated = _is_navigation(request)
    try:
        form = await _find(resources, public_key)
    except NotFoundError as error:
        if navigated:
            return form_pages.refused("There is no such form", error.detail, 404)
        raise
    origin = None if navigated else _script_origin(request, resources, form)
    try:
        answer = await _submit(resources, form, public_key, request, navigated=navigated)
    except (PlatformError, HTTPException) as error:
        answer = respond(request.scope, error)
        if navigated:
            answer = form_pages.refused("This could not be sent", "Please try again in a moment.", answer.status_code)
    if origin is not None:
        answer.headers.update(websites.allowed(origin))
    return answer


async def _submit(
    resources: Resources, form: PublicForm, public_key: str, request: Request, *, navigated: bool
) -> Response:
    client = request.client.host if request.client else None
    resources.submissions.take(f"{public_key} {network_of(request.client)}")
    posted = await _posted(request)
    # A program that plays the browser. A shop's own server that passes a form on does not: its lead must not vanish.
    if posted.get(HONEYPOT) or (navigated and is_machine(request.headers)):
        _log.debug("machine_ignored", route="/forms")
        return _accepted(form, None, navigated=navigated)
    context = Context(
        submission_id=_uuid(posted.get(SUBMISSION)),
        anonymous_id=None if (browser := _uuid(posted.get(ANONYMOUS))) is None else str(browser),
        ip=client,
        user_agent=request.headers.get("user-agent", "")[:MAX_USER_AGENT],
        url=_page_address(posted.get(URL)) or _page_address(request.headers.get("referer")),
        request_id=request.state.request_id,
    )
    try:
        _check_pace(resources, form, posted.get(TOKEN))
        async with resources.database.tenant(form.tenant_id) as session:
            submitted = await submissions.submit(session, form, posted, context)
    except InvalidError as error:
        if navigated:
            own = {name: value for name in (ANONYMOUS, URL) if isinstance(value := posted.get(name), str)}
            return _hosted(resources, form, posted, own, error.errors, submission_id=context.submission_id)
        raise
    return _accepted(form, submitted, navigated=navigated)


async def _find(resources: Resources, public_key: str) -> PublicForm:
    form = None
    if public_key.isascii() and public_key.isprintable():
        async with resources.database.system() as session:
            form = await forms.find_public(session, public_key)
    if form is None:
        raise NotFoundError("It may have been taken down, or its address was cut off when it was copied.")
    return form


def _is_navigation(request: Request) -> bool:
    """Return whether a person waits for a page; a browser says so, older ones by asking for HTML."""
    mode = request.headers.get("sec-fetch-mode")
    return mode == "navigate" if mode is not None else "text/html" in request.headers.get("accept", "")


def _script_origin(request: Request, resources: Resources, form: PublicForm) -> str | None:
    origin = request.headers.get("origin")
    if origin is None:
        return None  # no browser
    parts = urlsplit(resources.settings.public_url)
    return websites.check_origin(origin, form.allowed_origins | {f"{parts.scheme}://{parts.netloc}"})


async def _posted(request: Request) -> Answers:
    raw = await request.body()
    if len(raw) > MAX_BYTES:
        raise TooLargeError(f"A submission may have at most {MAX_BYTES} bytes.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        try:
            body: Any = parse_json(raw)
        except json.JSONDecodeError as error:
            raise MalformedError("The body is not JSON.", errors=[FieldProblem("body", "is not JSON")]) from error
        if not isinstance(body, dict):
            raise InvalidError.of("body", "must be an object: answers by the names of the fields")
        return cast("Answers", body)
    if kind not in {"application/x-www-form-urlencoded", "multipart/form-data"}:
        raise HTTPException(415, "Send form fields, or a JSON object as application/json.")
    async with form_data(request, max_files=0, max_fields=MAX_POSTED) as form:
        return {name: value for name, value in form.items() if not isinstance(value, UploadFile)}


def _check_pace(resources: Resources, form: PublicForm, token: object) -> None:
    """Refuse what comes faster than a person types, where the page was ours: only that says when it was shown.

    Raises:
        InvalidError: asking to send it again, so that nobody is lost who is just quick.
    """
    if not isinstance(token, str) or not token:
        return
    view = _view(resources, form, token)
    if view is None or time.time() - view.shown_at < LEAST_SECONDS:
        raise InvalidError.of(TOKEN, "That was very quick. Please send it once more.")


def _view(resources: Resources, form: PublicForm, token: object) -> FormView | None:
    """Return what a token of this form says, None where it is none."""
    try:
        view = _tokens(resources).read_form_view(token) if isinstance(token, str) else None
    except BadTokenError:
        return None
    return view if view is not None and view.form_id == form.form_id else None


def _accepted(form: PublicForm, submitted: Submitted | None, *, navigated: bool) -> Response:
    definition = form.definition
    if not navigated:
        answer: dict[str, Any] = {
            "ok": True,
            "message": definition.success_message or form_pages.THANKS,
            "redirect_url": definition.redirect_url,
        }
        if submitted is not None and submitted.anonymous_id is not None:
            answer["anonymous_id"] = submitted.anonymous_id
        return JSONResponse(answer)
    if definition.redirect_url is not None:
        return RedirectResponse(definition.redirect_url, 303, {"Cache-Control": "no-store"})
    return form_pages.thanks(definition, embedders=form.allowed_origins)


def _hosted(
    resources: Resources,
    form: PublicForm,
    answers: Mapping[str, Any],
    own: Mapping[str, str],
    problems: list[FieldProblem] | tuple[FieldProblem, ...],
    *,
    submission_id: UUID | None = None,
) -> Response:
    # Who corrects an answer began when the form was first shown.
    view = _view(resources, form, answers.get(TOKEN)) or FormView(form.form_id, int(time.time()))
    hidden = {**own, SUBMISSION: str(submission_id or uuid4()), TOKEN: _tokens(resources).form_view(view)}
    state = State(answers=answers, problems=problems, hidden=hidden)
    status = 422 if problems else 200
    return form_pages.hosted(form.definition, form.tenant_name, state, embedders=form.allowed_origins, status=status)


def _tokens(resources: Resources) -> Tokens:
    return Tokens(resources.settings.secret_key.get_secret_value())


def _uuid(text: object) -> UUID | None:
    """Return the id, None where the text is none: nobody's lead is lost for it."""
    try:
        found = UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found if found is not None and found.int not in {0, 2**128 - 1} else None


def _page_address(text: object) -> str | None:
    if not isinstance(text, str) or not text.isprintable() or not text.startswith(("https://", "http://")):
        return None
    return text[: submissions.MAX_URL]
