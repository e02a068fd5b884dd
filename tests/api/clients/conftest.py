"""A running API behind a real port, and what the clients are told of it."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from fastapi import FastAPI

from tests.providers.serving import serving


@pytest.fixture(scope="session")
def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, as it is served."""
    return json.loads(json.dumps(app.openapi()))


@pytest.fixture
async def address(app: FastAPI) -> AsyncGenerator[str]:
    """Where the API is."""
    async with serving(app) as url:
        yield url
