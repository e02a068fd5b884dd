"""The rules that people are scored by."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from journeys.checking import Problem, Vocabulary, check_condition
from journeys.validation import problems_of
from models import ScoreRule
from services.identity import field_types, scoring
from services.shared import activity

MAX_RULES: Final = 100
"""Each is asked of every person in one statement."""
MAX_POINTS: Final = 100

_FIELDS: Final = field_types.PERSON_FIELDS - {"score", "lifecycle_stage", "qualified_at", "updated_at"}
"""Not what the score itself changes: a rule must not chase its own tail."""


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> ScoreRule:
    """Add a rule, of `key`, `name`, `condition`, `points` and `enabled`; everybody's score is recomputed.

    Raises:
        InvalidError: the condition means nothing.
        ConflictError: the key is taken, or there are too many rules.
    """
    await _check(session, fields["condition"])
    count = await session.scalar(
        select(func.count()).select_from(ScoreRule).where(ScoreRule.tenant_id == session.tenant_id)
    )
    if (count or 0) >= MAX_RULES:
        raise ConflictError(f"There can be at most {MAX_RULES} rules.")
    row = await session.scalar(
        insert(ScoreRule)
        .values(tenant_id=session.tenant_id, id=new_id(), **fields)
        .on_conflict_do_nothing()
        .returning(ScoreRule)
    )
    if row is None:
        raise ConflictError(
            f"There is a rule with the key {fields['key']} already.", errors=[FieldProblem("key", "is taken")]
        )
    await _log(session, row, "score_rule.created", {name: (None, value) for name, value in fields.items()}, by=by)
    await scoring.owe_all(session)
    return row


async def update(session: TenantSession, rule_id: UUID, fields: Mapping[str, Any], *, by: Actor) -> ScoreRule:
    """Change a rule; everybody's score is recomputed where it matters.

    Raises:
        NotFoundError: no such rule in this tenant.
        InvalidError: the condition means nothing.
    """
    row = await get(session, rule_id, lock=True)
    changes = {name: (getattr(row, name), value) for name, value in fields.items() if getattr(row, name) != value}
    if not changes:
        return row
    if "condition" in changes:
        await _check(session, fields["condition"])
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    await _log(session, row, "score_rule.updated", changes, by=by)
    if changes.keys() - {"name"}:
        await scoring.owe_all(session)
    return row


async def delete(session: TenantSession, rule_id: UUID, *, by: Actor) -> None:
    """Drop a rule; everybody's score is recomputed.

    Raises:
        NotFoundError: no such rule in this tenant.
    """
    row = await get(session, rule_id, lock=True)
    await session.delete(row)
    await session.flush()
    await _log(session, row, "score_rule.deleted", {"key": (row.key, None)}, by=by)
    await scoring.owe_all(session)


async def get(session: TenantSession, rule_id: UUID, *, lock: bool = False) -> ScoreRule:
    """Return a rule.

    Raises:
        NotFoundError: no such rule in this tenant.
    """
    row = await session.get(
        ScoreRule, (session.tenant_id, rule_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such rule.")
    return row


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[ScoreRule]:
    """Return up to `limit` rules, oldest first, those made after `after` only."""
    statement = select(ScoreRule).where(ScoreRule.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(ScoreRule.id > after)
    return (await session.scalars(statement.order_by(ScoreRule.id).limit(limit))).all()


async def _check(session: TenantSession, raw: object) -> None:
    try:
        condition = scoring.parse(raw)
    except ValidationError as error:
        raise _invalid(problems_of(error)) from error
    found = check_condition(
        condition,
        Vocabulary(person_fields=_FIELDS, segments=frozenset(), typed=await field_types.known(session)),
        roots={"person"},
    )
    if found:
        raise _invalid(found)


def _invalid(problems: Sequence[Problem]) -> InvalidError:
    errors = [FieldProblem(".".join(filter(None, ("condition", found.path))), found.reason) for found in problems]
    return InvalidError(f"{errors[0].field}: {errors[0].reason}", errors=errors)


async def _log(session: TenantSession, row: ScoreRule, verb: str, changes: activity.Changes, *, by: Actor) -> None:
    await activity.record(session, by=by, subject_type="score_rule", subject_id=row.id, type=verb, changes=changes)
