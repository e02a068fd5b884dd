"""The nodes that make and change records of a tenant's objects, each for all its members at once.

The members were moved on already, which decided who is meant; the records are written in the transaction of the step,
so a member, a node and a visit make one. What cannot be written for one member stops nobody: the step says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import null, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.types import Uuid

from core.actor import Actor
from core.database import TenantSession
from core.errors import NotFoundError, PlatformError
from journeys.filling import Template
from journeys.keeping_checks import begins_with_record
from journeys.keeping_nodes import CreateRecordNode, UpdateRecordNode
from journeys.literals import MAX_TEXT
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.onward import STEP
from services.journeys.steps import Step
from services.journeys.subjects import surroundings
from services.journeys.texts import filled_json
from services.objects import association_definitions, fitting, held, linking, meaning, records
from services.objects.judging import Item
from services.objects.linking import NewAssociation
from services.objects.records import MAX_BATCH

Detail = dict[str, Any]
_MATCHED: Final = "match"
"""What stands for the value to match by among the properties that a node fills in."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One who passed the node."""

    id: UUID
    """Of the enrollment."""
    person_id: UUID | None
    deal_id: UUID | None
    values: Mapping[str, Any]
    """What the node's templates come to; without those of which nothing is left."""

    def linked(self, to: str) -> UUID | None:
        """Return the person or deal whose record it is."""
        return self.person_id if to == "person" else self.deal_id


async def create(
    session: TenantSession, step: Step, members: CohortMembers, node: CreateRecordNode
) -> Mapping[UUID, Detail]:
    """Make a record for each member, and link it; with `match` the record that has the value is changed instead."""
    passed = await _passed(session, step, members, node.set)
    details = await _written(session, step, node.object, [(each, None) for each in passed], match=node.match)
    await _link(session, step, node, passed, details)
    return details


async def update(
    session: TenantSession, step: Step, members: CohortMembers, node: UpdateRecordNode
) -> Mapping[UUID, Detail]:
    """Change the record that is meant for each member; of who has none, the step says so."""
    templates = {**{f"{_MATCHED}.{name}": value for name, value in (node.match or {}).items()}, **node.set}
    passed = await _passed(session, step, members, templates)
    try:
        meant = await _meant(session, step, node, passed)
    except NotFoundError as error:
        return {each.id: {"refused": error.detail} for each in passed}
    details: dict[UUID, Detail] = {each.id: {"refused": "no_record"} for each in passed if each.id not in meant}
    changed = [(each, meant[each.id]) for each in passed if each.id in meant]
    return details | await _written(session, step, node.object, changed)


async def _passed(
    session: TenantSession, step: Step, members: CohortMembers, templates: Mapping[str, Template]
) -> list[_Member]:
    """Return members in the order of their slots, with what the templates come to.

    One whose deal is gone is not among them.
    """
    around = surroundings(step.version.definition, session.tenant_id)
    texts = [text for template in templates.values() for text in template.texts]
    deal_id = null().cast(Uuid) if around.deal is None else around.deal.c.id
    rows = await session.execute(
        select(
            ENROLLMENT.c.id,
            around.person_id.label("person_id"),
            deal_id.label("deal_id"),
            *(filled_json(text, around.scope, most=MAX_TEXT).label(f"text_{i}") for i, text in enumerate(texts)),
        )
        .select_from(around.source)
        .where(*members.within(ENROLLMENT))
        .order_by(ENROLLMENT.c.slot)
    )
    found: list[_Member] = []
    for row in rows:
        given = iter([getattr(row, f"text_{i}") for i in range(len(texts))])
        values = {name: (template, template.filled(given)) for name, template in templates.items()}
        # A literal null removes a property; a place that nothing fills leaves it alone.
        known = {name: value for name, (own, value) in values.items() if value is not None or not own.texts}
        found.append(_Member(row.id, row.person_id, row.deal_id, known))
    return found


async def _meant(
    session: TenantSession, step: Step, node: UpdateRecordNode, passed: Sequence[_Member]
) -> Mapping[UUID, UUID]:
    """Return the record that is meant, by enrollment.

    Raises:
        NotFoundError: there is no such object any more.
    """
    if node.made_by is not None:
        return await _made(session, node.made_by, [each.id for each in passed])
    if node.match is not None:
        (name,) = node.match
        schema = (await held.find(session, node.object)).schema
        asking = [each for each in passed if f"{_MATCHED}.{name}" in each.values]
        values = [fitting.fitted(schema, {name: each.values[f"{_MATCHED}.{name}"]})[name] for each in asking]
        found = await meaning.by_unique(session, node.object, name, values)
        return {each.id: record_id for each, record_id in zip(asking, found, strict=True) if record_id is not None}
    to = node.of or step.version.definition.subject
    whose = {each.id: linked for each in passed if (linked := each.linked(to)) is not None}
    newest = await meaning.newest_of(session, node.object, to, list(whose.values()), label=node.label)
    return {enrollment_id: newest[linked] for enrollment_id, linked in whose.items() if linked in newest}


async def _made(session: TenantSession, node: str, enrollment_ids: Sequence[UUID]) -> Mapping[UUID, UUID]:
    rows = await session.execute(
        select(STEP.c.enrollment_id, STEP.c.detail["record_id"].astext.cast(Uuid).label("record_id"))
        .where(
            STEP.c.tenant_id == session.tenant_id,
            STEP.c.enrollment_id.in_(enrollment_ids),
            STEP.c.node == node,
            STEP.c.detail["record_id"].astext.is_not(None),
        )
        .order_by(STEP.c.enrollment_id, STEP.c.visit.desc())
        .ext(distinct_on(STEP.c.enrollment_id))
    )
    return {row.enrollment_id: row.record_id for row in rows}


async def _written(
    session: TenantSession,
    step: Step,
    key: str,
    wanted: Sequence[tuple[_Member, UUID | None]],
    *,
    match: str | None = None,
) -> dict[UUID, Detail]:
    """Write the records; return by enrollment which it is, or why there is none."""
    details: dict[UUID, Detail] = {}
    for start in range(0, len(wanted), MAX_BATCH):
        some = wanted[start : start + MAX_BATCH]
        try:
            schema = (await held.find(session, key)).schema
            items = [Item(properties=_properties(schema, each), id=record_id) for each, record_id in some]
            batch = await records.upsert(session, key, items, match=match, by=_actor(step))
        except PlatformError as error:  # the object is gone, or what it is matched by is not unique any more
            return details | {each.id: {"refused": error.detail} for each, _ in some}
        for index, (each, _) in enumerate(some):
            problems = batch.rejected.get(index)
            if problems:
                details[each.id] = {"refused": f"{problems[0].field}: {problems[0].reason}"}
            else:
                details[each.id] = {"record_id": str(batch.ids[index])}
    return details


def _properties(schema: Mapping[str, Any], member: _Member) -> Mapping[str, Any]:
    own = {name: value for name, value in member.values.items() if not name.startswith(f"{_MATCHED}.")}
    return fitting.fitted(schema, own)


async def _link(
    session: TenantSession,
    step: Step,
    node: CreateRecordNode,
    passed: Sequence[_Member],
    details: Mapping[UUID, Detail],
) -> None:
    """Link the records to whom they are made for; where that cannot be, the detail says why."""
    to = node.to or step.version.definition.subject
    rules = await association_definitions.rules(session, [node.label])
    ends = {label: (rule.from_type, rule.to_type) for label, rule in rules.items()}
    from_record = begins_with_record(node.label, f"record:{node.object}", to, ends)
    wanted: dict[UUID, NewAssociation] = {}
    for each in passed:
        record_id, other = details[each.id].get("record_id"), each.linked(to)
        if record_id is None:
            continue
        if other is None:
            details[each.id]["not_linked"] = f"no_{to}"
            continue
        sides = [(to, str(other)), ("record", record_id)]
        start, end = reversed(sides) if from_record else sides
        wanted[each.id] = NewAssociation(
            from_type=start[0], from_id=start[1], to_type=end[0], to_id=end[1], label=node.label
        )
    pairs = list(wanted.items())
    for first in range(0, len(pairs), linking.MAX_BATCH):
        some = pairs[first : first + linking.MAX_BATCH]
        outcomes = await linking.create_all(session, [new for _, new in some], by=_actor(step))
        for (enrollment_id, _), outcome in zip(some, outcomes, strict=True):
            if outcome.error is not None:
                details[enrollment_id]["not_linked"] = outcome.error.detail


def _actor(step: Step) -> Actor:
    return Actor.journey(step.version.journey_id)
