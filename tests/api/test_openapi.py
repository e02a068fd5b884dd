"""The OpenAPI document: what holds of every route, whoever wrote it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic import SecretStr

from api.app import create_app
from api.openapi.examples import recorded
from api.openapi.parts import operations
from core import errors
from core.errors import PlatformError
from core.settings import Settings
from tests.api.conformance import DOCUMENT, documented, is_json, validator_at

RECORD: Final = "run `make examples`, or give the route an example of its own"


def contents() -> Iterator[tuple[str, tuple[str, ...], Mapping[str, Any]]]:
    """Yield of each body and each answer: the operation, where it stands in the document, and its content."""
    for path, method, operation in operations(DOCUMENT):
        place = ("paths", path, method)
        found = [(*place, "responses", status) for status in operation["responses"]]
        for at in [*found, *([(*place, "requestBody")] if "requestBody" in operation else [])]:
            described, where = documented(at)
            assert described is not None
            for media_type, content in described.get("content", {}).items():
                yield operation["operationId"], (*where, "content", media_type), content


def examples_of(content: Mapping[str, Any]) -> list[Any]:
    named = [each["value"] for each in content.get("examples", {}).values()]
    return [*named, content["example"]] if "example" in content else named


def test_operations_have_short_names_of_their_own() -> None:
    named = Counter(operation["operationId"] for _, _, operation in operations(DOCUMENT))
    assert [name for name, count in named.items() if count > 1] == [], "give one of the routes an operation_id"
    assert [name for name in named if not re.fullmatch(r"[a-z_]+(\.[a-z_]+){1,3}", name)] == [], (
        "give the route an operation_id of two to four words"
    )


def test_schemas_have_names_of_their_own() -> None:
    names = DOCUMENT["components"]["schemas"]
    assert [name for name in names if not re.fullmatch(r"[A-Z][A-Za-z0-9]+", name)] == [], (
        "two models of the API have one class name: rename one of them"
    )


def test_names_by_rule_depend_on_the_operation_alone() -> None:
    found = {f"{method} {path}": operation["operationId"] for path, method, operation in operations(DOCUMENT)}
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


def test_the_document_is_made_once_and_again_with_another_route() -> None:
    unused = Settings(database_url="postgresql://nowhere/nothing", secret_key=SecretStr("unused" * 8))
    application = create_app(unused.model_copy(update={"domain": "crm"}))
    made = application.openapi()
    assert application.openapi() is made
    application.get("/v1/pipelines/more")(lambda: None)
    assert "/v1/pipelines/more" in application.openapi()["paths"]


def test_every_body_and_every_answer_has_an_example() -> None:
    missing = [
        f"{name}: {'/'.join(where[3:])}"
        for name, where, content in contents()
        if not examples_of(content) and content["schema"].get("format") != "binary"
    ]
    assert missing == [], RECORD


def test_every_example_fits_its_schema() -> None:
    for name, where, content in contents():
        if is_json(where[-1]):
            for example in examples_of(content):
                errors = [error.message for error in validator_at(*where, "schema").iter_errors(example)]
                assert errors == [], f"{name}: {RECORD}"


def test_no_example_is_kept_of_a_route_that_is_gone() -> None:
    assert set(recorded()) - {operation["operationId"] for _, _, operation in operations(DOCUMENT)} == set()


def test_every_parameter_is_described() -> None:
    silent = [
        f"{operation['operationId']}: {parameter['name']}"
        for _, _, operation in operations(DOCUMENT)
        for parameter in operation.get("parameters", [])
        if "$ref" not in parameter and not parameter.get("description")
    ]
    assert silent == [], "describe it where it is declared, or by its name in api/openapi/wording.py"


def test_every_operation_says_what_it_does() -> None:
    silent = [operation["operationId"] for _, _, operation in operations(DOCUMENT) if not operation.get("description")]
    assert silent == [], "give the route a docstring"


def test_refusals_are_problems_that_what_a_route_needs_brings_with_it() -> None:
    def refusals(path: str, method: str) -> set[str]:
        return {status for status in DOCUMENT["paths"][path][method]["responses"] if status >= "4"}

    assert refusals("/healthz", "get") == set()
    assert refusals("/v1/tenant", "get") == {"401", "403", "422", "503"}
    assert refusals("/v1/people/{person_id}", "get") == {"401", "403", "404", "422", "503"}
    assert refusals("/v1/people", "post") == {"400", "401", "403", "404", "409", "413", "415", "422", "503"}
    assert refusals("/v1/sessions", "post") == {"400", "401", "409", "413", "415", "422", "429", "503"}
    assert DOCUMENT["paths"]["/v1/people"]["post"]["security"] == [{"apiKey": ["people:write"]}]
    assert DOCUMENT["paths"]["/v1/events"]["post"]["security"] == [{"apiKey": ["events:write"]}]


def test_the_examples_of_refusals_are_in_the_words_of_the_errors() -> None:
    known = {
        kind.status: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, PlatformError)
    }
    for described in DOCUMENT["components"]["responses"].values():
        for example in examples_of(described["content"]["application/problem+json"]):
            kind = known.get(example["status"])
            if kind is not None:
                assert (example["type"].rpartition("/")[2], example["title"]) == (kind.code, kind.title)
