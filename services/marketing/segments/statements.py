"""The statements of segments: who belongs, for some people and several segments, or for everybody and one.

Compiled once for a revision of a segment, as compiling takes longer than running for the few people of an event.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    delete,
    exists,
    func,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, array, insert

from contracts.events import SEGMENT_ENTERED, SEGMENT_LEFT
from journeys.conditions import Condition
from models import Event, Person, SegmentFlip, SegmentMember
from services.shared.conditions_clock import next_change
from services.shared.conditions_counts import Counts
from services.shared.conditions_sql import Scope, compile_condition
from services.shared.prepared import Prepared, prepare

PERSON: Final[Table] = Person.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
MEMBER: Final[Table] = SegmentMember.__table__  # pyright: ignore[reportAssignmentType]
FLIP: Final[Table] = SegmentFlip.__table__  # pyright: ignore[reportAssignmentType]
_EVENT: Final[Table] = Event.__table__  # pyright: ignore[reportAssignmentType]
_TIMESTAMP: Final = DateTime(timezone=True)
_NOW: Final = func.statement_timestamp(type_=_TIMESTAMP)
"""Not when the transaction began: whoever waited for a segment would judge by an earlier time than who had it."""
KEPT: Final = 512
"""Statements that a process keeps compiled."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one revision of a segment."""

    segment_id: UUID
    key: str
    revision: int
    condition: Condition

    @property
    def name(self) -> tuple[UUID, int]:
        """What tells them from all others."""
        return self.segment_id, self.revision


class _Kept:
    """Compiled statements, those used last."""

    def __init__(self) -> None:
        self._held: OrderedDict[object, Any] = OrderedDict()

    def get(self, key: object, make: Callable[[], Any]) -> Any:  # noqa: ANN401 - what `make` makes
        if key in self._held:
            self._held.move_to_end(key)
        else:
            self._held[key] = make()
            if len(self._held) > KEPT:
                self._held.popitem(last=False)
        return self._held[key]


_kept = _Kept()


def judging(tenant_id: UUID, rules: Sequence[Rules]) -> Prepared:
    """Return the statement that says of `people` who belongs to which of these segments.

    Its rows: `id`; `holds` and `moments`, each with one element a segment; `member_of` the segments in which the person
    is now; `flips` by segment's id, when it was to be looked at next.
    """
    return _kept.get(
        ("judging", tenant_id, *(each.name for each in rules)), lambda: prepare(_judging(tenant_id, rules))
    )


def _judging(tenant_id: UUID, rules: Sequence[Rules]) -> Any:  # noqa: ANN401 - a statement, whatever its columns
    person = PERSON.alias("p")
    scope = Scope(tenant_id=tenant_id, person=person, subject_id=person.c.id, now=_NOW)
    ids = literal([each.segment_id for each in rules], ARRAY(Uuid))
    moments = [next_change(each.condition, scope) for each in rules]
    member_of = (
        select(func.array_agg(MEMBER.c.segment_id))
        .where(MEMBER.c.tenant_id == tenant_id, MEMBER.c.person_id == person.c.id, MEMBER.c.segment_id == any_(ids))
        .correlate(person)
        .scalar_subquery()
    )
    flips = (
        select(func.array_agg(FLIP.c.segment_id))
        .where(FLIP.c.tenant_id == tenant_id, FLIP.c.person_id == person.c.id, FLIP.c.segment_id == any_(ids))
        .correlate(person)
        .scalar_subquery()
    )
    return select(
        person.c.id,
        array([compile_condition(each.condition, scope) for each in rules]).label("holds"),
        array([sql_cast(null() if moment is None else moment, _TIMESTAMP) for moment in moments]).label("moments"),
        member_of.label("member_of"),
        (flips if any(moment is not None for moment in moments) else sql_cast(null(), ARRAY(Uuid))).label("flips"),
    ).where(person.c.tenant_id == tenant_id, person.c.id == any_(bindparam("people", type_=ARRAY(Uuid))))


@dataclass(frozen=True, slots=True)
class Computing:
    """What computes one segment for people between two ids."""

    members: Prepared
    """Brings the members in line; returns how many `entered` and `departed`."""
    moments: Prepared | None
    """Keeps when each is to be looked at next; None where time changes nothing."""


def computing(tenant_id: UUID, rules: Rules, *, quiet: bool) -> Computing:
    """Return the statements that bring the segment in line for people behind `after`, up to `upto`.

    Without `quiet` each change is told as an event.
    """
    return _kept.get(("computing", tenant_id, rules.name, quiet), lambda: _computing(tenant_id, rules, quiet=quiet))


def _computing(tenant_id: UUID, rules: Rules, *, quiet: bool) -> Computing:
    person = PERSON.alias("p")
    counts = Counts(within=within)
    scope = Scope(tenant_id=tenant_id, person=person, subject_id=person.c.id, counts=counts, now=_NOW)
    condition = compile_condition(rules.condition, scope)
    found = select(person.c.id).select_from(counts.join(person))
    found = found.where(person.c.tenant_id == tenant_id, within(person.c.id), condition)
    moment = next_change(rules.condition, replace(scope, counts=None))
    return Computing(
        prepare(bringing_in_line(tenant_id, rules.segment_id, rules.key, found, quiet=quiet)),
        None if moment is None else prepare(_keeping_moments(tenant_id, rules.segment_id, moment, person)),
    )


def within(person_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Hold a column to the people behind `after`, up to `upto`."""
    return and_(person_id > bindparam("after", type_=Uuid), person_id <= bindparam("upto", type_=Uuid))


def bringing_in_line(tenant_id: UUID, segment_id: UUID, key: str, found: Select[Any], *, quiet: bool) -> Any:  # noqa: ANN401 - a statement, whatever its columns
    """Return the statement that makes those in `found` the members between `after` and `upto`, and no others."""
    there = found.cte("found")
    member = MEMBER.alias("m")
    own = and_(member.c.tenant_id == tenant_id, member.c.segment_id == segment_id, within(member.c.person_id))
    gone = (
        delete(cast("Table", member))
        .where(own, ~exists(select(literal(1)).where(there.c.id == member.c.person_id)))
        .returning(member.c.person_id)
        .cte("gone")
    )
    new = select(literal(tenant_id, Uuid), literal(segment_id, Uuid), there.c.id).where(
        ~exists(select(literal(1)).where(own, member.c.person_id == there.c.id))
    )
    come = (
        insert(MEMBER)
        .from_select(["tenant_id", "segment_id", "person_id"], new)
        .on_conflict_do_nothing()  # a merge may bring somebody in at this moment
        .returning(MEMBER.c.person_id)
        .cte("come")
    )
    counted = select(
        select(func.count()).select_from(come).scalar_subquery().label("entered"),
        select(func.count()).select_from(gone).scalar_subquery().label("departed"),
    )
    if quiet:
        return counted
    told = union_all(
        select(come.c.person_id, literal(SEGMENT_ENTERED, Text).label("type")),
        select(gone.c.person_id, literal(SEGMENT_LEFT, Text).label("type")),
    ).subquery()
    events = _EVENT.insert().from_select(
        ["tenant_id", "id", "type", "subject_type", "subject_id", "person_id", "properties"],
        select(
            literal(tenant_id, Uuid),
            func.tl_uuid7(type_=Uuid),
            told.c.type,
            literal("person", Text),
            told.c.person_id,
            told.c.person_id,
            literal({"segment": key, "segment_id": str(segment_id)}, JSONB),
        ),
    )
    return counted.add_cte(events.cte("told"))


def _keeping_moments(tenant_id: UUID, segment_id: UUID, moment: ColumnElement[Any], person: Any) -> Any:  # noqa: ANN401 - parts of a statement
    at = (
        select(person.c.id, moment.label("at"))
        .where(person.c.tenant_id == tenant_id, within(person.c.id))
        .cte("at")
        .prefix_with("MATERIALIZED")
    )
    flip = FLIP.alias("f")
    over = (
        delete(cast("Table", flip))
        .where(
            flip.c.tenant_id == tenant_id,
            flip.c.segment_id == segment_id,
            within(flip.c.person_id),
            ~exists(select(literal(1)).where(at.c.id == flip.c.person_id, at.c.at.is_not(None))),
        )
        .cte("over")
    )
    kept = insert(FLIP).from_select(
        ["tenant_id", "segment_id", "person_id", "at"],
        select(literal(tenant_id, Uuid), literal(segment_id, Uuid), at.c.id, at.c.at).where(at.c.at.is_not(None)),
    )
    return kept.on_conflict_do_update(
        index_elements=["tenant_id", "segment_id", "person_id"],
        set_={"at": kept.excluded.at},
        where=FLIP.c.at != kept.excluded.at,
    ).add_cte(over)
