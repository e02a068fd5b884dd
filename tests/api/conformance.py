"""Holds what the API answers against its OpenAPI document, in every test that calls it through `serving`."""

import json
import re
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

import jsonschema_rs
from httpx import Response
from pydantic import SecretStr

from api.app import create_app
from core.settings import Settings

DOCUMENT: Final[dict[str, Any]] = create_app(
    Settings(database_url="postgresql://nowhere/nothing", secret_key=SecretStr("unused" * 8))
).openapi()
"""Of all routes."""
_REGISTRY: Final = jsonschema_rs.Registry([("urn:document", DOCUMENT)])
_JSON: Final = re.compile(r"application/(.+\+)?json")


def is_json(media_type: str) -> bool:
    """Return whether content of this type is JSON."""
    return _JSON.fullmatch(media_type) is not None


def template_of(path: str) -> str | None:
    """Return the path of the document that an address belongs to: the one with the fewest parameters."""
    found = [template for pattern, template in _templates() if pattern.fullmatch(path)]
    return min(found, key=lambda template: template.count("{"), default=None)


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), path) for path in DOCUMENT["paths"]]


@cache
def validator_at(*places: str) -> jsonschema_rs.Draft202012Validator:
    """Return what checks a value by the schema at these places of the document, one below the other."""
    pointer = "/".join(quote(place.replace("~", "~0").replace("/", "~1")) for place in places)
    return jsonschema_rs.Draft202012Validator(
        {"$ref": f"urn:document#/{pointer}"}, registry=_REGISTRY, validate_formats=True
    )


def documented(places: tuple[str, ...]) -> tuple[Mapping[str, Any] | None, tuple[str, ...]]:
    """Return what stands at these places, and where, after any reference; None where there is nothing."""
    found: Any = DOCUMENT
    for place in places:
        found = found.get(place)
        if found is None:
            return None, places
    if "$ref" in found:
        return documented(tuple(found["$ref"].removeprefix("#/").split("/")))
    return found, places


async def check(response: Response) -> None:
    """Fail where the document does not say that this route gives such an answer."""
    request = response.request
    template = template_of(unquote(request.url.raw_path.decode().partition("?")[0]))
    method = request.method.lower()
    if template is None or method not in DOCUMENT["paths"][template] or response.status_code in {405, 500}:
        return
    answer, places = documented(("paths", template, method, "responses", str(response.status_code)))
    route = f"{request.method} {template}"
    if answer is None:
        await response.aread()
        raise AssertionError(
            f"{route} answers {response.status_code}, which its document does not know: {response.text[:300]}"
        )
    content = answer.get("content", {})
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if not media_type or response.status_code == HTTPStatus.NO_CONTENT:
        assert content == {} or response.status_code == 304, f"{route} {response.status_code}: no content"
        return
    assert media_type in content, f"{route} answers {response.status_code} as {media_type}, its document: {[*content]}"
    if is_json(media_type):
        await response.aread()
        _check(json.loads(response.content), route, *places, "content", media_type, "schema")


def _check(value: object, route: str, *places: str) -> None:
    for error in validator_at(*places).iter_errors(value):
        raise AssertionError(f"{route}: {'/'.join(map(str, error.instance_path))}: {error.message}"[:500])
