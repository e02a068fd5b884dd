"""The OpenAPI document: what holds of every route, whoever wrote it."""

import re
from collections import Counter
from typing import Any, Final

import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from api.app import create_app
from api.openapi.parts import operations
from core.settings import Settings

SETTINGS: Final = Settings(database_url="postgresql://nowhere/nothing", secret_key=SecretStr("unused" * 8))


@pytest.fixture(scope="module")
def application() -> FastAPI:
    return create_app(SETTINGS)


@pytest.fixture(scope="module")
def document(application: FastAPI) -> dict[str, Any]:
    return application.openapi()


def test_operations_have_short_names_of_their_own(document: dict[str, Any]) -> None:
    named = Counter(operation["operationId"] for _, _, operation in operations(document))
    assert [name for name, count in named.items() if count > 1] == [], "give one of the routes an operation_id"
    assert [name for name in named if not re.fullmatch(r"[a-z_]+(\.[a-z_]+){1,3}", name)] == [], (
        "give the route an operation_id of two to four words"
    )


def test_schemas_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = document["components"]["schemas"]
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", name)] == [], (
        "two models of the API have one class name: rename one of them"
    )


def test_names_by_rule_depend_on_the_operation_alone(document: dict[str, Any]) -> None:
    found = {f"{method} {path}": operation["operationId"] for path, method, operation in operations(document)}
    expected = {
        "get /v1/people": "people.list",
        "post /v1/people": "people.create",
        "get /v1/people/{person_id}": "people.get",
        "patch /v1/people/{person_id}": "people.update",
        "delete /v1/people/{person_id}": "people.delete",
        "get /v1/people/{person_id}/profile": "people.profile",
        "post /v1/people/merges/{merge_id}/undo": "people.merges.undo",
        "put /v1/objects/{object_key}": "objects.replace",
        "get /v1/tenant": "tenant.get",
        "get /v1/me/notifications": "me.notifications",
        "post /v1/events": "events.create",
        "post /v1/events/batch": "events.batch",
        "get /v1/journeys/{journey}/graph.svg": "journeys.graph_svg",
    }
    assert {route: found[route] for route in expected} == expected


def test_the_document_is_made_once(application: FastAPI) -> None:
    assert application.openapi() is application.openapi()
