"""Calls of webhooks that fail in a simulation: as often as its author says, or as those of the journey lately did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import func, select

from core.database import TenantSession
from core.errors import InvalidError
from journeys import members as member_sets
from journeys.arms import PLACES
from journeys.command_nodes import WebhookNode
from journeys.definition import JourneyDefinition
from models import Cohort
from services.journeys.members import ENROLLMENT
from services.journeys.onward import STEP
from services.journeys.simulation import drawing
from services.journeys.simulation.passages import PASSAGE

PERCENT: Final = 100


@dataclass(slots=True)
class Failing:
    """Who goes the way of failures, node by node."""

    session: TenantSession
    journey_id: UUID
    since: datetime
    """Calls that ended before are not asked about."""
    given: Mapping[str, float]
    """By node: the percent that fail."""
    seed: int = 0
    assumed: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """What was taken, of the nodes that were reached: the percent, and whether it was `given`, is by `outcomes`, or
    that of `none` known."""
    _members: dict[str, int] = field(default_factory=dict[str, int])

    async def among(self, node: str, members: int) -> int:
        """Return those of `members` whose call at a node fails."""
        if node not in self._members:
            percent, by = (self.given[node], "given") if node in self.given else await self._lately(node)
            self.assumed[node] = {"percent": round(percent, 2), "by": by}
            self._members[node] = await self._drawn(node, percent)
        return self._members[node] & members

    async def _drawn(self, node: str, percent: float) -> int:
        place = drawing.place(self.journey_id, f"{node}:failed:{self.seed}")
        failing = select(func.array_agg(PASSAGE.c.slot)).where(place < round(percent * PLACES / PERCENT))
        return member_sets.from_slots(await self.session.scalar(failing) or ())

    async def _lately(self, node: str) -> tuple[float, str]:
        tenant_id = self.session.tenant_id
        cohorts = select(Cohort.id).where(Cohort.tenant_id == tenant_id, Cohort.journey_id == self.journey_id)
        ended = (
            select(func.count(), func.count().filter(STEP.c.outcome == "failed"))
            .select_from(ENROLLMENT.join(STEP, STEP.c.enrollment_id == ENROLLMENT.c.id))
            .where(
                ENROLLMENT.c.tenant_id == tenant_id,
                ENROLLMENT.c.cohort_id.in_(cohorts),
                STEP.c.tenant_id == tenant_id,
                STEP.c.node == node,
                STEP.c.outcome.in_(("done", "failed")),
                STEP.c.left_at >= self.since,
            )
        )
        calls, failed = (await self.session.execute(ended)).one()
        return (PERCENT * failed / calls, "outcomes") if calls else (0.0, "none")


def check(definition: JourneyDefinition, given: Mapping[str, float]) -> None:
    """Refuse shares of nodes whose calls cannot fail visibly.

    Raises:
        InvalidError: there is no such node, or it is none.
    """
    for name in given:
        node = definition.nodes.get(name)
        if not isinstance(node, WebhookNode) or node.failed is None:
            raise InvalidError.of(f"failing.{name}", "is no webhook with a way for failures (`failed`)")
