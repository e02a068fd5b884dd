"""What came of a journey: per version, node, arm and variant who entered and converted, and what was brought.

Passages are counted, and people: whoever passed several times is one person, who converted if any passage did. Rates
and lifts are of people, as chance is drawn for people and not for passages. An arm's lift is the difference of its
share of people who converted from the holdout's, with Newcombe's interval (see `proportions`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import Text

from core.database import TenantSession
from journeys.arms import ARM, Shared, SplitNode
from journeys.sending import VARIANT, SendNode
from models import JourneyTest, JourneyVersion, Tenant
from services.journeys import versions
from services.journeys.versions import LoadedVersion
from services.marketing.outcomes.proportions import Count, Difference, compare

CONFIDENCE: Final = 0.95
METHOD: Final = "Newcombe's interval of the difference of two shares; pooled two-proportion z-test, two-sided"

# A passage that a merge ended goes on as another. The index of cohorts leads to a journey's.
_PASSAGE: Final = """
    passage AS MATERIALIZED (
        SELECT e.id, e.version_id, e.subject_id, e.node, c.enrollment_id IS NOT NULL AS converted
        FROM enrollment e
        LEFT JOIN journey_conversion c ON c.tenant_id = :tenant AND c.enrollment_id = e.id
        WHERE e.tenant_id = :tenant
          AND e.cohort_id IN (SELECT h.id FROM cohort h WHERE h.tenant_id = :tenant AND h.journey_id = :journey)
          AND e.reason IS DISTINCT FROM 'merged'
    )
"""
# First by passage, then by person, then together: each level is a hash of the one below.
_PEOPLE: Final = """
    WITH {passage}, came AS (
        SELECT s.enrollment_id, s.node,
               CASE WHEN s.outcome LIKE 'arm\\_%' OR s.outcome LIKE 'variant\\_%' THEN s.outcome END AS way
        FROM enrollment_step s JOIN passage p ON p.id = s.enrollment_id
        WHERE s.tenant_id = :tenant
        UNION ALL SELECT p.id, p.node, NULL FROM passage p
        UNION ALL SELECT p.id, NULL, NULL FROM passage p
    ), passed AS (
        SELECT {version} AS version_id, c.node, w.way, p.id, p.subject_id, p.converted
        FROM came c JOIN passage p ON p.id = c.enrollment_id
        CROSS JOIN LATERAL (SELECT NULL AS way UNION SELECT c.way) AS w
        GROUP BY 1, 2, 3, 4, 5, 6
    ), person AS (
        SELECT version_id, node, way, subject_id, count(*) AS entered, count(*) FILTER (WHERE converted) AS conversions
        FROM passed GROUP BY 1, 2, 3, 4
    )
    SELECT version_id, node, way, sum(entered)::bigint AS entered, sum(conversions)::bigint AS conversions,
           count(*) AS people, count(*) FILTER (WHERE conversions > 0) AS converted
    FROM person GROUP BY 1, 2, 3
"""
# Messages and orders are asked for one passage at a time, by OFFSET and LIMIT: joined plainly they become a hash of all
# that the tenant has where this journey's are few.
_MESSAGES: Final = text(f"""
    WITH {_PASSAGE}, credited AS (
        SELECT c.message_id, count(*) AS orders,
               coalesce(sum(c.amount_minor) FILTER (WHERE c.currency = :currency), 0)::bigint AS minor
        FROM passage p CROSS JOIN LATERAL (
            SELECT o.message_id, o.currency, o.amount_minor FROM conversion o
            WHERE o.tenant_id = :tenant AND o.enrollment_id = p.id
            OFFSET 0
        ) AS c
        GROUP BY c.message_id
    ), sent AS MATERIALIZED (
        SELECT p.id, p.version_id, s.node, CASE WHEN s.outcome LIKE 'variant\\_%' THEN s.outcome END AS way,
               m.status, m.opens, m.clicks, k.orders, k.minor
        FROM passage p
        JOIN enrollment_step s ON s.tenant_id = :tenant AND s.enrollment_id = p.id AND s.node = ANY(:sends)
        CROSS JOIN LATERAL (
            SELECT o.id, o.status, o.opens, o.clicks FROM message o
            WHERE o.tenant_id = :tenant AND o.dedupe_key = concat('journey:', p.id, ':', s.node, ':', s.visit)
            LIMIT 1
        ) AS m
        LEFT JOIN credited k ON k.message_id = m.id
    ), placed AS (
        SELECT s.version_id, s.node, w.way, s.status, s.opens, s.clicks, s.orders, s.minor
        FROM sent s CROSS JOIN LATERAL (SELECT NULL AS way UNION SELECT s.way) AS w
        UNION ALL
        SELECT s.version_id, NULL, NULL, s.status, s.opens, s.clicks, s.orders, s.minor FROM sent s
        UNION ALL
        SELECT s.version_id, a.node, a.outcome, s.status, s.opens, s.clicks, s.orders, s.minor
        FROM sent s JOIN (
            SELECT DISTINCT t.enrollment_id, t.node, t.outcome
            FROM passage p JOIN enrollment_step t ON t.enrollment_id = p.id
            WHERE t.tenant_id = :tenant AND t.node = ANY(:splits) AND t.outcome LIKE 'arm\\_%'
        ) AS a ON a.enrollment_id = s.id
    )
    SELECT version_id, node, way, count(*) AS messages, count(*) FILTER (WHERE status = 'excluded') AS excluded,
           count(*) FILTER (WHERE status IN ('sent', 'delivered', 'bounced', 'complained')) AS sent,
           count(*) FILTER (WHERE opens > 0) AS opened, count(*) FILTER (WHERE clicks > 0) AS clicked,
           coalesce(sum(orders), 0)::bigint AS orders, coalesce(sum(minor), 0)::bigint AS minor
    FROM placed GROUP BY 1, 2, 3
""").bindparams(  # noqa: S608 - the text is ours
    bindparam("sends", type_=ARRAY(Text)), bindparam("splits", type_=ARRAY(Text))
)


@dataclass(slots=True)
class Figures:
    """Counts of those who came to one place."""

    entered: int = 0
    """Passages."""
    people: int = 0
    """Persons, or deals, of these passages."""
    conversions: int = 0
    """Passages that reached the goal."""
    converted: int = 0
    """People who did, in any of these passages."""
    messages: int = 0
    """Queued for them, whatever became of those; of an arm's people all messages of the journey."""
    excluded: int = 0
    """Of these messages, not to be sent."""
    sent: int = 0
    opened: int = 0
    clicked: int = 0
    orders: int = 0
    """Credited to these messages."""
    minor: int = 0
    """What those orders brought in the results' currency, in its smallest unit."""

    @property
    def rate(self) -> float | None:
        """Share of people who converted; None of nobody."""
        return self.converted / self.people if self.people else None

    @property
    def share(self) -> Count:
        """The same as a count."""
        return Count(self.converted, self.people)


@dataclass(frozen=True, slots=True)
class WayResult:
    """What came of an arm, or of a variant of a message."""

    key: str
    figures: Figures
    share: int | None
    """Percent of newcomers; None where it is not there any more."""
    holdout: bool
    lift: Difference | None
    """Of an arm: against the holdout; None without one, and of the holdout itself."""


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What came of those who came to a node."""

    node: str
    type: str | None
    """None where the newest of the versions has it no more."""
    figures: Figures
    arms: Sequence[WayResult]
    variants: Sequence[WayResult]


@dataclass(frozen=True, slots=True)
class VersionResult:
    """What came of one version, or of all of them."""

    version: LoadedVersion | None
    figures: Figures
    nodes: Sequence[NodeResult]


@dataclass(frozen=True, slots=True)
class Results:
    """What came of a journey."""

    currency: str
    total: VersionResult
    versions: Sequence[VersionResult]
    """Newest first."""
    tests: Sequence[JourneyTest]
    """Oldest first."""


class _Place(NamedTuple):
    version_id: UUID | None
    node: str | None
    way: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    figures: dict[_Place, Figures] = field(default_factory=dict[_Place, Figures])

    def at(self, version_id: UUID | None, node: str | None = None, way: str | None = None) -> Figures:
        return self.figures.setdefault(_Place(version_id, node, way), Figures())


async def of(session: TenantSession, journey_id: UUID) -> Results:
    """Return what came of a journey so far."""
    published = await session.scalars(
        select(JourneyVersion.id)
        .where(JourneyVersion.tenant_id == session.tenant_id, JourneyVersion.journey_id == journey_id)
        .order_by(JourneyVersion.number.desc())
    )
    loaded = [await versions.load(session, version_id) for version_id in published]
    currency = await session.scalar(select(Tenant.base_currency).where(Tenant.id == session.tenant_id)) or "EUR"
    found = _Found()
    keys = {"tenant": session.tenant_id, "journey": journey_id}
    for version in ("p.version_id", "NULL::uuid"):
        counted = text(_PEOPLE.format(passage=_PASSAGE, version=version))
        for row in await session.execute(counted, keys):
            figures = found.at(row.version_id, row.node, row.way)
            figures.entered, figures.conversions = row.entered, row.conversions
            figures.people, figures.converted = row.people, row.converted
    named = {"currency": currency, "sends": _named(loaded, SendNode), "splits": _named(loaded, SplitNode)}
    for row in await session.execute(_MESSAGES, keys | named):
        for version_id in (row.version_id, None):
            _add(found.at(version_id, row.node, row.way), row)
    return Results(
        currency=currency,
        total=_result(found, None, loaded),
        versions=[_result(found, version, [version]) for version in loaded],
        tests=await _tests(session, journey_id),
    )


async def _tests(session: TenantSession, journey_id: UUID) -> Sequence[JourneyTest]:
    query = select(JourneyTest).where(JourneyTest.tenant_id == session.tenant_id, JourneyTest.journey_id == journey_id)
    return (await session.scalars(query.order_by(JourneyTest.id))).all()


def _named(loaded: Iterable[LoadedVersion], kind: type[Any]) -> list[str]:
    """Return the names of the nodes of a kind in these versions."""
    return sorted(
        {name for version in loaded for name, node in version.definition.nodes.items() if isinstance(node, kind)}
    )


def _add(figures: Figures, row: Any) -> None:  # noqa: ANN401 - a row
    figures.messages += row.messages
    figures.excluded += row.excluded
    figures.sent += row.sent
    figures.opened += row.opened
    figures.clicked += row.clicked
    figures.orders += row.orders
    figures.minor += row.minor


def _result(found: _Found, version: LoadedVersion | None, loaded: Sequence[LoadedVersion]) -> VersionResult:
    version_id = None if version is None else version.id
    newest = {name: node for each in reversed(loaded) for name, node in each.definition.nodes.items()}
    ways: dict[str, set[str]] = {}
    for place in found.figures:
        if place.version_id == version_id and place.node is not None:
            ways.setdefault(place.node, set()).update(() if place.way is None else (place.way,))
    return VersionResult(
        version,
        found.at(version_id),
        [_node(found, version_id, name, newest, ways.get(name, set())) for name in sorted({*newest, *ways})],
    )


def _node(found: _Found, version_id: UUID | None, name: str, newest: Mapping[str, Any], ways: set[str]) -> NodeResult:
    node = newest.get(name)
    arms = node.arms if isinstance(node, SplitNode) else ()
    held = next((found.at(version_id, name, ARM + arm.key).share for arm in arms if arm.holdout), None)

    def results_of(prefix: str, parts: Sequence[Shared]) -> list[WayResult]:
        known = {part.key: part.share for part in parts}
        gone = sorted({way.removeprefix(prefix) for way in ways if way.startswith(prefix)} - known.keys())
        kept: list[WayResult] = []
        for key in (*known, *gone):
            figures = found.at(version_id, name, prefix + key)
            holdout = any(arm.holdout and arm.key == key for arm in arms)
            lifted = None
            if held is not None and not holdout and key in known:
                lifted = compare(figures.share, held, CONFIDENCE)
            kept.append(WayResult(key, figures, known.get(key), holdout, lifted))
        return kept

    return NodeResult(
        name,
        None if node is None else node.type,
        found.at(version_id, name),
        results_of(ARM, arms),
        results_of(VARIANT, (node.variants or ()) if isinstance(node, SendNode) else ()),
    )
