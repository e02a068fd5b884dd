"""Operations over a WebSocket: Strawberry's handler of the protocol `graphql-transport-ws`, with our answers in it."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from datetime import timedelta
from json import JSONDecodeError
from typing import Any, Final, cast

from graphql import ExecutionResult, OperationType
from pydantic_core import to_json
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import Message
from strawberry.types.unset import UNSET, UnsetType

from api.graphql.context import Context, Live
from api.graphql.execution import Asked, Engine, Prepared, RefusedError, answer_of, failed, told
from api.graphql.schema import platform
from api.graphql.sockets import RETRY_AFTER, Connection, Sockets
from api.routing import inspect
from api.stream.streams import CHECK_SECONDS
from core.database import Database
from core.errors import InvalidError, TooManyRequestsError, UnauthorizedError
from core.waiting import any_of

INIT_SECONDS: Final = 10.0
"""How long a socket may stay without `connection_init`."""
OPERATIONS: Final = 100
"""What may be under way on a socket at a time."""
LONGEST_REASON: Final = 123
"""Bytes of a close frame's reason."""

FORBIDDEN: Final = 4403
RESTARTING: Final = 1012
"""Codes of which clients know that they may come back: this one, at once."""
TRY_LATER: Final = 1013


async def serve(websocket: WebSocket, sockets: Sockets, engine: Engine, database: Database, live: Live) -> None:
    """Answer a socket's operations until it is closed.

    Raises:
        UnavailableError: too many are open, or the process is about to end; nothing was accepted.
    """
    with sockets.keeping(websocket) as connection:
        await _View(sockets, engine, database, live).run(websocket, context=connection)


class _Adapter(ASGIWebSocketAdapter):
    """The socket, which is closed once, whoever wants it first."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        if self.ws.application_state is WebSocketState.DISCONNECTED:
            raise WebSocketDisconnected
        await super().send_json(message)

    async def close(self, code: int, reason: str) -> None:
        await close(self.ws, code, reason)


async def close(websocket: WebSocket, code: int, reason: str = "") -> None:
    """Close a socket, unless that was done."""
    if websocket.application_state is not WebSocketState.DISCONNECTED:
        with suppress(WebSocketDisconnect):
            await websocket.close(code, reason.encode()[:LONGEST_REASON].decode(errors="ignore"))


class _Handler(BaseGraphQLTransportWSHandler[Connection, None]):
    """The protocol of one socket; what is asked over it is answered by our engine."""

    view: "_View"

    async def handle(self) -> None:
        watching = asyncio.create_task(self._watch(), name="socket-watch")
        try:
            await super().handle()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def handle_message(self, message: Message) -> None:
        fault = _fault(message)
        if fault is None and message["type"] == "connection_init" and message.get("payload", {}) is None:
            message = {"type": "connection_init"}  # as the protocol has it; Strawberry wants none then
        if fault is not None:
            await self.handle_invalid_message(fault)
        elif (
            message["type"] == "subscribe"
            and self.connection_acknowledged
            and message["id"] not in self.operations
            and len(self.operations) >= OPERATIONS
        ):
            error = TooManyRequestsError(
                f"At most {OPERATIONS} operations can be under way on a socket.", retry_after=RETRY_AFTER
            )
            payload = failed(error, self.context.websocket.scope)
            await self.send_message(cast("Message", {"id": message["id"], "type": "error", "payload": payload}))
        else:
            await super().handle_message(message)

    async def run_operation(self, operation: Operation[Connection, None]) -> None:
        """Answer an operation; what is wrong with it is told, and ends it alone."""
        scope = self.context.websocket.scope
        with suppress(WebSocketDisconnected):
            try:
                await self._answer(operation)
            except RefusedError as refused:
                await self._tell(operation, "error", told(refused.errors, scope))
            except UnauthorizedError as error:
                await self.websocket.close(FORBIDDEN, error.detail)
            except WebSocketDisconnected:
                raise
            except Exception as error:  # noqa: BLE001 - the others on this socket go on
                await self._tell(operation, "error", failed(error, scope))

    async def _answer(self, operation: Operation[Connection, None]) -> None:
        given = {"query": operation.query, "variables": operation.variables, "operationName": operation.operation_name}
        inspect(given)
        asked = Asked.of(given)
        principal = await self.view.sockets.authenticator.authenticate(self.context.authorization)
        context = Context(self.view.database, principal, self.view.live)
        scope = self.context.websocket.scope
        try:
            prepared = await self.view.engine.prepared(context, asked)
            if prepared.operation.operation is OperationType.SUBSCRIPTION:
                await self._subscribed(operation, context, prepared)
                return
            answer = await self.view.engine.answer(context, prepared, scope)
        finally:
            await context.close()
        await self._tell(operation, "next", answer)
        await self._tell(operation, "complete")

    async def _subscribed(self, operation: Operation[Connection, None], context: Context, prepared: Prepared) -> None:
        scope = self.context.websocket.scope
        results = await self.view.engine.subscribed(context, prepared)
        if isinstance(results, ExecutionResult):
            await self._tell(operation, "error", told(results.errors or (), scope))
            return
        opening = asyncio.create_task(self._opened(operation, context), name="socket-opened")
        try:
            async with aclosing(results):
                async for result in results:
                    answer = answer_of(result, scope)
                    await context.close()  # what comes next is read anew
                    await self._tell(operation, "next", answer)
        finally:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        if self.view.sockets.ending.is_set():
            # It goes on elsewhere: after `complete` its client would not ask for it again.
            await asyncio.Event().wait()
        await self._tell(operation, "complete")

    async def _opened(self, operation: Operation[Connection, None], context: Context) -> None:
        """Say by a ping, which may hold anything, that nothing committed from then on is missed."""
        await context.ready.wait()
        await self.send_message({"type": "ping", "payload": {"listening": operation.id}})

    async def _tell(self, operation: Operation[Connection, None], kind: str, payload: Any = None) -> None:  # noqa: ANN401 - of JSON
        message: dict[str, Any] = {"id": operation.id, "type": kind}
        if kind != "complete":
            message["payload"] = payload
        await operation.send_operation_message(cast("Message", message))

    async def _watch(self) -> None:
        """Close the socket once its key no longer holds, or allows less, or the process is about to end."""
        ending = self.view.sockets.ending
        while not ending.is_set():
            await any_of(ending, seconds=CHECK_SECONDS)
            before = self.context.principal
            if before is None:
                continue
            try:
                await self.view.sockets.authenticator.look_again(self.context.authorization, before.scopes)
            except UnauthorizedError as error:
                await self.websocket.close(FORBIDDEN, error.detail)
                return
        await self.websocket.close(RESTARTING, "This process is about to end; connect again.")


class _View(GraphQL[Connection, None]):
    """What Strawberry asks of an application, for one socket."""

    graphql_transport_ws_handler_class = _Handler
    websocket_adapter_class = _Adapter  # pyright: ignore[reportAssignmentType]  # as Strawberry's own

    def __init__(self, sockets: Sockets, engine: Engine, database: Database, live: Live) -> None:
        super().__init__(
            platform(),
            graphql_ide=None,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            connection_init_wait_timeout=timedelta(seconds=INIT_SECONDS),
            max_subscriptions_per_connection=None,  # told in our own words
            allowed_origins=("*",),  # as a page has only the key that it was given
        )
        self.sockets = sockets
        self.engine = engine
        self.database = database
        self.live = live

    async def on_ws_connect(self, context: Connection) -> UnsetType:
        """Accept who has a key; Strawberry closes the socket of others, unless we did saying why."""
        try:
            await self.sockets.admit(context)
        except UnauthorizedError as error:
            await close(context.websocket, FORBIDDEN, error.detail)
            raise ConnectionRejectionError from error
        except TooManyRequestsError as error:
            await close(context.websocket, TRY_LATER, error.detail)
            raise ConnectionRejectionError from error
        return UNSET

    def decode_json(self, data: str | bytes) -> object:
        try:
            return super().decode_json(data)
        except JSONDecodeError:
            raise
        except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
            raise JSONDecodeError(str(error), "", 0) from error

    def encode_json(self, data: object) -> str:
        return to_json(data).decode()


def _fault(message: object) -> str | None:
    """Return what is wrong with a message's form; what Strawberry says itself is left to it."""
    if not isinstance(message, dict):
        return "A message must be a JSON object"
    given = cast("dict[str, object]", message)
    kind = given.get("type")
    if not isinstance(kind, str):
        return "type: is required, as a text"
    if kind in {"subscribe", "complete"} and not (isinstance(given.get("id"), str) and given["id"]):
        return "id: is required, as a text"
    if kind == "subscribe":
        payload = given.get("payload")
        return _fault_of(cast("dict[str, object]", payload)) if isinstance(payload, dict) else "payload: is required"
    return None


def _fault_of(payload: Mapping[str, object]) -> str | None:
    try:
        Asked.of(payload)
    except InvalidError as error:
        return f"payload.{error.errors[0].field}: {error.errors[0].reason}"
    return None
