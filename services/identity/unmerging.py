"""Taking a merge back: the loser is there again, with what was its own; what came after stays with the winner.

The winner may have been merged on meanwhile, and that merge may be taken back later: what it knows of its loser and
gave to its winner is corrected on the way.
"""

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, select, text

from contracts.events import PERSON_UNMERGED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from models import PersonAlias, PersonMerge
from services.events.publish import NewEvent, publish
from services.identity import aliases, lifecycle, merge_people, merge_rows, scoring
from services.identity.attempts import in_attempts
from services.identity.merge_fields import (
    Changes,
    as_json,
    flatten,
    from_json,
    passed_on,
    reverted,
    unflatten,
)
from services.shared import activity
from services.shared.activity import NewActivity

# A person shows no identifier that is another's, or that it lost since the merge, and one where it has any: the oldest
# of its own.
_SHOWN: Final = {
    kind: text(f"""
        UPDATE person p
        SET {kind} = (SELECT i.value FROM person_identifier i
                      WHERE i.tenant_id = :tenant AND i.person_id = p.id AND i.kind = '{kind}'
                      ORDER BY i.created_at, i.value LIMIT 1)
        WHERE p.tenant_id = :tenant AND p.id IN (:winner, :loser)
          AND (p.{kind} IS NULL OR EXISTS (SELECT FROM person_identifier i
                       WHERE i.tenant_id = :tenant AND i.kind = '{kind}' AND i.value = p.{kind} AND i.person_id <> p.id)
               OR EXISTS (SELECT FROM person_merge_row j
                          WHERE j.tenant_id = :tenant AND j.merge_id = :merge AND j.table_name = 'person_identifier'
                            AND j.row_key ->> 'kind' = '{kind}' AND j.row_key ->> 'value' = p.{kind})
                  AND NOT EXISTS (SELECT FROM person_identifier i
                                  WHERE i.tenant_id = :tenant AND i.kind = '{kind}' AND i.value = p.{kind}))
    """)  # noqa: S608 - names of our columns
    for kind in ("email", "phone", "external_id")
}


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a merge's winner is now."""

    living: UUID
    later: list[PersonMerge]
    """The merges that brought it there, in their order."""


async def undo(session: TenantSession, merge_id: UUID, *, by: Actor) -> PersonMerge:
    """Take the merge back; return it.

    The loser gets back the rows that still are the winner's. An enrollment that the merge ended stays ended, and an
    identifier that was dropped or moved since stays so.

    Raises:
        NotFoundError: the tenant has no such merge.
        ConflictError: it was taken back before; or the people were erased since.
        UnavailableError: others changed the same people again and again meanwhile.
    """

    async def attempt() -> PersonMerge:
        return await _undo(session, merge_id, by=by)

    return await in_attempts(session, attempt)


async def _undo(session: TenantSession, merge_id: UUID, *, by: Actor) -> PersonMerge:
    merged = await session.get(PersonMerge, (session.tenant_id, merge_id), with_for_update=True, populate_existing=True)
    if merged is None:
        raise NotFoundError("No such merge.")
    if merged.undone_at is not None:
        raise ConflictError("The merge was taken back before.")
    standing = await _standing(session, merged)
    await merge_people.lock(session, {standing.living: False})
    winner = standing.living
    reverting = await _correct(session, standing.later, from_json(merged.winner_changes))
    documents = await merge_people.read(session, winner)
    ours = flatten(documents[winner])
    fields = reverted(ours, reverting)
    changes: Changes = {
        path: (ours.get(path), fields.get(path)) for path in reverting if ours.get(path) != fields.get(path)
    }
    await session.execute(
        delete(PersonAlias).where(PersonAlias.tenant_id == session.tenant_id, PersonAlias.id == merged.loser_id)
    )
    await merge_people.revive(session, merged.loser)
    await merge_rows.restore(session, merge_id=merged.id, winner_id=winner)
    await merge_people.write(session, winner, fields, changes)
    people = {"tenant": session.tenant_id, "winner": winner, "loser": merged.loser_id, "merge": merged.id}
    for statement in _SHOWN.values():
        await session.execute(statement, people)
    merged.undone_at = func.now()
    merged.undone_by = by.name
    await session.flush()
    await session.refresh(merged)
    merge_people.forget(session, winner, merged.loser_id)
    await _report(session, merged, winner, changes, by=by)
    both = [winner, merged.loser_id]
    await scoring.recompute(session, both, quiet=both, even_without_rules=True)
    await lifecycle.recompute(session, both, quiet=both)
    return merged


async def _standing(session: TenantSession, merged: PersonMerge) -> _Standing:
    """Return where the winner of a merge is now.

    Raises:
        ConflictError: the people were erased.
    """
    gone = ConflictError("The merged people were erased since; there is nobody to take out of the merge.")
    try:
        if not merged.loser or await aliases.resolve(session, merged.loser_id) == merged.loser_id:
            raise gone
        living = await aliases.resolve(session, merged.winner_id)
    except NotFoundError as error:
        raise gone from error
    later: list[PersonMerge] = []
    person = merged.winner_id
    while person != living:
        onward = await session.scalar(
            select(PersonMerge)
            .where(
                PersonMerge.tenant_id == session.tenant_id,
                PersonMerge.loser_id == person,
                PersonMerge.undone_at.is_(None),
            )
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        if onward is None:
            raise gone
        later.append(onward)
        person = onward.winner_id
    return _Standing(living, later)


async def _correct(session: TenantSession, later: list[PersonMerge], reverting: Changes) -> Changes:
    """Correct what later merges know of their losers and gave; return what is to be taken back from the living."""
    for merged in later:
        loser = reverted(flatten(merged.loser), reverting)
        kept, back = passed_on(loser, from_json(merged.winner_changes))
        merged.loser = unflatten(merged.loser, loser)
        merged.winner_changes = as_json(kept)
        reverting = back
    await session.flush()
    return reverting


async def _report(session: TenantSession, merged: PersonMerge, winner: UUID, changes: Changes, *, by: Actor) -> None:
    told = await merge_people.record_consent(session, winner, changes, merge_id=merged.id, by=by)
    await activity.record_all(
        session,
        [
            NewActivity(
                "person",
                winner,
                PERSON_UNMERGED,
                {"merged": (str(merged.loser_id), None), "merge_id": (str(merged.id), None), **changes},
            ),
            NewActivity(
                "person",
                merged.loser_id,
                PERSON_UNMERGED,
                {"merged_into": (str(winner), None), "merge_id": (str(merged.id), None)},
            ),
        ],
        by=by,
    )
    ids = {"winner_id": winner, "loser_id": merged.loser_id, "merge_id": merged.id}
    properties = {name: str(value) for name, value in ids.items()}
    events = [
        NewEvent(PERSON_UNMERGED, person, properties=properties, live=False)
        for person in sorted(set(ids.values()) - {merged.id})
    ]
    await publish(session, [*told, *events])
