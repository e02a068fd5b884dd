"""Who of a page of candidates may enter a journey now, by `again`, and why the others may not."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Boolean, Text, TextClause, Uuid, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY

from core.database import TenantSession
from journeys.entries import Again
from services.journeys.candidates import Candidate
from services.journeys.versions import LoadedVersion

LOOP_DEPTH: Final = 20
"""Entries of one subject by one key, within an hour, by events that journeys themselves can bring about: no more."""
LOOP_DEPTH_OF_ALL_KEYS: Final = 200
"""The same over all keys, as a loop may make a new one each time."""

# The tables of both subjects have the columns tenant_id and id.
_ELIGIBLE: Final = """
SELECT c.n,
  CASE
    WHEN p.id IS NULL THEN 'not_found'
    WHEN c.twin > 1 AND :single THEN 'repeated'
    WHEN :exclusive AND past.open THEN 'already_active'
    WHEN :once AND past.last_entered IS NOT NULL THEN 'already_entered'
    WHEN past.last_entered > now() - make_interval(months => :gap_months, days => :gap_days, secs => :gap_seconds)
      THEN 'too_soon'
    {looping}
  END AS refused
FROM (
  SELECT n, subject_id, entry_key,
    row_number() OVER (PARTITION BY subject_id, entry_key ORDER BY CASE WHEN :newest THEN -n ELSE n END) AS twin
  FROM unnest(:subjects, :keys) WITH ORDINALITY AS given(subject_id, entry_key, n)
) AS c
LEFT JOIN {subject} p ON p.tenant_id = :tenant AND p.id = c.subject_id
LEFT JOIN LATERAL (
  SELECT bool_or(e.ended_at IS NULL) AS open, max(e.entered_at) AS last_entered
  FROM enrollment e
  WHERE e.tenant_id = :tenant AND e.subject_id = c.subject_id AND e.journey_id = :journey AND e.entry_key = c.entry_key
    AND e.subject_type = '{subject}'
) AS past ON true
{lately}
ORDER BY c.n
"""
_LATELY: Final = """
LEFT JOIN LATERAL (
  SELECT count(*) FILTER (WHERE e.entry_key = c.entry_key) AS by_key, count(*) AS by_any
  FROM enrollment e
  WHERE e.tenant_id = :tenant AND e.subject_id = c.subject_id AND e.journey_id = :journey
    AND e.entered_at > now() - interval '1 hour' AND e.subject_type = '{subject}' AND e.entry_event_id IS NOT NULL
) AS lately ON true
"""
_LOOPING: Final = "WHEN lately.by_key >= :depth OR lately.by_any >= :depth_of_all THEN 'looping'"


def _statement(subject: str, *, guarded: bool) -> TextClause:
    lately = _LATELY.format(subject=subject) if guarded else ""
    statement = _ELIGIBLE.format(subject=subject, looping=_LOOPING if guarded else "", lately=lately)
    return text(statement).bindparams(
        bindparam("subjects", type_=ARRAY(Uuid)),
        bindparam("keys", type_=ARRAY(Text)),
        *(bindparam(name, type_=Boolean) for name in ("single", "exclusive", "once", "newest")),
    )


_STATEMENTS: Final = {
    (subject, guarded): _statement(subject, guarded=guarded)
    for subject in ("person", "deal")
    for guarded in (False, True)
}


async def refused(
    session: TenantSession, version: LoadedVersion, page: Sequence[Candidate], *, again: Again, guarded: bool
) -> list[str | None]:
    """Return for each candidate why it may not enter, or None.

    With `guarded`, whoever entered so often lately that the journey itself must be the cause is `looping`.
    """
    gap = again.min_gap
    parameters = {
        "tenant": session.tenant_id,
        "journey": version.journey_id,
        # Twice in one call: of those who begin anew the last is meant, of all others the first.
        "single": gap is not None or not again.overlapping,
        "newest": again.restarting,
        "exclusive": not again.overlapping and not again.restarting,
        "once": again.mode == "never",
        "subjects": [candidate.subject_id for candidate in page],
        "keys": [candidate.entry_key for candidate in page],
        "gap_months": gap.months if gap else 0,
        "gap_days": gap.days if gap else 0,
        "gap_seconds": gap.elapsed.total_seconds() if gap else 0,
    }
    if guarded:
        parameters |= {"depth": LOOP_DEPTH, "depth_of_all": LOOP_DEPTH_OF_ALL_KEYS}
    rows = await session.execute(_STATEMENTS[version.definition.subject, guarded], parameters)
    return [row.refused for row in rows]
