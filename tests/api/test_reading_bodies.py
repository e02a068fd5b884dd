"""Bodies are read strictly, and by the same rules whether FastAPI reads them or a hot route does."""

import json
from typing import Any, cast

import pytest
from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from api.hot import HotRoutes
from api.routing import MAX_DEPTH, parse_json
from core.errors import InvalidError

_TEXTS = st.text(st.sampled_from('[]{}"\\\\nx'), max_size=6)
_NESTED = st.recursive(
    st.just(1) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, cast("dict[str, object]", value).values()), default=0)
    return 1 + max(map(_depth, cast("list[object]", value)), default=0) if isinstance(value, list) else 0


@given(outside=st.integers(0, MAX_DEPTH), inside=_NESTED, beside=_NESTED)
def test_a_body_is_refused_just_when_it_nests_too_deeply(outside: int, inside: object, beside: object) -> None:
    for _ in range(outside):
        inside = [beside, {"a": inside}]
    body = json.dumps([inside, [[]] * MAX_DEPTH]).encode()
    try:
        assert parse_json(body) == json.loads(body)
    except InvalidError:
        assert _depth(json.loads(body)) > MAX_DEPTH
    else:
        # an empty list or object at the last level holds nothing that lies deeper
        assert _depth(json.loads(body)) <= MAX_DEPTH + 1


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b'{"type": "page.viewed"', "application/json"),
        (b'{"type": "page.viewed", "person": {"email": "a@x.example"}, "other": 1}', "application/json"),
        (b'{"type": "Page Viewed", "person": {"email": "a@x.example"}}', "application/json"),
        (b'{"type": "page.viewed", "person": {"email": "a@x.example"}}', "application/json; charset=utf-8"),
        (b'{"type": "page.viewed", "person": {"email": "a@x.example"}}', "text/plain"),
        (b"", "application/json"),
    ],
)
async def test_a_hot_route_answers_as_fastapi_would(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, body: bytes, media_type: str
) -> None:
    async def ask() -> tuple[int, dict[str, Any]]:
        answer = await client.post("/v1/events", content=body, headers={"Content-Type": media_type})
        return answer.status_code, {**answer.json(), "id": None, "request_id": None}

    async def by_fastapi(self: HotRoutes, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    hot = await ask()
    monkeypatch.setattr(HotRoutes, "__call__", by_fastapi)
    assert hot == await ask()
