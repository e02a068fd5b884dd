"""What quotes a person without being one of its rows: journals of merges, kept answers, parked events, refused rows."""

import re
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from models import PersonIdentifier

_SPECIAL: Final = re.compile(r"[.*+?^${}()|\[\]\\]")
"""What means something in a regular expression of Postgres."""
_people = bindparam("people", type_=ARRAY(Uuid))

_OTHER_SIDES: Final = text("""
    SELECT DISTINCT side.id
    FROM person_merge m, unnest(ARRAY[m.winner_id, m.loser_id]) AS side(id)
    WHERE m.tenant_id = :tenant AND (m.winner_id = ANY(:people) OR m.loser_id = ANY(:people))
      AND side.id <> ALL(:people)
    UNION
    SELECT a.person_id
    FROM person_merge m JOIN person_alias a ON a.tenant_id = :tenant AND a.id IN (m.winner_id, m.loser_id)
    WHERE m.tenant_id = :tenant AND (m.winner_id = ANY(:people) OR m.loser_id = ANY(:people))
      AND a.person_id <> ALL(:people)
""").bindparams(_people)

# Of what can be large, only the last day's answers and a month's refused rows are kept: each is read as a whole.
_BY_PEOPLE: Final = {
    "person_merge": """
        DELETE FROM person_merge m
        WHERE m.tenant_id = :tenant AND (m.winner_id = ANY(:people) OR m.loser_id = ANY(:people))
    """,
    "duplicate_block": "DELETE FROM duplicate_block b WHERE b.tenant_id = :tenant AND b.person_id = ANY(:people)",
    "dead_event": """
        DELETE FROM dead_event d USING event e
        WHERE d.tenant_id = :tenant AND e.tenant_id = :tenant AND e.id = d.event_id AND e.person_id = ANY(:people)
    """,
}
_ANSWERS: Final = text("""
    DELETE FROM idempotency_key k
    WHERE k.tenant_id = :tenant
      AND EXISTS (SELECT FROM unnest(:needles) AS needle WHERE position(convert_to(needle, 'UTF8') IN k.body) > 0)
""").bindparams(bindparam("needles", type_=ARRAY(Text)))
# Test copies are of nobody, and yet went to somebody, or showed somebody: their own keys say whom.
_COPIES: Final = text("""
    UPDATE message m SET address = NULL, provider_id = NULL,
        status = CASE m.status WHEN 'queued' THEN 'excluded' ELSE m.status END,
        reason = CASE m.status WHEN 'queued' THEN 'erased' WHEN 'excluded' THEN m.reason END
    WHERE m.tenant_id = :tenant AND m.dedupe_key >= 'test:' AND m.dedupe_key < 'test;' AND m.address IS NOT NULL
      AND (m.address = ANY(:addresses)
        OR EXISTS (SELECT FROM unnest(:people) AS person WHERE position(person IN m.dedupe_key) > 0))
    RETURNING m.id, m.page_id
""").bindparams(bindparam("addresses", type_=ARRAY(Text)), bindparam("people", type_=ARRAY(Text)))
_QUOTES: Final = """
    (EXISTS (SELECT FROM unnest(:words) AS word WHERE lower({text}) ~ word)
      OR EXISTS (SELECT FROM unnest(:numbers) AS digits
                 WHERE position(digits IN regexp_replace({text}, '[^0-9]', '', 'g')) > 0))
"""
_of_quotes = (bindparam("words", type_=ARRAY(Text)), bindparam("numbers", type_=ARRAY(Text)))
_REJECTS: Final = text(
    f"DELETE FROM import_reject j WHERE j.tenant_id = :tenant AND {_QUOTES.format(text='j.content')}"  # noqa: S608 - a constant of ours
).bindparams(*_of_quotes)
# The report of a dry run shows rows of the file; without it the import is only to be checked again.
_REPORTS: Final = text(
    f"UPDATE people_import i SET report = NULL WHERE i.tenant_id = :tenant AND {_QUOTES.format(text='i.report::text')}"  # noqa: S608 - as above
).bindparams(*_of_quotes)


async def identifiers(session: TenantSession, person_id: UUID) -> list[tuple[str, str]]:
    """Return kind and value of all identifiers of a person."""
    rows = await session.execute(
        select(PersonIdentifier.kind, PersonIdentifier.value).where(
            PersonIdentifier.tenant_id == session.tenant_id, PersonIdentifier.person_id == person_id
        )
    )
    return [(row.kind, row.value) for row in rows]


async def other_sides(session: TenantSession, people: Sequence[UUID]) -> list[UUID]:
    """Return the people who were merged with one of these, and are neither of them any more."""
    return list(await session.scalars(_OTHER_SIDES, {"tenant": session.tenant_id, "people": list(people)}))


async def erase(session: TenantSession, people: Sequence[UUID], known_by: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Delete what quotes these ids, or the identifiers (kind and value); return how many rows of each table.

    Kept answers are searched for ids and addresses alone: by a short identifier of another kind an answer would be
    forgotten that has nothing to do with the person, and its request be done twice.
    """
    counts: dict[str, int] = {}
    reachable = _reachable(known_by)
    for table, statement in _BY_PEOPLE.items():
        deleting = text(statement).bindparams(_people)
        counts[table] = await _count(session, deleting, {"people": list(people)})
    counts["idempotency_key"] = await _count(
        session, _ANSWERS, {"needles": [*(str(person_id) for person_id in people), *reachable]}
    )
    quotes = {
        "words": [_word(value) for kind, value in known_by if kind != "phone"],
        "numbers": [value.removeprefix("+") for kind, value in known_by if kind == "phone"],
    }
    counts["import_reject"] = await _count(session, _REJECTS, quotes)
    counts["people_import"] = await _count(session, _REPORTS, quotes)
    return counts


async def erase_copies(
    session: TenantSession, people: Sequence[UUID], known_by: Sequence[tuple[str, str]]
) -> list[UUID]:
    """Blank the test copies that went to these people, or showed them; return those that a sender may have written."""
    values = {"addresses": _reachable(known_by), "people": [str(person_id) for person_id in people]}
    rows = await session.execute(_COPIES, {"tenant": session.tenant_id, **values})
    return [row.id for row in rows if row.page_id is not None]


def _reachable(known_by: Sequence[tuple[str, str]]) -> list[str]:
    return [value for kind, value in known_by if kind in {"email", "phone"}]


async def _count(session: TenantSession, statement: Any, values: dict[str, Any]) -> int:  # noqa: ANN401 - text with types
    result: Any = await session.execute(statement, {"tenant": session.tenant_id, **values})
    return result.rowcount


def _word(value: str) -> str:
    """Return the regular expression that finds an identifier as it stands in a file: whole, in any case."""
    literal = _SPECIAL.sub(r"\\\g<0>", value.lower())
    return rf"(^|[^[:alnum:]_.+-]){literal}($|[^[:alnum:]_+-])"
