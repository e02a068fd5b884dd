"""Making two people one, for good or until it is taken back by `services.identity.unmerging`.

The winner takes over every row of the loser (`models.base.OfPerson`), what it lacks itself, and the stricter of two
consents. The loser's row goes; its id means the winner from then on (`services.identity.aliases`).
"""

from collections.abc import Sequence
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import or_, select

from contracts.events import PERSON_MERGED
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from models import PersonAlias, PersonMerge
from services.events.publish import NewEvent, publish
from services.identity import aliases, lifecycle, limits, merge_people, merge_rows, person_rows
from services.identity.attempts import in_attempts
from services.identity.merge_fields import Changes, as_json, filled, flatten
from services.identity.resolve import MAX_OF_KIND, MAX_VISITORS
from services.shared import activity
from services.shared.activity import NewActivity

Source = Literal["api", "anonymous", "duplicate"]

IDENTIFIED: Final = frozenset(MAX_OF_KIND)
"""Kinds of identifier that say who somebody is; who has none of them is an anonymous visitor."""


async def merge(
    session: TenantSession, winner_id: UUID, loser_id: UUID, *, by: Actor, source: Source = "api"
) -> PersonMerge:
    """Merge the loser into the winner; ids of people merged before mean whom they became.

    Both are locked until the transaction ends. With `source` "anonymous" the loser must still be anonymous.

    Raises:
        NotFoundError: there is no such person in this tenant.
        ConflictError: both are the same person already; or one person would have too many identifiers.
        UnavailableError: others changed the same people again and again meanwhile.
    """

    async def attempt() -> PersonMerge:
        return await _merge(session, winner_id, loser_id, by=by, source=source)

    return await in_attempts(session, attempt)


async def _merge(session: TenantSession, winner_id: UUID, loser_id: UUID, *, by: Actor, source: Source) -> PersonMerge:
    winner, loser = await aliases.resolve(session, winner_id), await aliases.resolve(session, loser_id)
    if winner == loser:
        raise ConflictError(f"{winner_id} and {loser_id} are the same person already.")
    await person_rows.lock_kept_elsewhere(session, loser)
    await merge_people.lock(session, {winner: False, loser: True})
    # and those that came while we waited
    await person_rows.lock_kept_elsewhere(session, loser)
    if source == "anonymous" and IDENTIFIED & (await limits.count(session, [loser])).keys():
        raise ConflictError(f"{loser} is not anonymous any more.")
    counts = await limits.check(session, [winner, loser])
    documents = await merge_people.read(session, winner, loser)
    theirs, ours = flatten(documents[loser]), flatten(documents[winner])
    changes = filled(ours, theirs)
    merged = PersonMerge(
        tenant_id=session.tenant_id,
        id=new_id(),
        winner_id=winner,
        loser_id=loser,
        source=source,
        actor=by.name,
        loser=documents[loser],
        winner_changes=as_json(changes),
        counts={},
    )
    session.add(merged)
    await session.flush()
    ids = {"merge_id": merged.id, "winner_id": winner, "loser_id": loser}
    if counts.get("anonymous_id", 0) > MAX_VISITORS:
        await merge_rows.drop_oldest_visitors(session, **ids, limit=MAX_VISITORS)
    merged.counts = await merge_rows.move(session, **ids)
    await merge_people.write(session, winner, ours | {path: after for path, (_, after) in changes.items()}, changes)
    session.add(PersonAlias(tenant_id=session.tenant_id, id=loser, person_id=winner, merge_id=merged.id))
    await session.flush()
    await merge_people.drop(session, loser)
    merge_people.forget(session, winner, loser)
    await _report(session, merged, changes, by=by)
    # what both did before is old: it starts nothing
    await lifecycle.recompute(session, [winner], quiet=[winner])
    return merged


async def _report(session: TenantSession, merged: PersonMerge, changes: Changes, *, by: Actor) -> None:
    told = await merge_people.record_consent(session, merged.winner_id, changes, merge_id=merged.id, by=by)
    await activity.record_all(
        session,
        [
            NewActivity(
                "person",
                merged.winner_id,
                PERSON_MERGED,
                {"merged": (None, str(merged.loser_id)), "merge_id": (None, str(merged.id)), **changes},
            ),
            NewActivity(
                "person",
                merged.loser_id,
                PERSON_MERGED,
                {"merged_into": (None, str(merged.winner_id)), "merge_id": (None, str(merged.id))},
            ),
        ],
        by=by,
    )
    ids = {"winner_id": merged.winner_id, "loser_id": merged.loser_id, "merge_id": merged.id}
    properties = {name: str(value) for name, value in ids.items()}
    # not live: to be merged is nothing that the person did
    await publish(session, [*told, NewEvent(PERSON_MERGED, merged.winner_id, properties=properties, live=False)])


async def get(session: TenantSession, merge_id: UUID) -> PersonMerge:
    """Return a merge.

    Raises:
        NotFoundError: the tenant has none with this id.
    """
    found = await session.get(PersonMerge, (session.tenant_id, merge_id))
    if found is None:
        raise NotFoundError("No such merge.")
    return found


async def page(
    session: TenantSession, *, limit: int, before: UUID | None, person_id: UUID | None
) -> Sequence[PersonMerge]:
    """Return up to `limit` merges older than the one with id `before`, newest first; of a person, if one is named.

    A person's are those that it or an alias of it took part in.
    """
    statement = select(PersonMerge).where(PersonMerge.tenant_id == session.tenant_id)
    if before is not None:
        statement = statement.where(PersonMerge.id < before)
    if person_id is not None:
        ids = await aliases.ids_of(session, await aliases.living(session, person_id))
        statement = statement.where(or_(PersonMerge.winner_id.in_(ids), PersonMerge.loser_id.in_(ids)))
    return (await session.scalars(statement.order_by(PersonMerge.id.desc()).limit(limit))).all()
