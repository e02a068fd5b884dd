"""Versions of journeys: publishing them under people's feet, what differs, and the way back."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.rest.journeys import JourneyPath
from api.routing import Router
from core.errors import InvalidError
from journeys import migration
from journeys.command_nodes import NodeId
from journeys.definition import MAX_NODES, JourneyDefinition
from journeys.differences import between
from services.journeys import journeys, migrating, publishing

router = Router(prefix="/journeys", tags=["journeys"])


class Instruction(Strict):
    """What becomes of those who stand at a node."""

    do: Literal["finish", "move", "retime", "eject"]
    to: NodeId | None = None


class Publication(Strict):
    """How to publish."""

    in_flight: Literal["finish", "move"] = "finish"
    """`finish`: people inside go on in the version they are in. `move`: they go on in the new one, as planned."""
    node_map: Annotated[dict[NodeId, NodeId] | None, Field(max_length=MAX_NODES)] = None
    """Nodes that go on under another name, `{old: new}`; the same as `retime` in the plan."""
    plan: Annotated[dict[NodeId, migration.Instruction] | None, Field(max_length=MAX_NODES)] = None
    """What becomes of those at a node, `{node: {"do": ..., "to": ...}}`. A node that is not named goes on as the one of
    its name, re-timed; one that is gone, and where somebody is, must be named."""

    def planned(self) -> dict[NodeId, migration.Instruction] | None:
        """Return the plan by node, None where everybody finishes.

        Raises:
            InvalidError: it says a thing twice, or speaks of moving where nobody is to be moved.
        """
        node_map, plan = self.node_map or {}, self.plan or {}
        if self.in_flight == "finish":
            if node_map or plan:
                raise InvalidError.of("plan" if plan else "node_map", "is for in_flight move")
            return None
        for node in sorted(node_map.keys() & plan.keys()):
            raise InvalidError.of(f"plan.{node}", "is in node_map too")
        return {**migration.from_map(node_map), **plan}


class Return(Publication):
    """How to go back."""

    version_id: UUID


class Version(Strict):
    """A published version; it never changes."""

    id: UUID
    journey_id: UUID
    number: int
    definition: dict[str, Any]
    published_by: str
    created_at: datetime


class Published(Version):
    """What was published."""

    migration_id: UUID | None = None
    """Of the migration that brings people to it; only with `in_flight: "move"`."""


class ListedVersion(Strict):
    """A version among others."""

    id: UUID
    journey_id: UUID
    number: int
    published_by: str
    created_at: datetime
    active: bool
    """Whether people enter it now."""
    inside: int
    """How many are in it."""


class Standing(Strict):
    """Those at one node of one version, and what would become of them."""

    version_id: UUID
    version: int
    node: str
    kind: str
    """The node's type."""
    inside: int
    paused: int
    parked: int
    do: Literal["finish", "move", "retime", "eject"]
    to: str | None
    released: int
    """Of those re-timed: whose wait would be over at once."""
    wakes_first: datetime | None
    """When the first of the others would go on, as far as clocks say it."""
    wakes_last: datetime | None


class PublishPreview(Strict):
    """What publishing would do; nothing was written."""

    nodes: list[Standing]
    counts: dict[str, int]
    """`finish`, `move`, `retime`, `eject`; and how many of them would be `released` from a wait at once."""
    unnamed: list[str]
    """Nodes that are gone and where somebody is: publishing with `move` would be refused until the plan names them."""


class Migration(Strict):
    """The moving of people to a version."""

    id: UUID
    version_id: UUID
    status: Literal["running", "done", "superseded", "failed"]
    plan: dict[str, Instruction]
    inside: int
    """How many were in older versions when it began."""
    counts: dict[str, int]
    """So far: `finish`, `move`, `retime`, `eject`, and those who had `ended` by the time."""
    error: str | None
    started_by: str
    created_at: datetime
    finished_at: datetime | None


class Change(Strict):
    """A field with its values."""

    before: Any
    after: Any


class Difference(Strict):
    """What is another way in the later of two definitions."""

    added: list[str]
    removed: list[str]
    changed: dict[str, dict[str, Change]]
    """By node and field."""
    rules: dict[str, Change]
    """Beside the nodes: entry, start, goal, exit_when and the like."""


@router.post("/{journey}/publish", dependencies=[requires("journeys:write")], response_model_exclude_unset=True)
async def publish(
    journey: JourneyPath, session: SessionDep, actor: ActorDep, body: Publication | None = None
) -> Published:
    """Publish the draft: people enter it from now on. Those inside finish where they are, or are moved by the plan."""
    plan = (body or Publication()).planned()
    found = await journeys.authored(session, journey)
    done = await publishing.publish(session, found, plan=plan, by=actor)
    return _published(done)


@router.post("/{journey}/publish/preview", dependencies=[requires("journeys:read")])
async def preview(journey: JourneyPath, session: SessionDep, body: Publication | None = None) -> PublishPreview:
    """Say who is where, and what publishing the draft would do with them; write nothing."""
    plan = (body or Publication()).planned()
    found = await journeys.authored(session, journey)
    return PublishPreview.model_validate(await publishing.preview(session, found, plan=plan))


@router.post("/{journey}/rollback", dependencies=[requires("journeys:write")], response_model_exclude_unset=True)
async def roll_back(journey: JourneyPath, body: Return, session: SessionDep, actor: ActorDep) -> Published:
    """Publish an older version's definition again; with `move` people go back the way they were brought."""
    plan = body.planned()
    found = await journeys.authored(session, journey)
    version = await journeys.version(session, found, body.version_id)
    return _published(await publishing.roll_back(session, found, version, plan=plan, by=actor))


@router.post("/{journey}/rollback/preview", dependencies=[requires("journeys:read")])
async def preview_rollback(journey: JourneyPath, body: Return, session: SessionDep) -> PublishPreview:
    """Say who is where, and what rolling back would do with them; write nothing."""
    plan = body.planned()
    found = await journeys.authored(session, journey)
    version = await journeys.version(session, found, body.version_id)
    return PublishPreview.model_validate(await publishing.preview_back(session, found, version, plan=plan))


def _published(done: publishing.Published) -> Published:
    shown = Published.model_validate(done.version)
    if done.migration is None:
        return shown
    return shown.model_copy(update={"migration_id": done.migration.id})


@router.get("/{journey}/migrations", dependencies=[requires("journeys:read")])
async def list_migrations(
    journey: JourneyPath, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[Migration]:
    """List how people were moved between versions, newest first."""
    found = await journeys.find(session, journey)
    before = decode_cursor(cursor, [UUID])[0] if cursor else None
    rows = await migrating.page(session, found.id, before=before, limit=limit + 1)
    items = [Migration.model_validate(row) for row in rows[:limit]]
    return Page(items=items, next_cursor=encode_cursor(items[-1].id) if len(rows) > limit else None)


@router.get("/{journey}/versions", dependencies=[requires("journeys:read")])
async def list_versions(
    journey: JourneyPath, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ListedVersion]:
    """List the published versions, newest first, with how many are inside each."""
    found = await journeys.find(session, journey)
    before = decode_cursor(cursor, [int])[0] if cursor else None
    rows = await publishing.page(session, found, before=before, limit=limit + 1)
    items = [
        ListedVersion(
            id=version.id,
            journey_id=version.journey_id,
            number=version.number,
            published_by=version.published_by,
            created_at=version.created_at,
            active=version.id == found.active_version_id,
            inside=inside,
        )
        for version, inside in rows[:limit]
    ]
    return Page(items=items, next_cursor=encode_cursor(items[-1].number) if len(rows) > limit else None)


@router.get("/{journey}/versions/{version_id}", dependencies=[requires("journeys:read")])
async def get_version(journey: JourneyPath, version_id: UUID, session: SessionDep) -> Version:
    """Return a published version."""
    found = await journeys.find(session, journey)
    return Version.model_validate(await journeys.version(session, found, version_id))


@router.get("/{journey}/versions/{version_id}/diff", dependencies=[requires("journeys:read")])
async def diff(
    journey: JourneyPath,
    version_id: UUID,
    session: SessionDep,
    to: Annotated[UUID | None, Query(description="A later version; the draft unless given")] = None,
) -> Difference:
    """Say what differs between a version and another one, or the draft."""
    found = await journeys.find(session, journey)
    before = (await journeys.version(session, found, version_id)).definition
    after = found.draft if to is None else (await journeys.version(session, found, to)).definition
    differing = between(JourneyDefinition.model_validate(before), JourneyDefinition.model_validate(after))
    return Difference.model_validate(differing)
