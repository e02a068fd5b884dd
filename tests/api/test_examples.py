"""Records examples of bodies and answers for the OpenAPI document: `make examples`, after a route was added or changed.

What is recorded already and still fits its schema stays as it is.
"""

import json
import re
from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

import pytest
from fastapi import FastAPI
from httpx import Response

from api.openapi import examples
from core.database import Database
from tests.api.conformance import DOCUMENT, documented, validator_at
from tests.api.world import INSTEAD, MARK, OF_TENANTS, Operation, World

pytestmark = [pytest.mark.examples, pytest.mark.timeout(1800)]

FOLDER: Final = Path(examples.__file__).with_suffix("")
SHOWN: Final = 2
"""Items of a list that an example shows."""
BEGUN: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""When all examples happened."""
NEAR: Final = timedelta(days=60)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_REPLACED: Final = (
    (re.compile(r"world-[0-9a-f]{32}"), "acme"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "example"),
    (re.compile(r"https?://(127\.0\.0\.1|localhost|api\.test)(:\d+)?"), "https://throughline.example"),
    (re.compile(r"p=[\w+/=]{60,}"), "p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"),
    (re.compile(r"(tl_[a-z]+_|whsec_)[\w+/=-]{8,}"), r"\1EXAMPLE"),
    (re.compile(r"[\w-]{40,}(\.[\w-]+)*"), "TOKEN"),
    (re.compile(MARK), "Acme"),
    (re.compile(MARK.lower()), "acme"),
)


class Normal:
    """Makes what is different each time the same."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self._shift = BEGUN - datetime.now(UTC)

    def of(self, value: Any, *, shown: int | None = None) -> Any:  # noqa: ANN401 - any JSON value
        """Return the value with ids, times, names and secrets of examples, and at most `shown` items of each list."""
        if isinstance(value, dict):
            members = cast("dict[str, Any]", value)
            return {self._text(key): self.of(item, shown=shown) for key, item in members.items()}
        if isinstance(value, list):
            return [self.of(item, shown=shown) for item in cast("list[Any]", value)[:shown]]
        return self._text(value) if isinstance(value, str) else value

    def _text(self, text: str) -> str:
        try:
            if len(text) == len("2026-03-02"):
                day = date.fromisoformat(text)
                return str(day + self._shift) if abs(day - datetime.now(UTC).date()) < NEAR else text
            at = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            if at.tzinfo is not None and abs(at - datetime.now(UTC)) < NEAR:
                return (at + self._shift).astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
            return text
        text = _UUID.sub(lambda found: self._id(found[0]), text)
        marked = {known: f"\ue000{index}\ue001" for index, known in enumerate(self._ids.values())}
        for known, mark in marked.items():
            text = text.replace(known, mark)
        for pattern, instead in _REPLACED:
            text = pattern.sub(instead, text)
        for known, mark in marked.items():
            text = text.replace(mark, known)
        return text

    def _id(self, own: str) -> str:
        return self._ids.setdefault(own, f"0199a7d2-8c00-7000-8000-{len(self._ids) + 1:012x}")


def described(operation: Operation) -> dict[str, Any]:
    return DOCUMENT["paths"][operation.path][operation.method.lower()]


def is_recorded(operation: Operation) -> bool:
    """Whether there is what the document needs, and it fits."""
    known = examples.recorded().get(described(operation)["operationId"], {})
    place = ("paths", operation.path, operation.method.lower())
    if operation.takes_body and not fits(known.get("body"), *place, "requestBody"):
        return False
    return any(fits(answer, *place, "responses", status) for status, answer in known.get("answers", {}).items()) or (
        not any("content" in answer for status, answer in described(operation)["responses"].items() if status < "3")
    )


def fits(example: object, *places: str) -> bool:
    content, found = documented((*places, "content"))
    if content is None or example is None:
        return False
    if "application/json" not in content:
        return isinstance(example, str)
    return validator_at(*found, "application/json", "schema").is_valid(example)


@pytest.fixture
async def settled(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    async with World.of_its_own(app, database) as world:
        await world.everything()
        yield world


async def test_examples_are_recorded(app: FastAPI, database: Database, settled: World) -> None:
    missing = [operation for operation in OF_TENANTS if not is_recorded(operation)]
    for operation in sorted(missing, key=lambda operation: operation.method not in {"GET", "POST"}):
        answer = None
        if operation.method in {"GET", "POST"} and str(operation) not in INSTEAD:
            answer = await settled.call(operation)
        if answer is None or not answer.is_success:
            async with World.of_its_own(app, database) as world:
                answer = await world.call(operation)
        assert answer.is_success, answer.text
        keep(described(operation)["operationId"], answer)


def keep(name: str, answer: Response) -> None:
    """Write an example."""
    normal = Normal()
    found: dict[str, Any] = {}
    sent = answer.request.content
    if sent:
        is_json = answer.request.headers["content-type"] == "application/json"
        found["body"] = normal.of(json.loads(sent) if is_json else sent.decode())
    if "json" in answer.headers.get("content-type", "") and answer.content:
        found["answers"] = {str(answer.status_code): normal.of(answer.json(), shown=SHOWN)}
    if not found:
        return
    file = FOLDER / f"{name.partition('.')[0]}.json"
    known: dict[str, Any] = cast("dict[str, Any]", json.loads(file.read_text())) if file.exists() else {}
    known[name] = found
    file.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n")
