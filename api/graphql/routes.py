"""`/graphql`: one query a request, by POST or GET, with the key and the scopes that REST asks for; or a WebSocket."""

from http import HTTPStatus
from json import JSONDecodeError
from typing import Any, Final, cast

from fastapi import Request, Response
from pydantic_core import to_json
from starlette.status import WS_1011_INTERNAL_ERROR
from starlette.websockets import WebSocket, WebSocketState

from api.dependencies import PrincipalDep, ResourcesDep
from api.errors import respond
from api.graphql.context import Context, Live
from api.graphql.execution import Asked, Engine, RefusedError, told
from api.graphql.streaming import Streaming
from api.graphql.transport_ws import TRY_LATER, close, serve
from api.resources import Resources
from api.routing import EVENT_STREAM, MalformedError, Router, parse_json
from core.errors import FieldProblem, InvalidError

router = Router(tags=["graphql"])

_MEDIA_TYPE: Final = "application/graphql-response+json"


@router.post("/graphql", include_in_schema=False)
async def post(request: Request, principal: PrincipalDep, resources: ResourcesDep) -> Response:
    """Answer the query of a JSON body."""
    body = _parsed("body", await request.body())
    if isinstance(body, list):
        raise InvalidError.of("body", "must be one request: several at once are not taken")
    if not isinstance(body, dict):
        raise InvalidError.of("body", "must be a JSON object")
    return await _answered(request, principal, resources, Asked.of(cast("dict[str, Any]", body)))


@router.get("/graphql", include_in_schema=False)
async def get(request: Request, principal: PrincipalDep, resources: ResourcesDep) -> Response:
    """Answer the query of the address's parameters."""
    given: dict[str, Any] = dict(request.query_params)
    for name in ("variables", "extensions"):
        if name in given:
            given[name] = _parsed(name, given[name].encode())
    return await _answered(request, principal, resources, Asked.of(given))


@router.websocket("/graphql")
async def socket(websocket: WebSocket) -> None:
    """Answer queries and subscriptions by the protocol `graphql-transport-ws`."""
    websocket.scope["template"] = "/graphql"  # FastAPI notes none of a socket
    resources = cast("Resources", websocket.app.state.resources)
    engine = cast("Engine", websocket.app.state.graphql)
    try:
        live = Live(resources.hub, resources.progress)
        await serve(websocket, resources.sockets, engine, resources.database, live)
    except Exception as error:  # noqa: BLE001 - nothing else would answer it
        refusal = respond(websocket.scope, error)
        if websocket.application_state is WebSocketState.CONNECTING:
            await websocket.send_denial_response(refusal)
        elif websocket.application_state is WebSocketState.CONNECTED:
            away = refusal.status_code == HTTPStatus.SERVICE_UNAVAILABLE
            await close(websocket, TRY_LATER if away else WS_1011_INTERNAL_ERROR)


async def _answered(request: Request, principal: PrincipalDep, resources: ResourcesDep, asked: Asked) -> Response:
    context = Context(resources.database, principal, Live(resources.hub, resources.progress))
    engine = cast("Engine", request.app.state.graphql)
    accepted = request.headers.get("accept", "")
    streams = EVENT_STREAM in accepted
    media_type = _MEDIA_TYPE if _MEDIA_TYPE in accepted and not streams else "application/json"
    try:
        prepared = await engine.prepared(context, asked)
        if streams:
            return await Streaming(request, context, engine, resources.authenticator).answer(prepared)
        answer = await engine.answer(context, prepared, request.scope)
    except RefusedError as refused:
        return Response(to_json({"errors": told(refused.errors, request.scope)}), 400, media_type=media_type)
    return Response(to_json(answer), media_type=media_type)


def _parsed(name: str, text: bytes) -> object:
    try:
        return parse_json(text)
    except JSONDecodeError as error:
        reason = f"is not valid JSON: {error.msg} at character {error.pos}"
        raise MalformedError(f"{name}: {reason}", errors=[FieldProblem(name, reason)]) from error
