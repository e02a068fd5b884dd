"""The application, whose OpenAPI document says more than FastAPI can: names, refusals and examples."""

from typing import Any

from fastapi import FastAPI

from api.openapi.naming import name_operations, name_schemas, unnamed


class DocumentedApp(FastAPI):
    """FastAPI with our document."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - FastAPI's own, many
        super().__init__(generate_unique_id_function=unnamed, **options)
        self._drawn: dict[str, Any] | None = None
        self._document: dict[str, Any] = {}

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document; it is made once, and again when a route was added."""
        drawn = super().openapi()
        if drawn is not self._drawn:
            self._drawn = drawn
            self._document = complete(drawn)
        return self._document


def complete(drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the document that FastAPI drew, made whole."""
    document = name_schemas(drawn)
    name_operations(document)
    return document
