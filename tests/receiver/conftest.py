"""The tokens of the test's deployment."""

import pytest

from core.settings import Settings
from core.tokens import Tokens


@pytest.fixture
def tokens(settings: Settings) -> Tokens:
    return Tokens(settings.secret_key.get_secret_value())
