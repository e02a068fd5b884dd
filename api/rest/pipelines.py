"""Pipelines with their stages, and their boards."""

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query, status
from pydantic import Field, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Money, Name, Strict
from api.paging import CursorParam, Page, decode_cursor, encode_cursor
from api.rest.deal_answers import Sum
from api.rest.deal_shapes import Percent
from api.routing import Router
from services.crm import board, pipelines, stage_plans
from services.crm.automation import MAX_ACTIONS, MAX_RULES, Rule, Running, Trigger
from services.crm.pipelines import NewPipeline, PipelineChange
from services.crm.stage_plans import NewStage

router = Router(prefix="/pipelines", tags=["pipelines"])

READ = [requires("pipelines:read")]
WRITE = [requires("pipelines:write")]

Kind = Literal["open", "won", "lost"]


class StageRuleIn(Strict):
    """What a stage does by itself."""

    key: Key
    on: Trigger
    """`enter` and `leave` the stage; `after` so long in it; `rotting`, when nothing was done for `rotting_days`."""
    after: Annotated[str | None, Field(max_length=50, examples=["P3D"])] = None
    """ISO 8601 duration, where `on` is `after`."""
    when: dict[str, Any] | None = None
    """A condition on the deal or its person, asked when it is time to act."""
    then: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MAX_ACTIONS)]
    """Nodes of a journey without `next`, one after the other."""


class StageRuleOut(Strict):
    """A rule, and the journey that it is."""

    key: str
    on: Trigger
    after: str | None
    when: dict[str, Any] | None
    then: list[dict[str, Any]]
    journey_id: UUID
    """Its `/stats` and `/enrollments` tell what became of deals."""
    status: str
    """Of the journey: `active`, or `paused`."""

    @classmethod
    def of(cls, rule: Running) -> Self:
        """Return the answer for a rule."""
        written = {"after": None, "when": None} | dict(rule.written)
        return cls.model_validate(written | {"key": rule.key, "journey_id": rule.journey_id, "status": rule.status})


class StageIn(Strict):
    """A stage to be."""

    id: UUID | None = None
    """Of a stage that is there; without it the one with this key is meant, or a new one."""
    key: Key | None = None
    """Made of the name unless given."""
    name: Name
    kind: Kind = "open"
    probability: Percent | None = None
    """Percent of deals here that are won; open stages rise evenly unless given."""
    required_fields: Annotated[
        list[str], Field(default_factory=list[str], max_length=50, examples=[["amount", "attributes.budget"]])
    ]
    """What a deal must have to enter."""
    allowed_moves: Annotated[list[Key] | None, Field(max_length=stage_plans.MAX_STAGES)] = None
    """Keys of the stages a deal may go to from here; null: any, and other pipelines too."""
    rotting_days: Annotated[StrictInt | None, Field(ge=1, le=stage_plans.MAX_ROTTING_DAYS)] = None
    """A deal rots when nothing was done about it for so many days."""
    automation: Annotated[list[StageRuleIn] | None, Field(max_length=MAX_RULES)] = None
    """What the stage does by itself, all of it; left out: what it does now."""

    def new(self, number: int) -> NewStage:
        """Return the stage to be."""
        key = self.key or stage_plans.key_of(self.name, f"stages.{number}.key")
        rules = None if self.automation is None else [Rule(**rule.model_dump()) for rule in self.automation]
        return NewStage(**self.model_dump(exclude={"key", "automation"}), key=key, automation=rules)


Stages = Annotated[list[StageIn], Field(min_length=1, max_length=stage_plans.MAX_STAGES)]
Position = Annotated[StrictInt, Field(ge=0, le=10_000)]


class PipelineIn(Strict):
    """A pipeline to make."""

    key: Key | None = None
    """Made of the name unless given."""
    name: Name
    position: Position = 0
    """Among the pipelines."""
    stages: Stages
    """In their order; at least one of them open."""

    def new(self) -> NewPipeline:
        """Return the pipeline to be."""
        key = self.key or stage_plans.key_of(self.name, "key")
        return NewPipeline(key=key, name=self.name, position=self.position, stages=_stages(self.stages))


class PipelinePatch(Strict):
    """What to change; a field left out, or null, stays as it is."""

    key: Key | None = None
    name: Name | None = None
    position: Position | None = None
    stages: Stages | None = None
    """All of them, in their order; those not named are deleted."""
    move_to: dict[str, Key] | None = None
    """Where deals go whose stage is deleted: from its key to that of a stage that stays."""

    def change(self) -> PipelineChange:
        """Return what the pipeline is to be."""
        return PipelineChange(
            key=self.key,
            name=self.name,
            position=self.position,
            stages=None if self.stages is None else _stages(self.stages),
            move_to=self.move_to or {},
        )


class PipelinePut(PipelinePatch):
    """A pipeline as a whole."""

    name: Name  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]  # needed here
    stages: Stages  # pyright: ignore[reportGeneralTypeIssues, reportIncompatibleVariableOverride]  # needed here


class StageOut(Strict):
    """A stage."""

    id: UUID
    key: str
    name: str
    position: int
    kind: Kind
    probability: int
    required_fields: list[str]
    allowed_moves: list[str] | None
    rotting_days: int | None
    automation: list[StageRuleOut]


class PipelineOut(Strict):
    """A pipeline."""

    id: UUID
    key: str
    name: str
    position: int
    stages: list[StageOut]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, found: pipelines.WithStages) -> Self:
        """Return the answer for a pipeline."""
        row = found.pipeline
        return cls(
            id=row.id,
            key=row.key,
            name=row.name,
            position=row.position,
            stages=[
                StageOut(
                    id=stage.id,
                    key=stage.key,
                    name=stage.name,
                    position=stage.position,
                    kind=stage.kind,  # pyright: ignore[reportArgumentType]  # the table checks it
                    probability=stage.probability,
                    required_fields=list(stage.required_fields),
                    allowed_moves=None if stage.allowed_moves is None else sorted(stage.allowed_moves),
                    rotting_days=stage.rotting_days,
                    automation=[StageRuleOut.of(rule) for rule in found.automation.get(stage.id, ())],
                )
                for stage in found.stages
            ],
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


class CardOut(Strict):
    """An open deal on the board."""

    id: UUID
    title: str
    amount: Money
    base_amount: Money
    probability: int
    close_date: date | None
    owner_id: UUID | None
    primary_person_id: UUID | None
    person_name: str | None
    """The primary person's; where it has none, its email address."""
    organization_id: UUID | None
    organization_name: str | None
    stage_entered_at: datetime
    touched_at: datetime
    rotting: bool
    version: int

    @classmethod
    def of(cls, card: board.Card, base: str) -> Self:
        """Return the answer for a card."""
        alike = {name: getattr(card, name) for name in cls.model_fields if hasattr(card, name)}
        name = " ".join(part for part in (card.first_name, card.last_name) if part)
        return cls(
            **alike,
            amount=Money.of(card.amount_minor, card.currency),
            base_amount=Money.of(card.base_minor, base),
            primary_person_id=card.person_id,
            person_name=name or card.email,
        )


class ColumnOut(Strict):
    """A stage on the board."""

    id: UUID
    key: str
    name: str
    kind: Kind
    probability: int
    rotting_days: int | None
    deals: int
    """Open ones; of a stage where deals are over, those closed in the last `closed_days`."""
    total: Sum
    """What they are worth in the base currency."""
    weighted: Sum
    """That, each weighed by its probability."""
    rotting: int
    cards: list[CardOut]
    """The newest open deals."""
    next_cursor: str | None
    """Give it as `cursor` with this `stage_id` for further cards; null where there are none."""

    @classmethod
    def of(cls, column: board.Column, base: str, limit: int) -> Self:
        """Return the answer for a stage, of which one card more than `limit` was asked for."""
        alike = {
            name: getattr(column, name)
            for name in ("id", "key", "name", "kind", "probability", "rotting_days", "deals", "rotting")
        }
        return cls(
            **alike,
            total=Sum.of(column.minor, base),
            weighted=Sum.of(column.weighted_minor, base),
            cards=[CardOut.of(card, base) for card in column.cards[:limit]],
            next_cursor=encode_cursor(column.cards[limit - 1].id) if len(column.cards) > limit else None,
        )


class BoardOut(Strict):
    """A pipeline's board."""

    stages: list[ColumnOut]


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: PipelineIn, session: SessionDep, actor: ActorDep) -> PipelineOut:
    """Make a pipeline with its stages. 409 where the key is taken."""
    return PipelineOut.of(await pipelines.create(session, body.new(), by=actor))


@router.get("", dependencies=READ)
async def index(session: SessionDep) -> Page[PipelineOut]:
    """List all pipelines, by `position`; there are at most 100."""
    return Page(items=[PipelineOut.of(found) for found in await pipelines.list_all(session)])


@router.get("/{pipeline_id}", dependencies=READ)
async def get(pipeline_id: UUID, session: SessionDep) -> PipelineOut:
    """Return a pipeline."""
    return PipelineOut.of(await pipelines.get(session, pipeline_id))


@router.patch("/{pipeline_id}", dependencies=WRITE)
async def update(pipeline_id: UUID, body: PipelinePatch, session: SessionDep, actor: ActorDep) -> PipelineOut:
    """Change a pipeline; `stages`, where given, are all it has from then on.

    409 where deals are in a stage that is to go and `move_to` does not say where they go to, or in one that is to be
    of another kind.
    """
    return PipelineOut.of(await pipelines.replace(session, pipeline_id, body.change(), by=actor))


@router.put("/{pipeline_id}", dependencies=WRITE)
async def replace(pipeline_id: UUID, body: PipelinePut, session: SessionDep, actor: ActorDep) -> PipelineOut:
    """Change a pipeline as a whole; see PATCH."""
    return PipelineOut.of(await pipelines.replace(session, pipeline_id, body.change(), by=actor))


@router.delete("/{pipeline_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(pipeline_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Delete a pipeline. 409 while deals are in it."""
    await pipelines.remove(session, pipeline_id, by=actor)


@router.get("/{pipeline_id}/board", dependencies=[*READ, requires("deals:read")])
async def get_board(
    pipeline_id: UUID,
    session: SessionDep,
    owner_id: UUID | None = None,
    stage_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=board.MAX_CARDS, description="Cards of each stage")] = 20,
    closed_days: Annotated[int, Query(ge=0, le=board.MAX_CLOSED_DAYS)] = 30,
    cursor: CursorParam = None,
) -> BoardOut:
    """Return the stages with what their deals are worth together and the newest cards of each, in one go.

    `owner_id` for the deals of one teammate; `stage_id` and the stage's `next_cursor` for its further cards.
    """
    found = await board.read(
        session,
        pipeline_id,
        limit=limit + 1,
        owner_id=owner_id,
        stage_id=stage_id,
        before=None if cursor is None else decode_cursor(cursor, [UUID])[0],
        closed_days=closed_days,
    )
    return BoardOut(stages=[ColumnOut.of(column, found.base_currency, limit) for column in found.columns])


def _stages(given: list[StageIn]) -> list[NewStage]:
    return [stage.new(number) for number, stage in enumerate(given)]
