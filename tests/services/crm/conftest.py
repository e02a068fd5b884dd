"""A tenant that sells."""

from uuid import UUID

import pytest

from core.database import Database
from tests.factories.selling import Selling


@pytest.fixture
def selling(database: Database, tenant_id: UUID) -> Selling:
    """The sales of the test's tenant."""
    return Selling(database, tenant_id)
