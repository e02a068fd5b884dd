"""What stages do by themselves: each rule is a journey with subject `deal`, made, changed and ended with its stage.

A rule lets deals in when they enter the stage (or leave it), and a deal that leaves the stage leaves the rule, its
timers gone. A changed rule is a new version of its journey: deals that are inside finish on theirs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import delete, select, update

from contracts.events import DEAL_DELETED, DEAL_STAGE_ENTERED, DEAL_STAGE_LEFT
from core.actor import Actor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError
from core.ids import new_id
from models import Journey, StageAutomation
from services.crm.stages import Stage
from services.journeys import journeys

Trigger = Literal["enter", "leave", "after", "rotting"]

MAX_RULES: Final = 20
"""Of one stage."""
MAX_ACTIONS: Final = 50
_DONE: Final = {"type": "exit", "reason": "done"}
_AGAIN: Final = "P1D"
"""How often a deal that does not rot yet is looked at again."""
_ACTION: Final = re.compile(r"definition\.nodes\.a(\d+)(?:\.|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What happens to deals of a stage, and when."""

    key: str
    on: Trigger
    after: str | None = None
    """ISO 8601 duration in the stage, of a rule on `after`."""
    when: Mapping[str, Any] | None = None
    """A condition, asked when it is time to act."""
    then: Sequence[Mapping[str, Any]] = field(default_factory=list[Mapping[str, Any]])
    """Nodes of a journey without `next`, one after the other."""

    def written(self) -> dict[str, Any]:
        """Return the rule as its author wrote it."""
        parts = {"on": self.on, "after": self.after, "when": self.when, "then": [dict(action) for action in self.then]}
        return {name: value for name, value in parts.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Running:
    """A rule of a stage, and the journey that it is."""

    key: str
    written: Mapping[str, Any]
    journey_id: UUID
    status: str
    """Of the journey."""


def definition_of(rule: Rule, stage: Stage) -> dict[str, Any]:
    """Return the journey that a rule is.

    Raises:
        InvalidError: naming `on`, `after` or `then`: it makes no sense.
    """
    _check(rule, stage)
    names = [f"a{number}" for number in range(len(rule.then))]
    nodes: dict[str, Any] = {
        name: {**action, "next": following}
        for name, action, following in zip(names, rule.then, [*names[1:], "done"], strict=True)
    } | {"done": _DONE}
    start = names[0]
    if rule.when is not None:
        nodes["when"] = {"type": "branch", "branches": [{"when": dict(rule.when), "next": start}], "otherwise": "done"}
        start = "when"
    if rule.on == "after":
        nodes["wait"] = {"type": "wait", "for": rule.after, "next": start}
        start = "wait"
    if rule.on == "rotting":
        rotten = {"field": "deal.rotting", "op": "=", "value": True}
        nodes["rotten"] = {"type": "branch", "branches": [{"when": rotten, "next": start}], "otherwise": "again"}
        nodes["again"] = {"type": "wait", "for": _AGAIN, "next": "rotten"}
        nodes["wait"] = {"type": "wait", "for": f"P{stage.rotting_days}D", "next": "rotten"}
        start = "wait"
    here = {"field": "event.properties.stage_id", "op": "=", "value": str(stage.id)}
    entered, exits = DEAL_STAGE_ENTERED, [{"event": DEAL_STAGE_LEFT, "where": here}, {"event": DEAL_DELETED}]
    if rule.on == "leave":
        entered, exits = DEAL_STAGE_LEFT, [{"event": DEAL_DELETED}]
    return {
        "subject": "deal",
        "entry": {"event": entered, "where": here, "again": {"mode": "always"}},
        "start": start,
        "nodes": nodes,
        "exit_when": exits,
    }


def _check(rule: Rule, stage: Stage) -> None:
    if not rule.then:
        raise InvalidError.of("then", "needs at least one action")
    if (rule.after is None) == (rule.on == "after"):
        raise InvalidError.of("after", "is needed where on is after, and there alone")
    if rule.on == "rotting" and stage.rotting_days is None:
        raise InvalidError.of("on", "rotting needs a stage with rotting_days")
    for number, action in enumerate(rule.then):
        if "next" in action or action.get("type") in {"branch", "exit", "wait_for_event"}:
            raise InvalidError.of(f"then.{number}", "must be a node that acts or waits, without next")
        if action.get("type") == "move_deal" and rule.on != "leave" and number < len(rule.then) - 1:
            raise InvalidError.of(
                f"then.{number}", "move_deal must be the last action: the deal leaves the rule with it"
            )


async def save(
    session: TenantSession, stages: Sequence[Stage], wanted: Mapping[str, Sequence[Rule] | None], *, by: Actor
) -> bool:
    """Have the stages do what is wanted, by their keys; None: what they do now. Return whether anything changed.

    Raises:
        InvalidError: a rule is malformed, or names what there is not; the place is `stages.N.automation.M...`.
    """
    rows = await _rows(session, [stage.id for stage in stages])
    changed = False
    for number, stage in enumerate(stages):
        there = {row.key: (row, journey) for row, journey in rows if row.stage_id == stage.id}
        rules = wanted.get(stage.key)
        if rules is None:  # what stays is compiled anew, as it may rest on the stage's own fields
            rules = [_as_rule(row) for row, _ in there.values()]
        keys = [rule.key for rule in rules]
        for position, rule in enumerate(rules):
            place = f"stages.{number}.automation.{position}"
            if rule.key in keys[:position]:
                raise InvalidError.of(f"{place}.key", "stands twice in the stage")
            try:
                changed |= await _save_rule(session, stage, rule, position, there.get(rule.key), by=by)
            except InvalidError as error:
                raise _placed(error, place) from error
        gone = [row for key, (row, _) in there.items() if key not in keys]
        changed |= bool(gone)
        await _end(session, gone, by=by)
    return changed


async def end(session: TenantSession, stage_ids: Sequence[UUID], *, by: Actor) -> None:
    """End what these stages do, as they are deleted: deals inside leave at once."""
    await _end(session, [row for row, _ in await _rows(session, stage_ids)], by=by)


async def of_stages(session: TenantSession, stage_ids: Sequence[UUID]) -> dict[UUID, list[Running]]:
    """Return what stages do by themselves, each in its order."""
    found: dict[UUID, list[Running]] = {}
    for row, journey in await _rows(session, stage_ids):
        found.setdefault(row.stage_id, []).append(Running(row.key, row.written, journey.id, journey.status))
    return found


async def _rows(session: TenantSession, stage_ids: Sequence[UUID]) -> list[tuple[StageAutomation, Journey]]:
    if not stage_ids:
        return []
    joined = (Journey.tenant_id == StageAutomation.tenant_id) & (Journey.id == StageAutomation.journey_id)
    rows = await session.execute(
        select(StageAutomation, Journey)
        .join(Journey, joined)
        .where(StageAutomation.tenant_id == session.tenant_id, StageAutomation.stage_id.in_(stage_ids))
        .order_by(StageAutomation.position, StageAutomation.id)
        .execution_options(populate_existing=True)
    )
    return [(row[0], row[1]) for row in rows]


async def _save_rule(
    session: TenantSession,
    stage: Stage,
    rule: Rule,
    position: int,
    there: tuple[StageAutomation, Journey] | None,
    *,
    by: Actor,
) -> bool:
    definition = definition_of(rule, stage)
    name = f"{stage.pipeline_key}: {stage.name}, {rule.key}"
    if there is None:
        row_id = new_id()
        key = f"{stage.pipeline_key}.{stage.key}.{rule.key}.{row_id.hex[-6:]}"
        journey = await journeys.create(session, key=key, name=name, definition=definition, by=by, domain="crm")
        await journeys.publish(session, journey, by=by)
        session.add(
            StageAutomation(
                tenant_id=session.tenant_id,
                id=row_id,
                stage_id=stage.id,
                key=rule.key,
                trigger=rule.on,
                written=rule.written(),
                position=position,
                journey_id=journey.id,
            )
        )
        await session.flush()
        return True
    row, journey = there
    if journey.draft != definition:
        await journeys.save_draft(session, journey, definition=definition, name=name, by=by)
        await journeys.publish(session, journey, by=by)
    elif row.position == position:
        return False
    row_now = {"trigger": rule.on, "written": rule.written(), "position": position}
    chosen = (StageAutomation.tenant_id == session.tenant_id, StageAutomation.id == row.id)
    await session.execute(update(StageAutomation).where(*chosen).values(row_now))
    return True


async def _end(session: TenantSession, rows: Sequence[StageAutomation], *, by: Actor) -> None:
    for row in rows:
        await journeys.cancel(session, await journeys.find(session, str(row.journey_id)), by=by)
    if rows:
        chosen = StageAutomation.id.in_([row.id for row in rows])
        await session.execute(delete(StageAutomation).where(StageAutomation.tenant_id == session.tenant_id, chosen))


def _as_rule(row: StageAutomation) -> Rule:
    return Rule(key=row.key, **row.written)


def _placed(error: InvalidError, place: str) -> InvalidError:
    """Return the error with fields named as the pipeline's author wrote them."""

    def placed(name: str) -> str:
        action = _ACTION.match(name)
        if action is not None:
            return f"{place}.then.{action[1]}.{name[action.end() :]}".rstrip(".")
        known = {"definition.nodes.when": f"{place}.when", "definition.nodes.wait": f"{place}.after"}
        for prefix, own in known.items():
            if name.startswith(prefix):
                return own
        return f"{place}.{name.removeprefix('definition.')}"

    problems = [FieldProblem(placed(each.field), each.reason) for each in error.errors]
    return InvalidError("the automation is not acceptable", errors=problems)
