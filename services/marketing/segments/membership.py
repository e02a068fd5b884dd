"""Who is in a segment: judged for the people something happened to, and set by hand for static segments.

Whoever changes the members of a dynamic segment holds its lock, and judges by a later statement: so of two that judge
the same person, the later sees all that the earlier saw.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import DateTime, Text, Uuid

from contracts.events import SEGMENT_ENTERED, SEGMENT_LEFT
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from models import Segment
from services.events.publish import NewEvent, publish
from services.identity import aliases
from services.marketing.segments import revisions
from services.marketing.segments.statements import Rules, judging
from services.shared import activity
from services.shared.prepared import fetch

LOCK_SPACE: Final = 7_302_121
"""First key of the advisory locks on the members of a segment."""
TENANT_LOCK_SPACE: Final = 7_302_122
"""First key of the advisory locks on the members of all segments of a tenant."""
LOCKED_ONE_BY_ONE: Final = 8
"""Of more segments all of the tenant are locked: the server has room for some thousand locks, and a page of the relay
may concern a thousand segments of each of many tenants."""
AT_ONCE: Final = 100
"""Segments that one statement judges."""
PEOPLE_AT_ONCE: Final = 2_000

_LOCK: Final = """
SELECT set_config('plan_cache_mode', $1, true), count(*)
FROM (SELECT pg_advisory_xact_lock_shared($2, hashtext($3))
      UNION ALL
      SELECT pg_advisory_xact_lock($4, hashtext(id::text)) FROM unnest($5::uuid[]) AS id) AS locked
"""
_LOCK_ALL: Final = "SELECT set_config('plan_cache_mode', $1, true), pg_advisory_xact_lock($2, hashtext($3))"

# Held as their foreign key would hold them: whoever is being merged or erased is left out, and is no error.
_COME: Final = text("""
    INSERT INTO segment_member (tenant_id, segment_id, person_id, source)
    SELECT :tenant AS tenant_id, c.segment_id, p.id, :source
    FROM unnest(:segments, :people) AS c(segment_id, person_id)
    JOIN person p ON p.tenant_id = :tenant AND p.id = c.person_id
    FOR KEY SHARE OF p
    ON CONFLICT DO NOTHING
    RETURNING segment_id, person_id
""").bindparams(
    bindparam("segments", type_=ARRAY(Uuid)), bindparam("people", type_=ARRAY(Uuid)), bindparam("source", type_=Text)
)
_GO: Final = text("""
    DELETE FROM segment_member m USING unnest(:segments, :people) AS g(segment_id, person_id)
    WHERE m.tenant_id = :tenant AND m.segment_id = g.segment_id AND m.person_id = g.person_id
    RETURNING m.segment_id, m.person_id
""").bindparams(bindparam("segments", type_=ARRAY(Uuid)), bindparam("people", type_=ARRAY(Uuid)))
_SET_FLIPS: Final = text("""
    INSERT INTO segment_flip (tenant_id, segment_id, person_id, at)
    SELECT :tenant AS tenant_id, f.segment_id, p.id, f.at
    FROM unnest(:segments, :people, :moments) AS f(segment_id, person_id, at)
    JOIN person p ON p.tenant_id = :tenant AND p.id = f.person_id
    FOR KEY SHARE OF p
    ON CONFLICT (tenant_id, segment_id, person_id) DO UPDATE SET at = excluded.at
    WHERE segment_flip.at <> excluded.at
""").bindparams(
    bindparam("segments", type_=ARRAY(Uuid)),
    bindparam("people", type_=ARRAY(Uuid)),
    bindparam("moments", type_=ARRAY(DateTime(timezone=True))),
)
_DROP_FLIPS: Final = text("""
    DELETE FROM segment_flip f USING unnest(:segments, :people) AS g(segment_id, person_id)
    WHERE f.tenant_id = :tenant AND f.segment_id = g.segment_id AND f.person_id = g.person_id
""").bindparams(bindparam("segments", type_=ARRAY(Uuid)), bindparam("people", type_=ARRAY(Uuid)))

Pair = tuple[UUID, UUID]
"""A segment and a person."""


@dataclass(slots=True)
class Changes:
    """What came of judging."""

    entered: list[Pair] = field(default_factory=list[Pair])
    left: list[Pair] = field(default_factory=list[Pair])

    @property
    def count(self) -> int:
        """How many changes of membership there were."""
        return len(self.entered) + len(self.left)


async def lock(session: TenantSession, segment_ids: Iterable[UUID], *, keep_plans: bool = False) -> None:
    """Keep everybody else from changing the members of these segments until the transaction ends.

    With `keep_plans` its statements run by the plans that the server has kept: judging many segments takes longer to
    plan than to do. A page of people is planned for itself, see `Prepared.fetch_planned`.
    """
    mode = "force_generic_plan" if keep_plans else "auto"
    ids = sorted(segment_ids)
    tenant = (mode, TENANT_LOCK_SPACE, str(session.tenant_id))
    if len(ids) > LOCKED_ONE_BY_ONE:
        await fetch(session, _LOCK_ALL, *tenant)
    else:
        await fetch(session, _LOCK, *tenant, LOCK_SPACE, ids)


async def rejudge(
    session: TenantSession,
    concerned: Mapping[UUID, Collection[UUID]],
    *,
    live: Mapping[UUID, Collection[UUID]] | None = None,
) -> Changes:
    """Bring realtime segments in line for the people that each may have won or lost.

    Args:
        session: The tenant's.
        concerned: By segment's id, whom to look at.
        live: By segment's id, whose changes may start something: of what was told long after it happened nothing
            starts. None for all.
    """
    await lock(session, concerned, keep_plans=True)
    known = await revisions.realtime(session, concerned.keys())
    changes = Changes()
    for group, people in _grouped(concerned, known):
        for start in range(0, len(people), PEOPLE_AT_ONCE):
            await _judge(session, group, people[start : start + PEOPLE_AT_ONCE], changes)
    over = [
        (segment_id, person_id) for segment_id in concerned.keys() - known.keys() for person_id in concerned[segment_id]
    ]
    if over:
        await session.execute(_DROP_FLIPS, _columns(session, over))
    keys = {rules.segment_id: rules.key for rules in known.values()}
    await publish(session, _events(changes, keys, live))
    return changes


def _grouped(
    concerned: Mapping[UUID, Collection[UUID]], known: Mapping[UUID, Rules]
) -> list[tuple[list[Rules], list[UUID]]]:
    """Return who is to be judged by which segments, in as few statements as there are different sets of either."""
    by_people: dict[frozenset[UUID], list[Rules]] = defaultdict(list)
    of_person: dict[UUID, set[UUID]] = defaultdict(set)
    for segment_id, rules in sorted(known.items()):
        by_people[frozenset(concerned[segment_id])].append(rules)
        for person_id in concerned[segment_id]:
            of_person[person_id].add(segment_id)
    by_segments: dict[frozenset[UUID], list[UUID]] = defaultdict(list)
    for person_id, segments in of_person.items():
        by_segments[frozenset(segments)].append(person_id)
    if len(by_segments) < len(by_people):
        groups = [([known[each] for each in sorted(segments)], people) for segments, people in by_segments.items()]
    else:
        groups = [(group, list(people)) for people, group in by_people.items()]
    return [
        (group[start : start + AT_ONCE], sorted(people))
        for group, people in groups
        for start in range(0, len(group), AT_ONCE)
    ]


async def _judge(session: TenantSession, group: Sequence[Rules], people: Sequence[UUID], changes: Changes) -> None:
    rows = await judging(session.tenant_id, group).fetch(session, people=people)
    entered: list[Pair] = []
    left: list[Pair] = []
    flips: list[tuple[UUID, UUID, datetime]] = []
    over: list[Pair] = []
    for person_id, holds, moments, member_of, flipping in rows:
        inside: set[UUID] = set(member_of or ())
        due: set[UUID] = set(flipping or ())
        for rules, belongs, moment in zip(group, holds, moments, strict=True):
            pair = (rules.segment_id, person_id)
            if belongs is not (rules.segment_id in inside):
                (entered if belongs else left).append(pair)
            if moment is not None:
                flips.append((*pair, moment))
            elif rules.segment_id in due:
                over.append(pair)
    if entered:
        changes.entered += await _write(session, _COME, entered, source="rule")
    if left:
        changes.left += await _write(session, _GO, left)
    if flips:
        moments_of = [moment for _, _, moment in flips]
        pairs = [(segment_id, person_id) for segment_id, person_id, _ in flips]
        await session.execute(_SET_FLIPS, {**_columns(session, pairs), "moments": moments_of})
    if over:
        await session.execute(_DROP_FLIPS, _columns(session, over))


async def _write(session: TenantSession, statement: Any, pairs: Sequence[Pair], **more: object) -> list[Pair]:  # noqa: ANN401 - SQL
    rows = await session.execute(statement, {**_columns(session, sorted(pairs)), **more})
    return [(row.segment_id, row.person_id) for row in rows]


def _columns(session: TenantSession, pairs: Sequence[Pair]) -> dict[str, object]:
    return {
        "tenant": session.tenant_id,
        "segments": [segment_id for segment_id, _ in pairs],
        "people": [person_id for _, person_id in pairs],
    }


def _events(
    changes: Changes, keys: Mapping[UUID, str], live: Mapping[UUID, Collection[UUID]] | None = None
) -> list[NewEvent]:
    return [
        NewEvent(
            verb,
            person_id,
            properties={"segment": keys[segment_id], "segment_id": str(segment_id)},
            live=live is None or person_id in live[segment_id],
        )
        for verb, pairs in ((SEGMENT_ENTERED, changes.entered), (SEGMENT_LEFT, changes.left))
        for segment_id, person_id in pairs
    ]


async def add(
    session: TenantSession,
    segment: Segment,
    person_ids: Sequence[UUID],
    *,
    source: str = "manual",
    live: Collection[UUID] | None = None,
    by: Actor,
) -> Changes:
    """Put people into a static segment; who is in it already stays. Only for who is `live` it may start something.

    Whoever was merged away is put in as whom they became; ids of nobody are left out.

    Raises:
        ConflictError: the segment is dynamic.
        NotFoundError: it has just been deleted.
    """
    verb = "segment.people_added"
    return await _by_hand(session, segment, person_ids, _COME, verb, live=live, by=by, source=source)


async def remove(session: TenantSession, segment: Segment, person_ids: Sequence[UUID], *, by: Actor) -> Changes:
    """Take people out of a static segment.

    Raises:
        ConflictError: the segment is dynamic.
        NotFoundError: it has just been deleted.
    """
    return await _by_hand(session, segment, person_ids, _GO, "segment.people_removed", by=by)


async def keep(session: TenantSession, segment: Segment) -> None:
    """Keep the segment from being deleted until the transaction ends: its members have no foreign key to it.

    Raises:
        NotFoundError: it has just been deleted.
    """
    own = select(Segment.id).where(Segment.tenant_id == session.tenant_id, Segment.id == segment.id)
    if await session.scalar(own.with_for_update(key_share=True, read=True)) is None:
        raise NotFoundError("No such segment.")


async def _by_hand(
    session: TenantSession,
    segment: Segment,
    person_ids: Sequence[UUID],
    statement: Any,  # noqa: ANN401 - SQL
    verb: str,
    *,
    live: Collection[UUID] | None = None,
    by: Actor,
    **more: object,
) -> Changes:
    if segment.kind != "static":
        raise ConflictError("The rules of a dynamic segment say who is in it; nobody can be put in or taken out.")
    await keep(session, segment)
    merged = await aliases.among(session, person_ids)
    people = sorted({merged.get(person_id, person_id) for person_id in person_ids})
    written = await _write(session, statement, [(segment.id, person_id) for person_id in people], **more)
    changes = Changes(entered=written) if statement is _COME else Changes(left=written)
    if written:
        counted = {"people": (None, len(written))}
        await activity.record(session, by=by, subject_type="segment", subject_id=segment.id, type=verb, changes=counted)
        await publish(
            session, _events(changes, {segment.id: segment.key}, None if live is None else {segment.id: live})
        )
    return changes
