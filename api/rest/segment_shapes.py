"""Segments as the API shows and takes them."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, JsonValue

from api.fields import Key, Name, Strict
from models import Segment, SegmentRefresh
from services.marketing.segments.looking import Decided, Explained

Description = Annotated[str, Field(max_length=2_000)]
Sql = Annotated[str, Field(min_length=1, max_length=10_000)]
Refresh = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        description="`realtime`, `manual`, or a cron expression in the tenant's time zone",
        examples=["realtime", "0 6 * * *"],
    ),
]
Rules = Annotated[
    JsonValue,
    Field(
        description="A condition; see docs/segments.md",
        examples=[{"event": "order.placed", "count": {"op": ">=", "value": 2}, "within": "P30D"}],
    ),
]


class SegmentIn(Strict):
    """A segment to make."""

    key: Key
    name: Name
    description: Description | None = None
    kind: Literal["static", "dynamic"]
    rules: Rules = None
    sql: Sql | None = None
    refresh: Refresh | None = None
    """`realtime` for rules unless given, `manual` for SQL and static segments."""


class SegmentPatch(Strict):
    """What to change; a field left out, or null, stays as it is. Rules given replace SQL, and the other way round."""

    name: Name | None = None
    description: Description | None = None
    rules: Rules = None
    sql: Sql | None = None
    refresh: Refresh | None = None


class RefreshOut(Strict):
    """One computation of a segment for everybody."""

    id: UUID
    status: Literal["queued", "running", "finished", "failed", "superseded"]
    cause: str
    """`created`, `changed`, `manual`, `scheduled`, `segment` (one it asks about was computed) or `recovered`."""
    quiet: bool
    """Whether its changes are told by their counts alone: they start nothing."""
    revision: int
    people: int
    """Looked at so far."""
    entered: int
    left: int
    error: str | None
    created_by: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    finished_at: datetime | None

    @classmethod
    def of(cls, run: SegmentRefresh) -> "RefreshOut":
        """Return the answer for a computation."""
        own = {name: getattr(run, name) for name in cls.model_fields if hasattr(run, name)}
        return cls.model_validate(own | {"left": run.departed})


class SegmentOut(Strict):
    """A segment."""

    id: UUID
    key: str
    name: str
    description: str | None
    kind: Literal["static", "dynamic"]
    rules: dict[str, Any] | None
    sql: str | None
    refresh: str
    revision: int
    """Goes up when the rules or the SQL change."""
    members: int
    """How many are in it now."""
    computed_revision: int | None
    """The revision that everybody was last looked at by; below `revision`, the members are still of the old one."""
    computed_at: datetime | None
    """All that was known before is in the membership. A realtime segment follows what comes after by itself."""
    stale: bool
    """Whether the members are not, or not yet, those of this revision."""
    refreshing: RefreshOut | None
    """The computation under way, or the last one where it failed."""
    next_refresh_at: datetime | None
    """Of a scheduled segment."""
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(
        cls, segment: Segment, *, members: int, run: SegmentRefresh | None, next_refresh_at: datetime | None
    ) -> "SegmentOut":
        """Return the answer for a segment."""
        own = {name: getattr(segment, name) for name in cls.model_fields if hasattr(segment, name)}
        return cls.model_validate(
            own
            | {
                "members": members,
                "stale": segment.kind == "dynamic" and segment.computed_revision != segment.revision,
                "refreshing": None if run is None else RefreshOut.of(run),
                "next_refresh_at": next_refresh_at,
            }
        )


class MemberOut(Strict):
    """Somebody in a segment."""

    person_id: UUID
    email: str | None
    first_name: str | None
    last_name: str | None
    entered_at: datetime
    source: str
    """`rule`, `manual`, `import` or `snapshot`."""


class SegmentPersonOut(Strict):
    """Somebody who would be in a segment."""

    person_id: UUID
    email: str | None
    first_name: str | None
    last_name: str | None


class PreviewIn(Strict):
    """What would decide."""

    rules: Rules = None
    sql: Sql | None = None


class PreviewOut(Strict):
    """Who would be in a segment now."""

    count: int
    sample: list[SegmentPersonOut]
    """Some of them."""


class PeopleIn(Strict):
    """People, by their ids."""

    person_ids: Annotated[list[UUID], Field(min_length=1, max_length=1_000)]


class AddedOut(Strict):
    """What came of putting people in, or taking them out."""

    changed: int
    """Who was not in before, or is not any more."""


class SnapshotIn(Strict):
    """What to call the copy."""

    key: Key
    name: Name


class DecidedOut(Strict):
    """One condition, and what it comes to."""

    condition: dict[str, Any]
    holds: bool
    seen: JsonValue = None
    """What the field holds, or how many events count."""
    parts: Annotated[list["DecidedOut"], Field(default_factory=list)]

    @classmethod
    def of(cls, decided: Decided) -> "DecidedOut":
        """Return the answer for a condition."""
        return cls(
            condition=dict(decided.condition),
            holds=decided.holds,
            seen=decided.seen,  # pyright: ignore[reportArgumentType]  # JSON of the store
            parts=[cls.of(part) for part in decided.parts],
        )


class ExplainOut(Strict):
    """Why a person is in a segment, or is not."""

    segment: str
    person_id: UUID
    member: bool
    member_since: datetime | None
    source: str | None
    matches_now: bool | None
    """What the rules or the SQL say at this moment; null for a static segment."""
    looked_at_next: datetime | None
    """When the rules may decide otherwise though nothing happens."""
    rules: DecidedOut | None

    @classmethod
    def of(cls, segment: Segment, person_id: UUID, found: Explained, *, matches: bool | None) -> "ExplainOut":
        """Return the answer."""
        rules = None if found.rules is None else DecidedOut.of(found.rules)
        return cls(
            segment=segment.key,
            person_id=person_id,
            member=found.member_since is not None,
            member_since=found.member_since,
            source=found.source,
            matches_now=matches if rules is None else rules.holds,
            looked_at_next=found.looked_at_next,
            rules=rules,
        )


class FreshnessOut(Strict):
    """How long changes of membership of the last 24 hours took, from what caused them to the members."""

    changes: int
    p50_seconds: float | None
    p99_seconds: float | None
    worst_seconds: float | None
