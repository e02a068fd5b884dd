"""What came of journeys."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from api.dependencies import SessionDep, requires
from api.fields import Money, Strict
from api.rest.journeys import JourneyPath
from api.routing import Router
from journeys.definition import JourneyDefinition
from services.journeys import journeys
from services.marketing.outcomes import journey_results
from services.marketing.outcomes.journey_results import Figures, NodeResult, VersionResult, WayResult
from services.marketing.outcomes.proportions import Difference, wilson

router = Router(prefix="/journeys", tags=["journeys"])


class JourneyFigures(Strict):
    """Counts of those who entered, or came to a node, or took an arm."""

    entered: int
    """Passages."""
    people: int
    """Whose passages these are: persons, or deals."""
    conversions: int
    """Passages that reached the goal, while open or later."""
    converted: int
    """People who did, in any of these passages."""
    rate: float | None
    """`converted` of `people`; null of nobody."""
    interval: list[float]
    """Wilson's of the rate, at the results' confidence."""
    messages: int
    """Written for them; at an arm all that the journey wrote for its people."""
    excluded: int
    """Of the messages, what was not to be sent."""
    sent: int
    opened: int
    """By a person, each message once."""
    clicked: int
    orders: int
    """Credited to the messages by last touch."""
    revenue: Money
    """What the orders in the results' currency brought, without refunds."""


class JourneyLift(Strict):
    """How much more of an arm's people converted than of the holdout's."""

    difference: float
    low: float
    high: float
    """Bounds of its interval."""
    p: float
    """How probable such a difference is by chance."""


class ArmResult(JourneyFigures):
    """What came of an arm."""

    arm: str
    share: int | None
    """Percent of newcomers; null where the arm is not there any more."""
    holdout: bool
    lift: JourneyLift | None
    """Null without a holdout, and of the holdout itself."""


class VariantResult(JourneyFigures):
    """What came of a variant of a message."""

    variant: str
    share: int | None
    """Percent; null where the variant is not there any more."""


class TestResult(Strict):
    """A test of messages that was to have a winner."""

    node: str
    tried: str
    """The variants with their templates."""
    started_at: datetime
    decided_at: datetime | None
    outcome: Literal["winner", "no_difference"] | None
    winner: str | None
    """The variant that all later people get."""
    result: dict[str, Any] | None
    """How it was decided: counts, rates, intervals and comparisons."""


class NodeOutcome(JourneyFigures):
    """What came of those who came to a node."""

    node: str
    type: str | None
    """Null where no version has it any more."""
    arms: list[ArmResult]
    """Of a split."""
    variants: list[VariantResult]
    """Of a send."""


class VersionOutcome(JourneyFigures):
    """What came of those who walk a version."""

    version_id: UUID
    number: int
    nodes: list[NodeOutcome]


class TotalOutcome(JourneyFigures):
    """What came of all, whatever version they walk."""

    nodes: list[NodeOutcome]


class JourneyResults(Strict):
    """What came of a journey."""

    currency: str
    """The tenant's base currency; revenue in others is not in these figures."""
    confidence: float
    """Of all intervals."""
    method: str
    """Of lifts."""
    goal_within: str | None
    """How long after the entry a goal counts, by the newest version; null where it has no goal."""
    total: TotalOutcome
    versions: list[VersionOutcome]
    """Newest first."""
    tests: list[TestResult]
    """Oldest first."""


@router.get("/{journey}/results", dependencies=[requires("journeys:read")])
async def results(journey: JourneyPath, session: SessionDep) -> JourneyResults:
    """Return who entered, was sent to and converted, and what that brought: per version, node and arm."""
    found = await journey_results.of(session, (await journeys.find(session, journey)).id)
    code = found.currency
    newest = found.versions[0].version if found.versions else None
    return JourneyResults(
        currency=code,
        confidence=journey_results.CONFIDENCE,
        method=journey_results.METHOD,
        goal_within=None if newest is None else _within(newest.definition),
        total=TotalOutcome(nodes=_nodes(found.total, code), **_figures(found.total.figures, code)),
        versions=[
            VersionOutcome(
                version_id=each.version.id,
                number=each.version.number,
                nodes=_nodes(each, code),
                **_figures(each.figures, code),
            )
            for each in found.versions
            if each.version is not None
        ],
        tests=[
            TestResult(
                node=row.node,
                tried=row.tried,
                started_at=row.started_at,
                decided_at=row.decided_at,
                outcome=row.outcome,  # pyright: ignore[reportArgumentType]  # text with a CHECK
                winner=row.winner,
                result=row.result,
            )
            for row in found.tests
        ],
    )


def _within(definition: JourneyDefinition) -> str | None:
    return None if definition.goal is None else str(definition.goal.counted_within)


def _nodes(result: VersionResult, code: str) -> list[NodeOutcome]:
    return [_node(each, code) for each in result.nodes]


def _node(result: NodeResult, code: str) -> NodeOutcome:
    return NodeOutcome(
        node=result.node,
        type=result.type,
        arms=[_arm(each, code) for each in result.arms],
        variants=[
            VariantResult(variant=each.key, share=each.share, **_figures(each.figures, code))
            for each in result.variants
        ],
        **_figures(result.figures, code),
    )


def _arm(result: WayResult, code: str) -> ArmResult:
    return ArmResult(
        arm=result.key,
        share=result.share,
        holdout=result.holdout,
        lift=_lift(result.lift),
        **_figures(result.figures, code),
    )


def _lift(found: Difference | None) -> JourneyLift | None:
    if found is None:
        return None
    return JourneyLift(difference=found.difference, low=found.low, high=found.high, p=found.p_value)


def _figures(figures: Figures, code: str) -> dict[str, Any]:
    return JourneyFigures(
        entered=figures.entered,
        people=figures.people,
        conversions=figures.conversions,
        converted=figures.converted,
        rate=figures.rate,
        interval=list(wilson(figures.share, journey_results.CONFIDENCE)),
        messages=figures.messages,
        excluded=figures.excluded,
        sent=figures.sent,
        opened=figures.opened,
        clicked=figures.clicked,
        orders=figures.orders,
        revenue=Money.of(figures.minor, code),
    ).model_dump()
