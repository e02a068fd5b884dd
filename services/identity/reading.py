"""Reading a person with what belongs to it in one statement, on a hot connection: for what is asked for most."""

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol, cast
from uuid import UUID

from pydantic_core import from_json
from sqlalchemy.dialects.postgresql import JSONB

from models import Person
from services.identity.directory import Identifier, Shown

if TYPE_CHECKING:
    from models import Consent

_COLUMNS: Final = [column for column in Person.__table__.columns.values() if column.name != "tenant_id"]
_NAMES: Final = tuple(column.name for column in _COLUMNS if column.computed is None)
_JSON: Final = tuple(column.name for column in _COLUMNS if isinstance(column.type, JSONB))
_NAME: Final = re.compile(r"(?<!:):([a-z_]+)")

SHOWN: Final = f"""
    {", ".join(f"p.{name}" for name in _NAMES)},
    ARRAY(SELECT ROW(i.kind, i.value, i.label, i.verified_at)
          FROM person_identifier i WHERE i.tenant_id = :tenant AND i.person_id = p.id
          ORDER BY i.kind, i.created_at, i.value) AS shown_identifiers,
    ARRAY(SELECT a.id FROM person_alias a WHERE a.tenant_id = :tenant AND a.person_id = p.id
          ORDER BY a.created_at, a.id) AS merged_ids,
    ARRAY(SELECT ROW(c.channel, c.topic, c.status, c.source, c.changed_at)
          FROM consent c WHERE c.tenant_id = :tenant AND c.person_id = p.id
          ORDER BY c.channel, c.topic) AS shown_consent
"""  # noqa: S608 - names of our own columns
"""What to select of `person p` for `shown`."""


class Row(Protocol):
    """A row as asyncpg returns it."""

    def __getitem__(self, name: str, /) -> Any:  # noqa: ANN401 - a column's value
        """Return a column's value."""
        ...


class Connection(Protocol):
    """What is needed of an asyncpg connection whose tenant is set."""

    async def fetchrow(self, query: str, /, *arguments: object) -> Row | None:
        """Run a statement and return its first row."""
        ...


def numbered(sql: str, places: Mapping[str, str]) -> str:
    """Return the statement with each `:name` replaced by what stands for it: `$1`, or SQL of our own."""
    return _NAME.sub(lambda found: places[found[1]], sql)


def shown(row: Row) -> Shown:
    """Return the person that a row with the columns of `SHOWN` holds.

    What it is made of has the columns of the models as attributes and nothing else: objects of the ORM would take as
    long to make as all the rest.
    """
    values = {name: row[name] for name in _NAMES}
    for name in _JSON:
        values[name] = from_json(values[name])
    return Shown(
        cast("Person", SimpleNamespace(**values)),
        [Identifier(*identifier) for identifier in row["shown_identifiers"]],
        [
            cast(
                "Consent",
                SimpleNamespace(channel=channel, topic=topic, status=status, source=source, changed_at=changed_at),
            )
            for channel, topic, status, source, changed_at in row["shown_consent"]
        ],
        row["merged_ids"],
    )


BY_IDENTIFIER: Final = numbered(
    f"""
    SELECT {SHOWN}
    FROM person p
    WHERE p.tenant_id = :tenant
      AND p.id = (SELECT k.person_id FROM person_identifier k
                  WHERE k.tenant_id = :tenant AND k.kind = :kind AND k.value = :value)
    """,  # noqa: S608 - as above
    {"tenant": "$1", "kind": "$2", "value": "$3"},
)


async def by_identifier(connection: Connection, tenant_id: UUID, kind: str, value: str) -> Shown | None:
    """Return the person that a normalized identifier points to; one round trip."""
    row = await connection.fetchrow(BY_IDENTIFIER, tenant_id, kind, value)
    return None if row is None else shown(row)
