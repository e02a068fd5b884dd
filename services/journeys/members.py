"""Members of a cohort as SQL: the rows of those slots, whatever set they are."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, Table, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.elements import ColumnElement

from journeys import members as member_sets
from models import Cohort, Enrollment, Journey

ENROLLMENT: Table = Enrollment.__table__  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here


@dataclass(frozen=True, slots=True)
class CohortMembers:
    """A set of slots of one cohort."""

    tenant_id: UUID
    cohort_id: UUID
    size: int
    mask: int
    sends: bool = False
    """Whether they stand at a node that sends, where a pause of sends holds them too."""

    @property
    def whole(self) -> bool:
        """Whether these are all of the cohort."""
        return self.mask == member_sets.everyone(self.size)

    def within(self, table: Any) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 - a table, an alias or a CTE
        """Return the predicates that hold `table` (with tenant_id, cohort_id, slot) to these members.

        The parameters are named, so a statement made for some members serves others with their `parameters()`, as long
        as both are `whole` or neither is.
        """
        cohort = table.c.tenant_id == self.tenant_id, table.c.cohort_id == bindparam("cohort", self.cohort_id)
        if self.whole:
            return cohort
        return *cohort, table.c.slot == func.any(bindparam("slots", member_sets.slots(self.mask), type_=ARRAY(Integer)))

    def parameters(self) -> dict[str, Any]:
        """Return the values of the parameters that `within` names."""
        return (
            {"cohort": self.cohort_id}
            if self.whole
            else {"cohort": self.cohort_id, "slots": member_sets.slots(self.mask)}
        )

    def journey_runs(self) -> ColumnElement[bool]:
        """Return the predicate, decided once a statement, that their journey is neither paused nor cancelled."""
        sending = (~Journey.sends_paused,) if self.sends else ()
        return (
            select(Journey.id)
            .join(Cohort, and_(Cohort.tenant_id == Journey.tenant_id, Cohort.journey_id == Journey.id))
            .where(
                Journey.tenant_id == self.tenant_id,
                Cohort.tenant_id == self.tenant_id,
                Cohort.id == bindparam("cohort", self.cohort_id),
                Journey.status == "active",
                *sending,
            )
            .exists()
        )

    def only(self, mask: int) -> "CohortMembers":
        """Return the same cohort with other members."""
        return replace(self, mask=mask)

    def acting(self) -> tuple[ColumnElement[bool], ...]:
        """Return the predicates of those among them whose node does what it does, rather than be passed."""
        return (ENROLLMENT.c.skip.is_(None),) if self.sends else ()

    def passing(self) -> ColumnElement[bool]:
        """Return the predicate of the others, who pass their node without its doing."""
        return ENROLLMENT.c.skip.is_not(None) if self.sends else ENROLLMENT.c.skip == "node"


def movable(table: Any, node: str, visit: int) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 - a table or an alias
    """Return the predicates of an enrollment that stands at this passage, is not held there, and is not to skip it."""
    return *present(table, node, visit), table.c.skip.is_distinct_from("node")


def present(table: Any, node: str, visit: int) -> tuple[ColumnElement[bool], ...]:  # noqa: ANN401 - as above
    """Return the predicates of an enrollment that stands at this passage and is neither parked nor paused itself."""
    return (
        table.c.node == node,
        table.c.visit == visit,
        table.c.ended_at.is_(None),
        table.c.status != "failed",
        ~table.c.paused,
    )
