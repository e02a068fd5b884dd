"""Nodes of journeys that make, move, change and hand out deals."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import distinct_on

from core.currency import to_minor
from core.database import TenantSession
from core.errors import PlatformError
from journeys.command_nodes import OWNER, AssignOwnerNode, CreateDealNode, MoveDealNode, UpdateDealNode
from journeys.durations import add
from models import Deal, Pipeline
from services.crm import deals, moving, rates, stages
from services.crm.deal_fields import DealChange, NewDeal
from services.crm.journey_members import Detail, Member, actor, teammates
from services.crm.stages import Stage
from services.crm.unwritten import kept_back
from services.identity import owners
from services.journeys.steps import Step

_UTC: Final = ZoneInfo("UTC")
_TAKE: Final = """
    INSERT INTO owner_rotation AS r (tenant_id, key, turn) SELECT {tenant} AS tenant_id, {key}, {count}
    ON CONFLICT (tenant_id, key) DO UPDATE SET turn = r.turn + EXCLUDED.turn
    RETURNING turn
"""
_TURNS: Final = text(_TAKE.format(tenant=":tenant", key=":key", count=":count"))
_TURNS_APART: Final = _TAKE.format(tenant="$1::uuid", key="$2::text", count="$3::bigint")


async def create(
    session: TenantSession, step: Step, members: Sequence[Member], node: CreateDealNode
) -> Mapping[UUID, Detail]:
    """Make a deal for each member; one that cannot be is refused by itself."""
    of_pipeline = await stages.by_keys(session, node.pipeline)
    stage = _beginning(of_pipeline, node.stage)
    if stage is None:
        return {member.id: {"refused": f"there is no such stage of {node.pipeline}"} for member in members}
    currency = node.currency or await rates.base_of(session)
    known = await teammates(session, [node.owner or OWNER])
    made = await deals.create_many(
        session,
        [
            NewDeal(
                title=member.texts["title"],
                pipeline_id=stage.pipeline_id,
                stage_id=stage.id,
                person_id=member.person_id,
                organization_id=member.organization_id,
                owner_id=member.owner_id if node.owner == OWNER else known.get(node.owner or ""),
                amount_minor=0 if node.amount is None else to_minor(Decimal(node.amount), currency),
                currency=currency,
                close_date=None if node.close_in is None else add(datetime.now(UTC), node.close_in, _UTC).date(),
                source="journey",
                source_key=member.source_key,
            )
            for member in members
        ],
        by=actor(step),
    )
    return {
        member.id: {"deal_id": str(deal_id)} if number not in made.refused else _refusal(made.refused[number])
        for number, (member, deal_id) in enumerate(zip(members, made.ids, strict=True))
    }


def _beginning(of_pipeline: Mapping[str, Stage], key: str | None) -> Stage | None:
    if key is not None:
        return of_pipeline.get(key)
    return next((stage for stage in of_pipeline.values() if not stage.closed), None)


def _refusal(error: PlatformError) -> Detail:
    return {"refused": error.detail}


async def move(
    session: TenantSession, step: Step, members: Sequence[Member], node: MoveDealNode
) -> Mapping[UUID, Detail]:
    """Move the members' deals to the node's stage, each of its own pipeline where the node names none."""
    whose = await _meant(session, members, node)
    details: dict[UUID, Detail] = {member.id: {"refused": "no_deal"} for member in members if member.id not in whose}
    by_pipeline: dict[str, dict[UUID, UUID]] = {}
    for enrollment_id, (deal_id, pipeline) in whose.items():
        by_pipeline.setdefault(pipeline, {})[enrollment_id] = deal_id
    for pipeline, going in sorted(by_pipeline.items()):
        stage = (await stages.by_keys(session, pipeline)).get(node.stage)
        if stage is None:
            reason = f"the pipeline {pipeline} has no stage {node.stage}"
            details |= {enrollment_id: {"refused": reason} for enrollment_id in going}
            continue
        moved = await moving.move(
            session,
            list(going.values()),
            stage.id,
            by=actor(step),
            lost_reason=node.lost_reason if stage.kind == "lost" else None,
        )
        unchanged = frozenset(moved.unchanged)
        for enrollment_id, deal_id in going.items():
            detail: dict[str, Any] = {"deal_id": str(deal_id)}
            if deal_id in moved.refused:
                detail |= _refusal(moved.refused[deal_id])
            elif deal_id in unchanged:
                detail["unchanged"] = True
            details[enrollment_id] = detail
    return details


async def _meant(session: TenantSession, members: Sequence[Member], node: MoveDealNode) -> dict[UUID, tuple[UUID, str]]:
    """Return which deal of which pipeline each member's is, by enrollment; those without are left out."""
    found = {
        member.id: (member.deal_id, member.pipeline)
        for member in members
        if member.deal_id is not None and member.pipeline is not None and node.pipeline in {None, member.pipeline}
    }
    people = {member.person_id: member.id for member in members if member.deal_id is None}
    if not people or node.pipeline is None:
        return found
    newest = await session.execute(
        select(Deal.person_id, Deal.id)
        .join(Pipeline, (Pipeline.tenant_id == Deal.tenant_id) & (Pipeline.id == Deal.pipeline_id))
        .where(
            Deal.tenant_id == session.tenant_id,
            Pipeline.tenant_id == session.tenant_id,
            Pipeline.key == node.pipeline,
            Deal.person_id.in_([person_id for person_id in people if person_id is not None]),
            Deal.status == "open",
        )
        .order_by(Deal.person_id, Deal.created_at.desc(), Deal.id.desc())
        .ext(distinct_on(Deal.person_id))
    )
    deal_of = {row.person_id: row.id for row in newest}
    for member in members:
        if member.person_id in deal_of and member.deal_id is None:
            found[member.id] = deal_of[member.person_id], node.pipeline
    return found


async def change(
    session: TenantSession, step: Step, members: Sequence[Member], node: UpdateDealNode
) -> Mapping[UUID, Detail]:
    """Set the node's fields of the members' deals."""
    whose = {member.id: member.deal_id for member in members if member.deal_id is not None}
    return await _changed(session, step, whose, dict.fromkeys(whose.values(), await change_by(session, node)))


async def change_by(session: TenantSession, node: UpdateDealNode) -> DealChange:
    """Return what the node makes of a deal; a teammate who is disabled or gone is none."""
    fields: dict[str, Any] = {name: value for name, value in node.set.items() if name in {"title", "source"}}
    if "probability" in node.set:
        fields["probability"] = node.set["probability"]
    if "owner" in node.set:
        address = node.set["owner"]
        fields["owner_id"] = (await teammates(session, [str(address)])).get(str(address)) if address else None
    attributes = {
        name.removeprefix("attributes."): value for name, value in node.set.items() if name.startswith("attributes.")
    }
    if attributes:
        fields["attributes"] = attributes
    return DealChange(fields)


async def _changed(
    session: TenantSession, step: Step, whose: Mapping[UUID, UUID], changes: Mapping[UUID, DealChange]
) -> Mapping[UUID, Detail]:
    kept = kept_back(step)
    if kept is None:
        done = await deals.update_many(session, changes, by=actor(step))
    else:
        done = await kept.change(session, changes)
    return {
        enrollment_id: _refusal(done.refused[deal_id])
        for enrollment_id, deal_id in whose.items()
        if deal_id in done.refused
    }


async def assign(
    session: TenantSession, step: Step, members: Sequence[Member], node: AssignOwnerNode
) -> Mapping[UUID, Detail]:
    """Hand the members' deals, or the members, to the node's teammates in turns that go on from cohort to cohort."""
    known = await teammates(session, node.among)
    among = [known[address] for address in node.among if address in known]
    meant = [member for member in members if not (node.only_without and member.owner_id)]
    if not among or not meant:
        return {member.id: {"refused": "no_teammate"} for member in meant}
    turn = await _turns(session, step, len(meant))
    owner_of = {member.id: among[(turn + number) % len(among)] for number, member in enumerate(meant)}
    noted: dict[UUID, Detail] = {owner_id: {"owner_id": str(owner_id)} for owner_id in among}
    details = {member.id: noted[owner_of[member.id]] for member in meant}
    whose = {member.id: member.deal_id for member in meant if member.deal_id is not None}
    handing = {owner_id: DealChange({"owner_id": owner_id}) for owner_id in among}
    given = {deal_id: handing[owner_of[enrollment_id]] for enrollment_id, deal_id in whose.items()}
    details |= await _changed(session, step, whose, given)
    people = {
        member.person_id: owner_of[member.id]
        for member in meant
        if member.deal_id is None and member.person_id is not None
    }
    await owners.assign(session, people, by=actor(step))
    return details


async def _turns(session: TenantSession, step: Step, count: int) -> int:
    """Take so many turns; return how many were taken before.

    Apart from the step's transaction where that can be, or all other cohorts at the node would wait for its end: a step
    that is tried again takes new turns.
    """
    key = f"{step.version.journey_id}:{step.node}"
    if step.apart is not None:
        after = await step.apart(_TURNS_APART, session.tenant_id, key, count)
    else:
        after = await session.scalar(_TURNS, {"tenant": session.tenant_id, "key": key, "count": count})
    return after - count
