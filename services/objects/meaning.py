"""Which records are meant by whom they are linked to, or by a unique value."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text, Uuid

from core.database import TenantSession
from services.objects import held, writing
from services.objects.judging import unique_values

Linked = Literal["person", "deal"]


def _newest(column: Linked) -> TextClause:
    sides = " UNION ALL ".join(
        f"SELECT a.{record}_record_id AS record_id FROM association a"  # noqa: S608 - columns of our table
        f" WHERE a.tenant_id = :tenant AND a.{other}_{column}_id = w.id AND a.{record}_record_id IS NOT NULL"
        " AND (:label IS NULL OR a.label = :label)"
        for record, other in (("to", "from"), ("from", "to"))
    )
    statement = f"""
        SELECT DISTINCT ON (w.id) w.id, r.id AS record_id
        FROM unnest(:wanted) AS w(id)
        CROSS JOIN LATERAL ({sides}) linked
        JOIN record r ON r.tenant_id = :tenant AND r.id = linked.record_id AND r.object_id = :object
        ORDER BY w.id, r.created_at DESC, r.id DESC
    """  # noqa: S608 - columns of our table
    return text(statement).bindparams(
        bindparam("wanted", type_=ARRAY(Uuid)), bindparam("object", type_=Uuid), bindparam("label", type_=Text)
    )


_NEWEST: Final[Mapping[Linked, TextClause]] = {"person": _newest("person"), "deal": _newest("deal")}


async def newest_of(
    session: TenantSession, key: str, to: Linked, ids: Sequence[UUID], *, label: str | None = None
) -> dict[UUID, UUID]:
    """Return the newest record of the object `key` that each of these people or deals is linked to, if any.

    Raises:
        NotFoundError: no such object in this tenant.
    """
    definition = await held.find(session, key)
    values = {
        "tenant": session.tenant_id,
        "object": definition.id,
        "wanted": sorted(set(ids)),
        "label": label,
    }
    rows = await session.execute(_NEWEST[to], values)
    return {row.id: row.record_id for row in rows}


async def by_unique(session: TenantSession, key: str, name: str, values: Sequence[Any]) -> list[UUID | None]:
    """Return the record of the object `key` that has each value in its unique property `name`; None where none has.

    Raises:
        NotFoundError: no such object in this tenant.
    """
    definition = await held.hold(session, key)
    encoded = [unique_values(definition.rules, {name: value}).get(name) for value in values]
    wanted = sorted({(name, value) for value in encoded if value is not None})
    holders = await writing.holders_of(session, definition, wanted)
    return [None if value is None else holders.get((name, value)) for value in encoded]
