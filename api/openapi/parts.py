"""The OpenAPI document as plain JSON, and ways through it."""

from collections.abc import Iterator
from typing import Any, TypeAlias

Document: TypeAlias = dict[str, Any]
Operation: TypeAlias = dict[str, Any]


def operations(document: Document) -> Iterator[tuple[str, str, Operation]]:
    """Yield path, method in lower case, and operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation
