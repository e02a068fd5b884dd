"""What deals would do in the simulation of a journey: go from stage to stage, by what they did and by its nodes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Integer, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from contracts.events import DEAL_UPDATED
from core.database import TenantSession
from core.errors import InvalidError
from journeys import members as member_sets
from journeys.command_nodes import AssignOwnerNode, MoveDealNode, UpdateDealNode
from journeys.state import ActivityResult, Run
from models import OwnerRotation, UserAccount
from services.crm import journey_deals, moving, requirements, stages, telling
from services.crm.deal_fields import merged
from services.crm.journey_members import teammates
from services.crm.requirements import Beside
from services.crm.stages import Stage
from services.journeys.simulation import deals
from services.journeys.simulation.deals import DEAL
from services.journeys.simulation.events import Played
from services.journeys.simulation.world import Answers, World

_OWN: Final[Mapping[str, str]] = MappingProxyType({"probability": "own_probability"})
"""What fields of deals are called in their copies, where they have another name there."""


@dataclass(slots=True)
class Sales:
    """What is known of pipelines, in one simulation."""

    _stages: dict[str, dict[str, Stage]] = field(default_factory=dict[str, dict[str, Stage]])
    """By the keys of their pipelines and their own."""
    _turns: dict[str, int] = field(default_factory=dict[str, int])
    """By the node that hands out: how many it has."""

    @property
    def answers(self) -> Answers:
        """What nodes of sales answer in this simulation."""
        return MappingProxyType({MoveDealNode: self._move, UpdateDealNode: self._update, AssignOwnerNode: self._assign})

    async def follow(self, world: World, events: Sequence[Played], now: datetime) -> None:
        """Take deals along to the stages that they entered."""
        last = {event.number: (event.properties["pipeline"], event.properties["stage"]) for event in events}
        going: dict[tuple[str, str], list[int]] = {}
        for number, there in last.items():
            going.setdefault(there, []).append(number)
        for (pipeline, key), numbers in going.items():
            stage = (await self._of(world.session, pipeline)).get(key)
            if stage is not None:
                await self._put(world, numbers, stage, now)

    async def _of(self, session: TenantSession, pipeline: str) -> Mapping[str, Stage]:
        if pipeline not in self._stages:
            self._stages[pipeline] = await stages.by_keys(session, pipeline)
        return self._stages[pipeline]

    async def _put(
        self, world: World, numbers: Sequence[int], stage: Stage, now: datetime, *, reason: str | None = None
    ) -> None:
        rots_at = None if stage.closed or stage.rotting_days is None else now + timedelta(days=stage.rotting_days)
        values = {
            "pipeline_key": stage.pipeline_key,
            "stage_key": stage.key,
            "status": stage.kind,
            "stage_entered_at": now,
            "closed_at": now if stage.closed else None,
            "lost_reason": func.coalesce(reason, DEAL.c.lost_reason) if stage.kind == "lost" else None,
            "probability": func.coalesce(DEAL.c.own_probability, stage.probability),
            "rots_at": rots_at,
        }
        await deals.change(world.session, numbers, values)
        world.asking.forget(_slots(world, numbers))

    async def _move(self, world: World, run: Run, node: MoveDealNode, now: datetime) -> ActivityResult:
        done = ActivityResult(run.id, outcomes={"done": run.members})
        if world.definition.subject != "deal":
            return done
        rows = await self._rows(world, run.members)
        became: dict[int, str] = {}
        going: dict[Stage, list[Any]] = {}
        for row in rows:
            of_pipeline = await self._of(world.session, row["pipeline_key"])
            stage = of_pipeline.get(node.stage)
            if stage is None or node.pipeline not in {None, row["pipeline_key"]}:
                became[row["number"]] = "refused"
            elif row["stage_key"] == stage.key:
                became[row["number"]] = "unchanged"
            else:
                going.setdefault(stage, []).append(row)
        for stage, those in going.items():
            moved = await self._may(world, those, stage, node)
            became |= {row["number"]: "refused" for row in those} | {row["number"]: "moved" for row in moved}
            await self._put(world, [row["number"] for row in moved], stage, now, reason=node.lost_reason)
            acting = set(member_sets.slots(run.members))
            for row in moved:
                left = self._stages[stage.pipeline_key].get(row["stage_key"], stage)
                told = telling.moved(row | {"lost_reason": node.lost_reason}, left, stage)
                by = [slot for slot in world.passages.of_subject(row["number"]) if slot in acting]
                world.happened += [Played(row["number"], each.type, now, dict(each.properties), by=by) for each in told]
        _count(world, run, became)
        return done

    async def _may(self, world: World, rows: Sequence[Any], stage: Stage, node: MoveDealNode) -> list[Any]:
        """Return those that the stages allow to go there."""
        beside = await moving.beside_of(world.session, stage, [row["id"] for row in rows])
        reason = node.lost_reason if stage.kind == "lost" else None
        of_pipeline = self._stages[stage.pipeline_key]
        return [
            row
            for row in rows
            if moving.refusal(
                row,
                of_pipeline.get(row["stage_key"], stage),
                stage,
                beside.get(row["id"], Beside()),
                reason=reason,
            )
            is None
        ]

    async def _update(self, world: World, run: Run, node: UpdateDealNode, now: datetime) -> ActivityResult:
        done = ActivityResult(run.id, outcomes={"done": run.members})
        try:
            fields = (await journey_deals.change_by(world.session, node)).normalized().fields
        except InvalidError:
            _count(world, run, {})
            return done
        became: dict[int, str] = {}
        changed: dict[int, _Changed] = {}
        for row in await self._rows(world, run.members):
            number = row["number"]
            stage = (await self._of(world.session, row["pipeline_key"])).get(row["stage_key"])
            one = None if stage is None else _changed(row, fields, stage)
            if one is None:
                became[number] = "refused"
            else:
                became[number] = "changed" if one.fields else "unchanged"
                if one.fields:
                    changed[number] = one
        if changed:
            if fields["attributes"]:
                attributes = {number: one.after["attributes"] for number, one in changed.items()}
                await deals.change_each(world.session, "attributes", attributes)
            if plain := {_OWN.get(name, name): value for name, value in fields.items() if name != "attributes"}:
                await deals.change(world.session, list(changed), plain)
            if "probability" in fields:
                own = fields["probability"]
                counting = {n: one.stage.probability if own is None else own for n, one in changed.items()}
                await deals.change_each(world.session, "probability", counting)
            _tell(world, run, changed, now)
        _count(world, run, became)
        return done

    async def _assign(self, world: World, run: Run, node: AssignOwnerNode, now: datetime) -> ActivityResult:
        done = ActivityResult(run.id, outcomes={"done": run.members})
        if world.definition.subject != "deal":
            return done
        known = await teammates(world.session, node.among)
        among = [known[address] for address in node.among if address in known]
        rows = await self._rows(world, run.members)
        owners = await _working(world.session, {row["owner_id"] for row in rows}) if node.only_without else set[UUID]()
        meant = [row for row in rows if row["owner_id"] not in owners]
        became = {row["number"]: "unchanged" for row in rows} | {row["number"]: "refused" for row in meant}
        if among and meant:
            turn = await self._turn(world, run, len(meant))
            changed: dict[int, _Changed] = {}
            for n, row in enumerate(meant):
                stage = (await self._of(world.session, row["pipeline_key"])).get(row["stage_key"])
                one = None if stage is None else _changed(row, {"owner_id": among[(turn + n) % len(among)]}, stage)
                if one is not None:
                    became[row["number"]] = "changed" if one.fields else "unchanged"
                    if one.fields:
                        changed[row["number"]] = one
            if changed:
                await deals.change_each(
                    world.session, "owner_id", {n: one.after["owner_id"] for n, one in changed.items()}
                )
                _tell(world, run, changed, now)
        _count(world, run, became)
        return done

    async def _rows(self, world: World, members: int) -> list[dict[str, Any]]:
        """Return the copies of members' deals, each with the probability that is its own, as deals are kept."""
        chosen = DEAL.c.number == func.any(bindparam("numbers", world.passages.numbers(members), type_=ARRAY(Integer)))
        found = await world.session.execute(select(*DEAL.columns).where(chosen).order_by(DEAL.c.number))
        return [dict(row) | {"probability": row["own_probability"]} for row in found.mappings()]

    async def _turn(self, world: World, run: Run, count: int) -> int:
        """Take so many turns at a node; return how many were taken before."""
        if run.node not in self._turns:
            row = OwnerRotation
            taken = select(row.turn).where(
                row.tenant_id == world.session.tenant_id, row.key == f"{world.journey_id}:{run.node}"
            )
            self._turns[run.node] = await world.session.scalar(taken) or 0
        self._turns[run.node] += count
        return self._turns[run.node] - count


def _slots(world: World, numbers: Sequence[int]) -> int:
    return member_sets.from_slots(slot for number in numbers for slot in world.passages.of_subject(number))


@dataclass(frozen=True, slots=True)
class _Changed:
    """A deal as it is from now on."""

    after: Mapping[str, Any]
    fields: Sequence[str]
    """What of it is another now."""
    stage: Stage
    """Where it stands."""


def _changed(row: Mapping[str, Any], fields: Mapping[str, Any], stage: Stage) -> _Changed | None:
    """Return what fields make of a deal that stands in a stage; None where it is refused, as really."""
    try:
        after = {**row, **fields, "attributes": merged(row["attributes"], fields.get("attributes") or {})}
    except InvalidError:
        return None
    if requirements.emptied(stage, (row, Beside()), (after, Beside())) is not None:
        return None
    return _Changed(after, sorted(telling.changes(row, after)), stage)


async def _working(session: TenantSession, user_ids: Collection[UUID | None]) -> set[UUID]:
    """Return those of these teammates who are not disabled."""
    named = UserAccount.id.in_([user_id for user_id in user_ids if user_id is not None])
    here = UserAccount.tenant_id == session.tenant_id, named, UserAccount.disabled_at.is_(None)
    return set(await session.scalars(select(UserAccount.id).where(*here)))


def _tell(world: World, run: Run, changed: Mapping[int, _Changed], now: datetime) -> None:
    """Have it heard that fields of deals are others now."""
    acting = set(member_sets.slots(run.members))
    for number, one in sorted(changed.items()):
        told = telling.event(DEAL_UPDATED, one.after, one.stage, fields=one.fields)
        by = [slot for slot in world.passages.of_subject(number) if slot in acting]
        world.happened.append(Played(number, told.type, now, dict(told.properties), by=by))
    world.asking.forget(_slots(world, list(changed)))


def _count(world: World, run: Run, became: Mapping[int, str]) -> None:
    """Count what became of members' deals."""
    by_what: dict[str, list[int]] = {}
    for slot in member_sets.slots(run.members):
        number = slot if world.passages.once else world.passages.number_of[slot]
        what = became.get(number, "refused")
        by_what.setdefault(what, []).append(slot)
    for what, slots in sorted(by_what.items()):
        world.tally.did(run.node, member_sets.from_slots(slots), what)
