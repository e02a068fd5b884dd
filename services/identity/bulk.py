"""Changes to many people at once, each recorded and reported as a single change is."""

from collections.abc import Mapping, Sequence
from typing import Any, cast
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import CursorResult, Text, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from core.actor import Actor
from core.database import TenantSession

FIELDS = ("first_name", "last_name", "time_zone", "locale")
"""Fields of a person, besides attributes, that a journey may set."""

_STATEMENT = """
WITH old AS MATERIALIZED (
  SELECT p.tenant_id, p.id, p.attributes, p.first_name, p.last_name, p.time_zone, p.locale
  FROM person p WHERE p.tenant_id = :tenant AND p.id = ANY(:people)
  ORDER BY p.id FOR NO KEY UPDATE
),
changed AS (
  UPDATE person p
  SET attributes = (p.attributes || CAST(:attributes AS jsonb)) - CAST(:removed AS text[]){assignments},
      updated_at = now()
  FROM old
  WHERE p.tenant_id = :tenant AND p.id = old.id
    AND (p.attributes IS DISTINCT FROM (p.attributes || CAST(:attributes AS jsonb)) - CAST(:removed AS text[]){differs})
  RETURNING p.tenant_id, p.id, (
    SELECT jsonb_object_agg(key, jsonb_build_array(before.value, after.value))
    FROM (SELECT 'attributes.' || key AS key, value FROM jsonb_each(old.attributes)
          UNION ALL SELECT key, value FROM jsonb_each({old_fields})) AS before
    FULL JOIN (SELECT 'attributes.' || key AS key, value FROM jsonb_each(p.attributes)
               UNION ALL SELECT key, value FROM jsonb_each({new_fields})) AS after USING (key)
    WHERE before.value IS DISTINCT FROM after.value
  ) AS changes
),
logged AS (
  INSERT INTO activity (tenant_id, id, subject_type, subject_id, type, actor, changes, request_id)
  SELECT tenant_id, tl_uuid7(), 'person', id, 'person.updated', :actor, changes, :request_id FROM changed
)
INSERT INTO event (tenant_id, id, type, subject_type, subject_id, person_id, properties)
SELECT tenant_id, tl_uuid7(), 'person.updated', 'person', id, id,
       jsonb_build_object('fields', (SELECT jsonb_agg(key) FROM jsonb_object_keys(changes) AS key))
FROM changed
"""


async def set_fields(
    session: TenantSession,
    person_ids: Sequence[UUID],
    *,
    fields: Mapping[str, str | None],
    attributes: Mapping[str, JsonValue],
    by: Actor,
) -> int:
    """Set fields and attributes of these people; return how many changed.

    An attribute of value null is removed. A person who has these values already is left alone.
    """
    unknown = set(fields) - set(FIELDS)
    if unknown:
        raise ValueError(f"not settable: {sorted(unknown)}")
    object_of = "jsonb_build_object(" + ", ".join(f"'{name}', {{row}}.{name}" for name in fields) + ")"
    statement = _STATEMENT.format(
        assignments="".join(f", {name} = :field_{name}" for name in fields),
        differs="".join(f" OR p.{name} IS DISTINCT FROM :field_{name}" for name in fields),
        old_fields=object_of.format(row="old"),
        new_fields=object_of.format(row="p"),
    )
    result = await session.execute(
        text(statement).bindparams(
            bindparam("people", type_=ARRAY(Uuid)),
            bindparam("attributes", type_=JSONB),
            bindparam("removed", type_=ARRAY(Text)),
            *(bindparam(f"field_{name}", type_=Text) for name in fields),
        ),
        {
            "people": person_ids,
            "tenant": session.tenant_id,
            "attributes": {name: value for name, value in attributes.items() if value is not None},
            "removed": [name for name, value in attributes.items() if value is None],
            "actor": by.name,
            "request_id": by.request_id,
            **{f"field_{name}": value for name, value in fields.items()},
        },
    )
    changed = cast("CursorResult[Any]", result).rowcount
    if changed:
        session.wake_after_commit()
    return changed
