"""What the nodes of journeys do that sales carry out, each for all its members at once.

The members are moved on first, which decides who is meant; then the node has its effect on them, in the transaction of
the step. Each thing made is also unique by its source key: a member, a node and a visit make one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select

from core.currency import from_minor
from core.database import TenantSession
from journeys import members as member_sets
from journeys.command_nodes import (
    OWNER,
    AssignOwnerNode,
    CreateDealNode,
    CreateTaskNode,
    MoveDealNode,
    NotifyNode,
    UpdateDealNode,
    WebhookNode,
)
from journeys.conditions import FieldPath
from journeys.durations import add
from journeys.texts import PlacedText
from models import Journey, Person
from services.crm import calls, journey_deals, notifications, tasks, unwritten
from services.crm.calls import NewCall
from services.crm.journey_members import Detail, Member, actor, passed, teammates
from services.crm.notifications import NewNotification
from services.crm.tasks import NewTask
from services.journeys import answering, steps, waiting
from services.journeys.actions import COMMON
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.onward import Hold, Through
from services.journeys.steps import Actions, Step, StepOutcome
from services.shared.related import DEALS

Effect = Callable[[TenantSession, Step, Sequence[Member], Any], Awaitable[Mapping[UUID, Detail]]]
"""Does what a node does for members, and says by enrollment what is worth keeping of it."""
_UTC: Final = ZoneInfo("UTC")
_TEXTS: Final = ("title", "note", "body")


async def _meant(session: TenantSession, step: Step, members: CohortMembers, node: Any) -> Sequence[Member]:  # noqa: ANN401 - of any type
    meant = await passed(session, step, members, {name: getattr(node, name, None) for name in _TEXTS})
    kept = unwritten.kept_back(step)
    if kept is None:
        return meant
    owners = kept.owners()
    return [one._replace(owner_id=owners[one.deal_id]) if one.deal_id in owners else one for one in meant]


def _asked(node: Any) -> list[FieldPath]:  # noqa: ANN401 - of any type
    texts: list[PlacedText | None] = [getattr(node, name, None) for name in _TEXTS]
    return [path for text in texts if text is not None for path in text.fields]


async def _hold(session: TenantSession, step: Step, members: CohortMembers) -> None:
    """Hold the members' deals."""
    if step.version.definition.subject != "deal":
        return
    deal_ids = await session.scalars(select(ENROLLMENT.c.subject_id).where(*members.within(ENROLLMENT)))
    step.later.kept = await unwritten.hold(session, list(deal_ids), by=actor(step))


def _acting(effect: Effect, *, alone: bool = False, hold: Hold | None = None) -> Through:
    """Return the action of a node that has this effect on its members."""

    async def have(session: TenantSession, step: Step, members: CohortMembers, node: Any) -> Mapping[UUID, Detail]:  # noqa: ANN401 - of the effect's type
        return await effect(session, step, await _meant(session, step, members, node), node)

    return Through(have, alone=alone, asks=_asked, hold=hold)


async def _create_task(
    session: TenantSession, step: Step, members: Sequence[Member], node: CreateTaskNode
) -> Mapping[UUID, Detail]:
    known = await teammates(session, [node.owner])
    due_at = None if node.due_in is None else add(datetime.now(UTC), node.due_in, _UTC)
    kept = unwritten.kept_back(step)
    await tasks.create_many(
        session,
        [
            NewTask(
                title=member.texts["title"],
                kind=node.kind,
                note=member.texts.get("note"),
                due_at=due_at,
                owner_id=member.owner_id if node.owner == OWNER else known.get(node.owner),
                person_id=member.person_id,
                organization_id=member.organization_id,
                deal_id=member.deal_id,
                source_key=member.source_key,
            )
            for member in members
        ],
        by=actor(step),
        touching=None if kept is None else kept.touch,
    )
    return {}


async def _notify(
    session: TenantSession, _step: Step, members: Sequence[Member], node: NotifyNode
) -> Mapping[UUID, Detail]:
    known = [] if isinstance(node.to, str) else sorted((await teammates(session, node.to)).values())
    told = {member.id: [member.owner_id] if isinstance(node.to, str) else known for member in members}
    await notifications.create_many(
        session,
        [
            NewNotification(
                user_id=user_id,
                title=member.texts["title"],
                body=member.texts.get("body"),
                person_id=member.person_id,
                deal_id=member.deal_id,
                source_key=f"{member.source_key}:{user_id}",
            )
            for member in members
            for user_id in told[member.id]
            if user_id is not None
        ],
    )
    nobody: Detail = {"not_notified": "no_owner" if isinstance(node.to, str) else "no_teammate"}
    return {member.id: nobody for member in members if not any(told[member.id])}


async def _call(session: TenantSession, step: Step, members: CohortMembers, node: WebhookNode) -> StepOutcome:
    """Owe the calls; with a way for those that fail, members stay until theirs has ended."""
    if node.failed is None:
        done = await steps.pass_through(session, step, members, "done")
        if done:
            told = await passed(session, step, members.only(done["done"]), {})
            await _owe_calls(session, step, told, node)
        return StepOutcome(outcomes=done)
    here = members.only(await answering.staying(session, members, *step.passage))
    if not here.mask:
        return StepOutcome()
    meant = await passed(session, step, here, {})
    called = here.only(member_sets.from_slots(member.slot for member in meant))
    done = StepOutcome()
    if gone := here.mask & ~called.mask:
        # Their deal is no more, so there is nothing to tell of, and no call whose end they could wait for.
        done.outcomes = await waiting.move_by(session, step.at, here.only(gone), "failed")
    if await _owe_calls(session, step, meant, node) == len(meant):
        done.listening = called.mask
    elif called.mask:
        # Some were owed before, by another workflow or an earlier attempt, and may have ended unheard.
        done.add(await steps.leave_call(session, step, called))
    return done


async def _owe_calls(session: TenantSession, step: Step, members: Sequence[Member], node: WebhookNode) -> int:
    of_journey = select(Journey.key).where(
        Journey.tenant_id == session.tenant_id, Journey.id == step.version.journey_id
    )
    key = (await session.scalars(of_journey)).one()
    people = await _people(session, [member.person_id for member in members if member.person_id is not None])
    about = await _deals(session, [member.deal_id for member in members if member.deal_id is not None])
    return await calls.owe(
        session,
        [
            NewCall(
                url=node.url,
                body={
                    "journey": key,
                    "node": step.node,
                    "enrollment_id": str(member.id),
                    "person": None if member.person_id is None else people.get(member.person_id),
                    "deal": None if member.deal_id is None else about.get(member.deal_id),
                    "data": node.body or {},
                },
                person_id=member.person_id,
                source_key=member.source_key,
            )
            for member in members
        ],
    )


async def _people(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, Detail]:
    rows = await session.execute(
        select(Person.id, Person.external_id, Person.email, Person.first_name, Person.last_name).where(
            Person.tenant_id == session.tenant_id, Person.id.in_(sorted(set(ids)))
        )
    )
    return {
        row.id: {
            "id": str(row.id),
            "external_id": row.external_id,
            "email": row.email,
            "first_name": row.first_name,
            "last_name": row.last_name,
        }
        for row in rows
    }


async def _deals(session: TenantSession, ids: Sequence[UUID]) -> dict[UUID, Detail]:
    rows = await session.execute(
        select(
            DEALS.c.id,
            DEALS.c.title,
            DEALS.c.pipeline_key,
            DEALS.c.stage_key,
            DEALS.c.status,
            DEALS.c.currency,
            DEALS.c.amount_minor,
            DEALS.c.owner_id,
        ).where(DEALS.c.tenant_id == session.tenant_id, DEALS.c.id.in_(sorted(set(ids))))
    )
    return {
        row.id: {
            "id": str(row.id),
            "title": row.title,
            "pipeline": row.pipeline_key,
            "stage": row.stage_key,
            "status": row.status,
            "amount": str(from_minor(row.amount_minor, row.currency)),
            "currency": row.currency,
            "owner_id": None if row.owner_id is None else str(row.owner_id),
        }
        for row in rows
    }


ACTIONS: Final[Actions] = MappingProxyType(
    {
        **COMMON,
        CreateDealNode: _acting(journey_deals.create, alone=True),
        MoveDealNode: _acting(journey_deals.move, alone=True),
        UpdateDealNode: _acting(journey_deals.change, hold=_hold),
        AssignOwnerNode: _acting(journey_deals.assign, hold=_hold),
        CreateTaskNode: _acting(_create_task, hold=_hold),
        NotifyNode: _acting(_notify),
        WebhookNode: _call,
    }
)
"""What the nodes do that run on the queue of sales."""
