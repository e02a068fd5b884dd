"""What tests of commerce share."""

import pytest

from core.settings import Settings
from services.commerce.gateways import Gateways


@pytest.fixture
def gateways(settings: Settings) -> Gateways:
    """The gateways of a process."""
    return Gateways(settings)
