"""The guard that stands behind every test sees what it must."""

from uuid import UUID

import pytest
from sqlalchemy import Select, insert, select

from core.database import Database, TenantSession
from core.ids import new_id
from models import ApiKey, Person
from services.tenancy import api_keys
from tests.statements import UnboundTenantError, is_bound


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT person.tenant_id, person.id FROM person WHERE person.id = $1::UUID",
        "SELECT count(*) FROM message JOIN person ON message.tenant_id = person.tenant_id",
        "UPDATE person SET first_name = $1 WHERE id = $2",
        "DELETE FROM consent WHERE person_id = $1",
        "INSERT INTO person (tenant_id, id) SELECT tenant_id, id FROM enrollment",
        "SELECT name FROM tenant",
    ],
)
def test_a_statement_that_forgets_the_tenant_is_seen(sql: str) -> None:
    assert not is_bound(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT person.id FROM person WHERE person.tenant_id = $1::UUID AND person.id = $2::UUID",
        "INSERT INTO person (tenant_id, id) VALUES ($1::UUID, $2::UUID)",
        "UPDATE person SET first_name = $1 WHERE person.tenant_id = $2 AND id = $3",
        "SELECT name FROM tenant WHERE tenant.id = $1::UUID",
        "SELECT set_config('app.tenant_id', $1, true)",
        "SELECT * FROM consumer_cursor",
    ],
)
def test_a_statement_that_binds_it_or_needs_none_passes(sql: str) -> None:
    assert is_bound(sql)


async def test_the_guard_stands_in_the_way_of_our_code(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with database.tenant(tenant_id) as session:
        await session.execute(insert(Person).values(tenant_id=tenant_id, id=new_id()))
        assert len((await session.execute(select(Person.id))).all()) == 1  # a test may
        with pytest.raises(UnboundTenantError, match=r"services/tenancy/api_keys\.py"):
            await forgetful(session, monkeypatch)
        await session.rollback()


async def forgetful(session: TenantSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the list of keys with its tenant left out."""

    class Forgetful:
        def __init__(self, entity: type[ApiKey]) -> None:
            self._entity = entity

        def where(self, *_conditions: object) -> Select[ApiKey]:
            return select(self._entity)

    monkeypatch.setattr(api_keys, "select", Forgetful)
    await api_keys.list_keys(session, limit=1)
