"""What deals would do in the simulation of a journey: go from stage to stage, by what they did and by its nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Integer, Uuid, bindparam, case, column, func, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from contracts.events import DEAL_UPDATED
from core.currency import from_minor
from core.database import TenantSession
from journeys import members as member_sets
from journeys.command_nodes import AssignOwnerNode, MoveDealNode, UpdateDealNode
from journeys.state import ActivityResult, Run
from models import Deal, OwnerRotation
from services.crm import moving, stages, telling
from services.crm.journey_members import teammates
from services.crm.requirements import Beside
from services.crm.stages import Stage
from services.journeys.simulation import deals
from services.journeys.simulation.deals import DEAL
from services.journeys.simulation.events import Played
from services.journeys.simulation.world import Answers, World

_PLAIN: Final = ("title", "source", "probability")
_STORED: Final = (Deal.id, Deal.competitors, Deal.recurring_minor)
"""What is needed of a deal that moves and that its copy does not have."""


@dataclass(slots=True)
class Sales:
    """What is known of pipelines, in one simulation."""

    _stages: dict[str, dict[str, Stage]] = field(default_factory=dict[str, dict[str, Stage]])
    """By the keys of their pipelines and their own."""
    _own: dict[int, int] | None = None
    """Of deals by number: the probability that is not their stage's."""
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
        own = list(await self._probabilities(world))
        values = {
            "pipeline_key": stage.pipeline_key,
            "stage_key": stage.key,
            "status": stage.kind,
            "stage_entered_at": now,
            "closed_at": now if stage.closed else None,
            "lost_reason": func.coalesce(reason, DEAL.c.lost_reason) if stage.kind == "lost" else None,
            "probability": case(
                (DEAL.c.number == func.any(bindparam(None, own, type_=ARRAY(Integer))), DEAL.c.probability),
                else_=stage.probability,
            ),
            "rots_at": rots_at,
        }
        await deals.change(world.session, numbers, values)
        world.asking.forget(_slots(world, numbers))

    async def _probabilities(self, world: World) -> dict[int, int]:
        if self._own is None:
            found = await world.session.execute(
                select(DEAL.c.number, Deal.probability)
                .select_from(DEAL.join(Deal, DEAL.c.id == Deal.id))
                .where(Deal.tenant_id == world.session.tenant_id, Deal.probability.is_not(None))
            )
            self._own = {row.number: row.probability for row in found}
        return self._own

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
        ids = [row["id"] for row in rows]
        beside = await moving.beside_of(world.session, stage, ids)
        named = Deal.id == func.any(bindparam("ids", ids, type_=ARRAY(Uuid)))
        found = await world.session.execute(select(*_STORED).where(Deal.tenant_id == world.session.tenant_id, named))
        stored = {row["id"]: row for row in found.mappings()}
        reason = node.lost_reason if stage.kind == "lost" else None
        of_pipeline = self._stages[stage.pipeline_key]
        return [
            row
            for row in rows
            if row["id"] in stored
            and moving.refusal(
                row | dict(stored[row["id"]]),
                of_pipeline.get(row["stage_key"], stage),
                stage,
                beside.get(row["id"], Beside()),
                reason=reason,
            )
            is None
        ]

    async def _update(self, world: World, run: Run, node: UpdateDealNode, now: datetime) -> ActivityResult:
        values: dict[str, Any] = {name: node.set[name] for name in _PLAIN if name in node.set}
        if "owner" in node.set:
            address = str(node.set["owner"] or "")
            values["owner_id"] = (await teammates(world.session, [address])).get(address)
        attributes = {
            name.removeprefix("attributes."): value
            for name, value in node.set.items()
            if name.startswith("attributes.")
        }
        changed: dict[int, list[str]] = {}
        became: dict[int, str] = {}
        rows = await self._rows(world, run.members)
        for row in rows:
            fields = [name for name, value in values.items() if row[name] != value]
            fields += [
                f"attributes.{name}" for name, value in attributes.items() if row["attributes"].get(name) != value
            ]
            became[row["number"]] = "changed" if fields else "unchanged"
            if fields:
                changed[row["number"]] = fields
        if changed:
            given = {name: value for name, value in attributes.items() if value is not None}
            removed = [name for name, value in attributes.items() if value is None]
            merged = DEAL.c.attributes.op("||")(bindparam(None, given, type_=JSONB))
            without = merged.op("-", return_type=JSONB())(bindparam(None, removed, type_=ARRAY(DEAL.c.title.type)))
            await deals.change(world.session, list(changed), values | ({"attributes": without} if attributes else {}))
            if "probability" in node.set:
                await self._weigh(world, rows, changed, node.set["probability"])
            _tell(world, run, rows, changed, now)
        _count(world, run, became)
        return ActivityResult(run.id, outcomes={"done": run.members})

    async def _weigh(self, world: World, rows: Sequence[Any], changed: Mapping[int, Any], probability: Any) -> None:  # noqa: ANN401 - JSON
        """Note what is these deals' own from now on; without any, it is their stages'."""
        own = await self._probabilities(world)
        standing: dict[tuple[str, str], list[int]] = {}
        for row in rows:
            if row["number"] in changed and probability is not None:
                own[row["number"]] = probability
            elif row["number"] in changed:
                own.pop(row["number"], None)
                standing.setdefault((row["pipeline_key"], row["stage_key"]), []).append(row["number"])
        for (pipeline, key), numbers in standing.items():
            stage = (await self._of(world.session, pipeline)).get(key)
            if stage is not None:
                await deals.change(world.session, numbers, {"probability": stage.probability})

    async def _assign(self, world: World, run: Run, node: AssignOwnerNode, now: datetime) -> ActivityResult:
        done = ActivityResult(run.id, outcomes={"done": run.members})
        if world.definition.subject != "deal":
            return done
        known = await teammates(world.session, node.among)
        among = [known[address] for address in node.among if address in known]
        rows = await self._rows(world, run.members)
        meant = [row for row in rows if not (node.only_without and row["owner_id"])]
        became = {row["number"]: "unchanged" for row in rows} | {row["number"]: "refused" for row in meant}
        if among and meant:
            turn = await self._turn(world, run, len(meant))
            owners = {row["number"]: among[(turn + n) % len(among)] for n, row in enumerate(meant)}
            changed = {row["number"]: ["owner_id"] for row in meant if row["owner_id"] != owners[row["number"]]}
            became |= {number: "changed" if number in changed else "unchanged" for number in owners}
            given = func.unnest(
                bindparam("numbers", list(owners), type_=ARRAY(Integer)),
                bindparam("owners", list(owners.values()), type_=ARRAY(Uuid)),
            ).table_valued(column("number", Integer), column("owner_id", Uuid))
            given = given.render_derived(name="given")
            await world.session.execute(
                update(DEAL).where(DEAL.c.number == given.c.number).values(owner_id=given.c.owner_id)
            )
            _tell(world, run, rows, changed, now)
        _count(world, run, became)
        return done

    async def _rows(self, world: World, members: int) -> list[dict[str, Any]]:
        """Return the copies of members' deals, with the probability that is a deal's own."""
        chosen = DEAL.c.number == func.any(bindparam("numbers", world.passages.numbers(members), type_=ARRAY(Integer)))
        found = await world.session.execute(select(*DEAL.columns).where(chosen).order_by(DEAL.c.number))
        own = await self._probabilities(world)
        return [dict(row) | {"probability": own.get(row["number"])} for row in found.mappings()]

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


def _tell(
    world: World, run: Run, rows: Sequence[Mapping[str, Any]], changed: Mapping[int, list[str]], now: datetime
) -> None:
    """Have it heard that fields of deals are others now."""
    acting = set(member_sets.slots(run.members))
    for row in rows:
        if row["number"] in changed:
            told = {
                "pipeline": row["pipeline_key"],
                "stage": row["stage_key"],
                "amount": str(from_minor(row["amount_minor"], row["currency"])),
                "currency": row["currency"],
                "fields": changed[row["number"]],
            }
            by = [slot for slot in world.passages.of_subject(row["number"]) if slot in acting]
            world.happened.append(Played(row["number"], DEAL_UPDATED, now, told, by=by))
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
