"""The application as the API's tests have it."""

from tests.api.conftest import app

__all__ = ["app"]
