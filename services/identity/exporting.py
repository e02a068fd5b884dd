"""All that is held about a person, for the person to have."""

from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError
from services.identity import aliases, person_rows
from services.shared import activity

_PERSON: Final = text("SELECT to_jsonb(p) - 'tenant_id' FROM person p WHERE p.tenant_id = :tenant AND p.id = :person")
_people = bindparam("people", type_=ARRAY(Uuid))
_MERGES: Final = text("""
    SELECT to_jsonb(m) - 'tenant_id' FROM person_merge m
    WHERE m.tenant_id = :tenant AND (m.winner_id = ANY(:people) OR m.loser_id = ANY(:people))
    ORDER BY m.id
""").bindparams(_people)
_STEPS: Final = text("""
    SELECT to_jsonb(s) - 'tenant_id'
    FROM enrollment_step s JOIN enrollment e ON e.tenant_id = s.tenant_id AND e.id = s.enrollment_id
    WHERE s.tenant_id = :tenant AND e.tenant_id = :tenant AND e.person_id = :person
    ORDER BY s.left_at, s.enrollment_id, s.node, s.visit
""")


async def export(session: TenantSession, person_id: UUID, *, by: Actor) -> dict[str, Any]:
    """Return the document, and log that it was handed out.

    `person` is the person's row, `tables` every row that is of the person by the rules of its table, `merges` what the
    person was merged from. Values are as the store has them, times in ISO 8601.

    Raises:
        NotFoundError: no such person in this tenant.
    """
    person_id = await aliases.resolve(session, person_id)
    values = {"tenant": session.tenant_id, "person": person_id}
    person: dict[str, Any] | None = await session.scalar(_PERSON, values)
    if person is None:
        raise NotFoundError("No such person.")
    ids = await aliases.ids_of(session, person_id)
    tables = await person_rows.export(session, person_id, ids[1:])
    tables["enrollment_step"] = list(await session.scalars(_STEPS, values))
    merges = await session.scalars(_MERGES, {"tenant": session.tenant_id, "people": ids})
    document = {
        "exported_at": datetime.now(UTC).isoformat(),
        "person": person,
        "tables": tables,
        "merges": list(merges),
    }
    await activity.record(
        session,
        by=by,
        subject_type="person",
        subject_id=person_id,
        type="person.exported",
        changes={},
    )
    return document
