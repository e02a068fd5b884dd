"""What `services.events.ingest` sends to Postgres."""

from typing import Final

from services.identity import resolve_rows

_EVENT: Final = """
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at, live, idempotency_key)
SELECT $1, $2, $3, p.id, p.id, $4::jsonb, $5, $6, $7
FROM ({person}) p
ON CONFLICT (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
RETURNING id
"""
BY_ID: Final = _EVENT.format(person="SELECT id FROM person WHERE tenant_id = $1 AND id = $8::uuid")
BY_IDENTIFIER: Final = _EVENT.format(
    person="SELECT person_id AS id FROM person_identifier WHERE tenant_id = $1 AND kind = $8::text AND value = $9::text"
)

KNOWN: Final = """
WITH given AS (
  SELECT e.*, i.person_id
  FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bool[], $9::text[])
       WITH ORDINALITY AS e(id, type, kind, value, properties, occurred_at, live, key, number)
  LEFT JOIN person_identifier i ON i.tenant_id = $1 AND i.kind = e.kind AND i.value = e.value
)
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at, live, idempotency_key)
SELECT $1, e.id, e.type, e.person_id, e.person_id, e.properties::jsonb, e.occurred_at, e.live, e.key
FROM given e
WHERE NOT EXISTS (SELECT FROM given WHERE person_id IS NULL)
  AND NOT EXISTS (SELECT FROM event WHERE tenant_id = $1 AND idempotency_key = ANY($9::text[])
                  AND idempotency_key IS NOT NULL)
ORDER BY e.number
"""
"""All or none: nothing is written unless everybody is known and no key was used."""

READ: Final = f"""{resolve_rows.READ}
UNION ALL
SELECT 'key', idempotency_key, id FROM event
WHERE tenant_id = $1 AND idempotency_key = ANY($5::text[]) AND idempotency_key IS NOT NULL
"""  # noqa: S608 - a constant of our own

DROP_OLDEST: Final = """
DELETE FROM person_identifier d
USING (
  SELECT i.value, row_number() OVER (PARTITION BY i.person_id ORDER BY i.created_at DESC, i.value) AS place
  FROM person_identifier i
  WHERE i.tenant_id = $1 AND i.person_id = ANY($2::uuid[]) AND i.kind = 'anonymous_id'
) old
WHERE d.tenant_id = $1 AND d.kind = 'anonymous_id' AND d.value = old.value AND old.place > $3
"""

WRITE: Final = """
WITH created AS (
  INSERT INTO person (tenant_id, id, email, phone, external_id)
  SELECT $1, * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[])
), filled AS (
  UPDATE person p
  SET email = coalesce(p.email, a.email), phone = coalesce(p.phone, a.phone),
      external_id = coalesce(p.external_id, a.external_id), updated_at = now()
  FROM unnest($6::uuid[], $7::text[], $8::text[], $9::text[]) AS a(id, email, phone, external_id)
  WHERE p.tenant_id = $1 AND p.id = a.id
), identified AS (
  INSERT INTO person_identifier (tenant_id, kind, value, person_id)
  SELECT $1, * FROM unnest($10::text[], $11::text[], $12::uuid[])
), logged AS (
  INSERT INTO activity (tenant_id, subject_type, actor, request_id, id, subject_id, type, changes)
  SELECT $1, 'person', $13, $14, l.id, l.person_id, l.type, l.changes::jsonb
  FROM unnest($15::uuid[], $16::uuid[], $17::text[], $18::text[]) AS l(id, person_id, type, changes)
)
INSERT INTO event (tenant_id, id, type, subject_id, person_id, properties, occurred_at, live, idempotency_key)
SELECT $1, e.id, e.type, e.person_id, e.person_id, e.properties::jsonb, coalesce(e.occurred_at, now()), e.live, e.key
FROM unnest($19::uuid[], $20::text[], $21::uuid[], $22::text[], $23::timestamptz[], $24::bool[], $25::text[])
     WITH ORDINALITY AS e(id, type, person_id, properties, occurred_at, live, key, number)
ORDER BY e.number
"""
