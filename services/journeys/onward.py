"""Nodes that only act and follow each other without a wait: one run does them all, in one transaction.

Members are moved once, to where the last of these nodes leads, and each node has its effect in turn: it sees what those
before it did. What is kept of each is as if it had run alone.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeGuard
from uuid import UUID

from sqlalchemy import Integer, Table, Text, Uuid, and_, bindparam, column, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, JSONB
from sqlalchemy.sql.elements import ColumnElement

from core.database import TenantSession
from journeys.conditions import FieldPath
from journeys.waits import WaitForEventNode, WaitUntilNode
from models import EnrollmentStep
from services.journeys.members import ENROLLMENT, CohortMembers
from services.journeys.versions import LoadedVersion

if TYPE_CHECKING:
    from services.journeys.steps import Step

STEP: Table = EnrollmentStep.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
MOST: Final = 8
"""So many nodes at most follow the first of a run: a transaction holds what it changes."""

Passage = tuple[str, int]
"""A node and a visit."""
Detail = Mapping[str, Any]
"""What a step keeps of what came of a member."""
Effect = Callable[[TenantSession, "Step", CohortMembers, Any], Awaitable[Mapping[UUID, Detail]]]
"""Has a node's effect on members who were moved on already; says by enrollment what is worth keeping of it."""


Hold = Callable[[TenantSession, "Step", CohortMembers], Awaitable[None]]
"""Holds what effects of a run may change, in the one order in which everybody holds it."""


class Kept(Protocol):
    """What effects of a run keep back, to have it once for several nodes."""

    def concerns(self, fields: Iterable[FieldPath]) -> bool:
        """Whether the store may say of any of these what is no longer so."""
        ...

    async def write(self, session: TenantSession) -> None:
        """Have it in the store."""
        ...


@dataclass(slots=True)
class Later:
    """Holds what is kept back."""

    kept: Kept | None = None
    holds: Sequence["Hold"] = ()
    """What is to be done before the first effect of the run."""

    async def hold(self, session: TenantSession, step: "Step", members: CohortMembers) -> None:
        """Hold what effects of the run may change, of all its members; what is held already stays so."""
        holds, self.holds = self.holds, ()
        for hold in holds:
            await hold(session, step, members)

    async def settle(self, session: TenantSession, fields: Iterable[FieldPath] | None) -> None:
        """Have what is kept back in the store before somebody asks for these fields; None: for anything."""
        if self.kept is not None and (fields is None or self.kept.concerns(fields)):
            await self.kept.write(session)


@dataclass(frozen=True, slots=True)
class Through:
    """The action of a node that all pass by `done`, whatever comes of its effect on them."""

    effect: Effect
    alone: bool = False
    """Whether no other node shares a transaction with it: it may hold what others hold in another order."""
    people: bool = False
    """Whether it holds people, in which case none that may hold deals comes after it in one transaction."""
    asks: Callable[[Any], Iterable[FieldPath]] | None = None
    """Returns the fields that a node has the store look up; None: it may ask for anything."""
    hold: Hold | None = None
    """What a run does first of whose nodes several change the same things; None: it holds nothing that others do."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where an outcome leads to in the same transaction."""

    through: tuple[Passage, ...]
    """The nodes done on the way, in their order."""
    to: Passage


def shares(action: object) -> TypeGuard[Through]:
    """Whether this is the action of a node that others share a transaction with."""
    return isinstance(action, Through) and not action.alone


def ways(version: LoadedVersion, at: Passage, actions: Mapping[type[Any], object]) -> dict[str, Way]:
    """Return the outcomes of a passage that lead on by nodes which only act, by these actions.

    Who comes to a wait for an event comes there by a run of one node: what happened before that is not heard.
    """
    found: dict[str, Way] = {}
    first = actions.get(type(version.definition.nodes[at[0]]))
    for outcome in version.plan.outcomes(at[0]):
        here = version.plan.move(*at, outcome)
        through: list[Passage] = []
        people = isinstance(first, Through) and first.people
        while here is not None and len(through) < MOST:
            action = actions.get(type(version.definition.nodes[here[0]]))
            following = version.plan.move(*here, "done")
            if not shares(action) or (people and not action.people) or following is None:
                break
            people = action.people
            through.append(here)
            here = following
        if (
            through
            and here is not None
            and isinstance(version.definition.nodes[here[0]], WaitForEventNode | WaitUntilNode)
        ):
            here = through.pop()
        if through and here is not None:
            found[outcome] = Way(tuple(through), here)
    return found


def later(version: LoadedVersion, at: Passage, found: Mapping[str, Way], actions: Mapping[type[Any], object]) -> Later:
    """Return what a run by these ways keeps back, with what it is to hold first: what several of its nodes change.

    One alone holds it in the right order by itself.
    """
    names = [at[0], *(node for way in found.values() for node, _ in way.through)]
    doing = [actions.get(type(version.definition.nodes[name])) for name in names]
    counts = Counter(each.hold for each in doing if isinstance(each, Through) and each.hold is not None)
    return Later(holds=[hold for hold, count in counts.items() if count > 1])


def moment(number: int | ColumnElement[int]) -> ColumnElement[Any]:
    """Return the time at which the first node of a run, or one so many after it, is left: in order, by microseconds."""
    passed = literal(number, Integer) if isinstance(number, int) else number
    return func.now() + passed * literal("1 microsecond", Text).cast(INTERVAL)


async def record(
    session: TenantSession,
    members: CohortMembers,
    through: Sequence[Passage],
    details: Sequence[Mapping[UUID, Detail]],
    *,
    attempt: int,
) -> None:
    """Write the steps of members who were moved by these nodes, after the first of their run."""
    passed = (
        func.unnest(
            bindparam(None, [node for node, _ in through], type_=ARRAY(Text)),
            bindparam(None, [visit for _, visit in through], type_=ARRAY(Integer)),
        )
        .table_valued(column("node", Text), column("visit", Integer), with_ordinality="number")
        .render_derived(name="passed")
    )
    noted = [(each, number, detail) for number, kept in enumerate(details, 1) for each, detail in kept.items()]
    kept = (
        func.unnest(
            bindparam(None, [each for each, _, _ in noted], type_=ARRAY(Uuid)),
            bindparam(None, [number for _, number, _ in noted], type_=ARRAY(Integer)),
            bindparam(None, [dict(detail) for _, _, detail in noted], type_=ARRAY(JSONB)),
        )
        .table_valued(column("enrollment_id", Uuid), column("number", Integer), column("detail", JSONB))
        .render_derived(name="kept")
    )
    of_step = and_(kept.c.enrollment_id == ENROLLMENT.c.id, kept.c.number == passed.c.number)
    number = passed.c.number.cast(Integer)
    taken = (
        select(
            ENROLLMENT.c.tenant_id,
            ENROLLMENT.c.id,
            passed.c.node,
            passed.c.visit,
            moment(number - 1),
            moment(number),
            literal("done", Text),
            literal(attempt, Integer),
            kept.c.detail,
        )
        .select_from(ENROLLMENT.join(passed, literal(value=True)).join(kept, of_step, isouter=True))
        .where(*members.within(ENROLLMENT))
    )
    names = ["tenant_id", "enrollment_id", "node", "visit", "entered_at", "left_at", "outcome", "attempt", "detail"]
    await session.execute(STEP.insert().from_select(names, taken))
