"""Subscriptions as server-sent events: the mode of distinct connections of the protocol "GraphQL over SSE"."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse
from graphql import ExecutionResult
from pydantic_core import to_json

from api.authentication import Authenticator
from api.graphql.context import Context
from api.graphql.execution import Engine, Prepared, answer_of, failed
from api.routing import EVENT_STREAM
from api.stream.streams import CHECK_SECONDS, HEARTBEAT_SECONDS

LISTENING: Final = b": listening\n\n"
"""Sent once no event that is committed from then on can be missed."""


class Streaming:
    """Answers one subscription for as long as whoever asked listens."""

    def __init__(self, request: Request, context: Context, engine: Engine, authenticator: Authenticator) -> None:
        """Take who asks, and who answers."""
        self._scope = request.scope
        self._authorization = request.headers.get("authorization")
        self._context = context
        self._engine = engine
        self._authenticator = authenticator

    async def answer(self, prepared: Prepared) -> StreamingResponse:
        """Return the stream of what is asked.

        Raises:
            RefusedError: it is no subscription, or too large.
        """
        results = await self._engine.subscribed(self._context, prepared)
        headers = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
        return StreamingResponse(self._frames(results), media_type=EVENT_STREAM, headers=headers)

    async def _frames(self, results: ExecutionResult | AsyncGenerator[ExecutionResult, None]) -> AsyncGenerator[bytes]:
        try:
            if isinstance(results, ExecutionResult):
                yield self._frame(answer_of(results, self._scope))
            else:
                async with aclosing(self._told(results)) as frames:
                    async for frame in frames:
                        yield frame
        except Exception as error:  # noqa: BLE001 - the answer has begun: what went wrong is its last word
            yield self._frame({"errors": failed(error, self._scope)})
        finally:
            await self._context.close()
        yield b"event: complete\ndata:\n\n"

    async def _told(self, results: AsyncGenerator[ExecutionResult, None]) -> AsyncGenerator[bytes]:
        ready = asyncio.ensure_future(self._context.ready.wait())
        checked = time.monotonic()
        async with aclosing(results):
            waiting = asyncio.ensure_future(anext(results, None))
            try:
                while True:
                    both = {waiting} if ready.done() else {waiting, ready}
                    done, _ = await asyncio.wait(both, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                    if ready in done:
                        yield LISTENING
                    if time.monotonic() - checked >= CHECK_SECONDS:  # however much there is to tell
                        await self._authenticator.look_again(self._authorization, self._context.principal.scopes)
                        checked = time.monotonic()
                    if not done:
                        yield b":\n\n"
                    if waiting not in done:
                        continue
                    result = waiting.result()
                    if result is None:
                        return
                    frame = self._frame(answer_of(result, self._scope))
                    await self._context.close()  # what comes next is read anew
                    waiting = asyncio.ensure_future(anext(results, None))
                    yield frame
            finally:
                waiting.cancel()
                ready.cancel()
                await asyncio.gather(waiting, ready, return_exceptions=True)

    @staticmethod
    def _frame(answer: Mapping[str, Any]) -> bytes:
        return b"event: next\ndata: " + to_json(answer) + b"\n\n"
