"""The application, whose OpenAPI document says more than FastAPI can: names, refusals and examples."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI

from api.openapi.examples import add_examples
from api.openapi.naming import name_operations, name_schemas, unnamed
from api.openapi.needs import NOTHING, Needs, needs_of
from api.openapi.parts import Document, operations
from api.openapi.refusals import add_refusals, components
from api.openapi.wording import INFO, add_parameters, add_words


class DocumentedApp(FastAPI):
    """FastAPI with our document."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own, many
        super().__init__(generate_unique_id_function=unnamed, description=INFO, **options)
        self._drawn: Document | None = None
        self._document: Document = {}

    def openapi(self) -> Document:
        """Return the OpenAPI document; it is made once, and again when a route was added."""
        drawn = super().openapi()
        if drawn is not self._drawn:
            self._drawn = drawn
            self._document = complete(drawn, needs_of(self))
        return self._document


def complete(drawn: Document, needs: Mapping[tuple[str, str], Needs]) -> Document:
    """Return the document that FastAPI drew, made whole; `needs` are those of its routes."""
    document = name_schemas(drawn)
    name_operations(document)
    for path, method, operation in operations(document):
        needed = needs.get((method, path), NOTHING)
        if needed.scopes:
            operation["security"] = [{"apiKey": list(needed.scopes)}]
        add_refusals(document, path, method, operation, needed)
        add_words(operation)
        add_examples(operation)
        add_parameters(path, method, operation, needed)
    for kind, parts in components().items():
        document["components"].setdefault(kind, {}).update(parts)
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document
