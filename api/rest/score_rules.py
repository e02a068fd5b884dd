"""The rules that people are scored by."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import status
from pydantic import Field, JsonValue, StrictBool, StrictInt

from api.dependencies import ActorDep, SessionDep, requires
from api.fields import Key, Name, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from services.identity import score_rules

router = Router(prefix="/score-rules", tags=["attributes"])

READ = [requires("people:read")]
WRITE = [requires("people:write")]

Points = Annotated[StrictInt, Field(ge=-score_rules.MAX_POINTS, le=score_rules.MAX_POINTS)]


class ScoreRuleIn(Strict):
    """A rule: points for people of whom a condition holds."""

    key: Key
    name: Name
    condition: Annotated[JsonValue, Field(examples=[{"event": "page.viewed", "within": "P7D"}])]
    points: Points
    enabled: StrictBool = True


class RulePatch(Strict):
    """What to change; a field left out, or null, stays as it is."""

    name: Name | None = None
    condition: JsonValue = None
    points: Points | None = None
    enabled: StrictBool | None = None


class ScoreRuleOut(Strict):
    """A rule."""

    id: UUID
    key: str
    name: str
    condition: dict[str, Any]
    points: int
    enabled: bool
    created_at: datetime
    updated_at: datetime


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE)
async def create(body: ScoreRuleIn, session: SessionDep, actor: ActorDep) -> ScoreRuleOut:
    """Add a rule; everybody's score follows within moments, and starts nothing."""
    return ScoreRuleOut.model_validate(await score_rules.create(session, body.model_dump(), by=actor))


@router.get("", dependencies=READ)
async def find(
    session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> Page[ScoreRuleOut]:
    """List rules, oldest first."""
    after = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    found = await score_rules.page(session, limit=limit + 1, after=after)
    return Page(
        items=[ScoreRuleOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/{rule_id}", dependencies=READ)
async def get(rule_id: UUID, session: SessionDep) -> ScoreRuleOut:
    """Return a rule."""
    return ScoreRuleOut.model_validate(await score_rules.get(session, rule_id))


@router.patch("/{rule_id}", dependencies=WRITE)
async def update(rule_id: UUID, body: RulePatch, session: SessionDep, actor: ActorDep) -> ScoreRuleOut:
    """Change a rule; everybody's score follows."""
    fields = body.model_dump(exclude_none=True)
    return ScoreRuleOut.model_validate(await score_rules.update(session, rule_id, fields, by=actor))


@router.delete("/{rule_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def delete(rule_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Drop a rule; everybody's score follows."""
    await score_rules.delete(session, rule_id, by=actor)
