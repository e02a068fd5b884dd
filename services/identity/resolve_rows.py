"""Reading what a `Directory` is made of: the same for events that come in and for files."""

from collections.abc import Collection, Iterable
from typing import Any, Final
from uuid import UUID

import asyncpg

from services.identity.resolve import Directory, Identifier

LOST_RACE: Final = (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError, asyncpg.DeadlockDetectedError)
"""Somebody else was faster: it is to be done again, on what is stored then."""

READ: Final = """
SELECT i.kind, i.value, i.person_id AS id
FROM unnest($2::text[], $3::text[]) AS g(kind, value)
JOIN person_identifier i ON i.tenant_id = $1 AND i.kind = g.kind AND i.value = g.value
UNION ALL
SELECT 'id', NULL, id FROM person WHERE tenant_id = $1 AND id = ANY($4::uuid[])
UNION ALL
SELECT 'alias', id::text, person_id FROM person_alias WHERE tenant_id = $1 AND id = ANY($4::uuid[])
"""
"""What is stored of identifiers (kinds, values) and of ids."""

COUNT: Final = """
SELECT person_id, kind, count(*)::int FROM person_identifier WHERE tenant_id = $1 AND person_id = ANY($2::uuid[])
GROUP BY person_id, kind
"""
"""How many identifiers people have."""


def of_rows(rows: Iterable[Any]) -> Directory:
    """Return the directory that rows of `READ` come to."""
    people: set[UUID] = set()
    known: dict[Identifier, UUID] = {}
    aliases: dict[UUID, UUID] = {}
    for kind, value, found in rows:
        # asyncpg has a UUID class of its own; it equals and hashes as the standard one does.
        if kind == "id":
            people.add(found)
        elif kind == "alias":
            people.add(found)
            aliases[UUID(value)] = found
        else:
            known[kind, value] = found
    return Directory(people, known, aliases)


def counted(people: Collection[UUID], rows: Iterable[Any]) -> dict[UUID, dict[str, int]]:
    """Return what rows of `COUNT` say of these people, by kind."""
    counts = {person: dict[str, int]() for person in people}
    for person, kind, number in rows:
        counts[person][kind] = number
    return counts
