"""What labels of associations link, and how many: defined, and held against what is linked already."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy import update as sql_update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError, UnavailableError
from core.ids import new_id
from models import Association, AssociationDefinition, ObjectDefinition
from services.objects import ends
from services.shared import activity

Cardinality = Literal["one_to_one", "one_to_many", "many_to_one", "many_to_many"]

MAX_DEFINITIONS: Final = 500
SAMPLES: Final = 5
"""How much of what a definition would break is shown."""

_RECORD: Final = "record:"
_LOCK: Final = (
    "SELECT pg_advisory_xact_lock{mode}"
    "(hashtextextended('association_definition:' || CAST(CAST(:tenant AS uuid) AS text), 0))"
)
_ALONE: Final = text(_LOCK.format(mode=""))
_TOGETHER: Final = text(_LOCK.format(mode="_shared"))

_MISPLACED: Final = """
    SELECT a.id, a.from_end, a.to_end, count(*) OVER () AS total
    FROM association a
    LEFT JOIN record f ON f.tenant_id = :tenant AND f.id = a.from_record_id
    LEFT JOIN record t ON t.tenant_id = :tenant AND t.id = a.to_record_id
    WHERE a.tenant_id = :tenant AND a.label = :label AND ({from_side} AND {to_side}) IS NOT TRUE
    ORDER BY a.id LIMIT :limit
"""
_CROWDED: Final = """
    SELECT a.{side}_end AS one_end, count(*) AS associations, (array_agg(a.id ORDER BY a.id))[1:3] AS ids,
           count(*) OVER () AS total
    FROM association a
    WHERE a.tenant_id = :tenant AND a.label = :label
    GROUP BY a.{side}_end HAVING count(*) > 1
    ORDER BY a.{side}_end LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a definition asks of an association."""

    from_type: str
    to_type: str
    from_once: bool
    """Whether a `from` may have no other with the label."""
    to_once: bool

    @classmethod
    def of(cls, row: AssociationDefinition) -> "Rule":
        """Return that of a definition."""
        return cls(row.from_type, row.to_type, **_once(row.cardinality))


async def rules(session: TenantSession, labels: Collection[str]) -> dict[str, Rule]:
    """Return the rules of those labels that are defined; no definition changes until the transaction ends."""
    await session.execute(_TOGETHER, {"tenant": session.tenant_id})
    rows = await session.scalars(
        select(AssociationDefinition)
        .where(AssociationDefinition.tenant_id == session.tenant_id, AssociationDefinition.label.in_(sorted(labels)))
        .execution_options(populate_existing=True)
    )
    return {row.label: Rule.of(row) for row in rows}


async def create(session: TenantSession, fields: Mapping[str, Any], *, by: Actor) -> AssociationDefinition:
    """Define a label by `label`, `inverse_label`, `from_type`, `to_type`, `cardinality` and `description`.

    Raises:
        InvalidError: a type is none, or of an object that there is not.
        ConflictError: the label is defined already, there are too many, or existing associations break it: `count`
            says how many, `samples` which.
    """
    await session.execute(_ALONE, {"tenant": session.tenant_id})
    sides = [await _side(session, name, fields[name]) for name in ("from_type", "to_type")]
    count = await session.scalar(
        select(func.count())
        .select_from(AssociationDefinition)
        .where(AssociationDefinition.tenant_id == session.tenant_id)
    )
    if (count or 0) >= MAX_DEFINITIONS:
        raise ConflictError(f"There can be at most {MAX_DEFINITIONS} definitions.")
    row = await session.scalar(
        insert(AssociationDefinition)
        .values(tenant_id=session.tenant_id, id=new_id(), **fields)
        .on_conflict_do_nothing()
        .returning(AssociationDefinition)
    )
    if row is None:
        raise ConflictError(
            f"The label {fields['label']} is defined already.", errors=[FieldProblem("label", "is defined already")]
        )
    await _impose(session, row, sides)
    changes = {name: (None, value) for name, value in fields.items() if value is not None}
    await _log(session, row, "association_definition.created", changes, by=by)
    return row


async def update(
    session: TenantSession, definition_id: UUID, fields: Mapping[str, Any], *, by: Actor
) -> AssociationDefinition:
    """Change `inverse_label`, `from_type`, `to_type`, `cardinality` or `description`; return the definition.

    Raises:
        NotFoundError: no such definition in this tenant.
        InvalidError: as for `create`.
        ConflictError: existing associations break it: `count` says how many, `samples` which.
    """
    await session.execute(_ALONE, {"tenant": session.tenant_id})
    row = await get(session, definition_id)
    changes = {name: (getattr(row, name), value) for name, value in fields.items() if getattr(row, name) != value}
    if not changes:
        return row
    wanted = {name: fields.get(name, getattr(row, name)) for name in ("from_type", "to_type")}
    sides = [await _side(session, name, kind) for name, kind in wanted.items()]
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    if changes.keys() & {"from_type", "to_type", "cardinality"}:
        await _impose(session, row, sides)
    await _log(session, row, "association_definition.updated", changes, by=by)
    return row


async def delete(session: TenantSession, definition_id: UUID, *, by: Actor) -> None:
    """Drop a definition; what is linked stays, and its label links anything to anything from then on.

    Raises:
        NotFoundError: no such definition in this tenant.
    """
    await session.execute(_ALONE, {"tenant": session.tenant_id})
    row = await get(session, definition_id)
    await session.delete(row)
    await session.flush()
    await _set_once(session, row.label, from_once=False, to_once=False)
    await _log(session, row, "association_definition.deleted", {"label": (row.label, None)}, by=by)


async def get(session: TenantSession, definition_id: UUID) -> AssociationDefinition:
    """Return a definition.

    Raises:
        NotFoundError: no such definition in this tenant.
    """
    row = await session.get(AssociationDefinition, (session.tenant_id, definition_id), populate_existing=True)
    if row is None:
        raise NotFoundError("No such definition.")
    return row


async def page(session: TenantSession, *, limit: int, after: UUID | None) -> Sequence[AssociationDefinition]:
    """Return up to `limit` definitions, oldest first, those made after `after` only."""
    statement = select(AssociationDefinition).where(AssociationDefinition.tenant_id == session.tenant_id)
    if after is not None:
        statement = statement.where(AssociationDefinition.id > after)
    return (await session.scalars(statement.order_by(AssociationDefinition.id).limit(limit))).all()


def _once(cardinality: str) -> dict[str, bool]:
    """Return which of `from_once` and `to_once` hold: of `one_to_many`, a `to` has one `from`."""
    return {
        "from_once": cardinality in {"one_to_one", "many_to_one"},
        "to_once": cardinality in {"one_to_one", "one_to_many"},
    }


_TYPES: Final = "must be person, organization, order, deal, or record:KEY with the key of an object"


async def _side(session: TenantSession, field: str, kind: str) -> tuple[str, UUID | None]:
    """Return what an end must be: its type, and of a record the object.

    Raises:
        InvalidError: naming `field`.
    """
    if not kind.startswith(_RECORD):
        if kind == "record" or kind not in ends.TYPES:
            raise InvalidError.of(field, _TYPES)
        return kind, None
    found = await session.scalar(
        select(ObjectDefinition.id).where(
            ObjectDefinition.tenant_id == session.tenant_id, ObjectDefinition.key == kind.removeprefix(_RECORD)
        )
    )
    if found is None:
        raise InvalidError.of(field, f"there is no object {kind.removeprefix(_RECORD)}")
    return "record", found


async def _impose(session: TenantSession, row: AssociationDefinition, sides: Sequence[tuple[str, UUID | None]]) -> None:
    """Hold what is linked already to the definition, or refuse it."""
    await _check_types(session, row, sides)
    once = _once(row.cardinality)
    for side in ("from", "to"):
        if once[f"{side}_once"]:
            await _check_once(session, row, side)
    await _set_once(session, row.label, **once)


async def _check_types(
    session: TenantSession, row: AssociationDefinition, sides: Sequence[tuple[str, UUID | None]]
) -> None:
    matches = {
        f"{side}_side": f"{alias}.object_id = CAST(:{side}_object AS uuid)"
        if object_id is not None
        else f"a.{side}_{ends.TYPES[kind].column} IS NOT NULL"
        for (side, alias), (kind, object_id) in zip((("from", "f"), ("to", "t")), sides, strict=True)
        if kind in ends.TYPES
    }
    objects = {
        f"{side}_object": object_id
        for side, (_, object_id) in zip(("from", "to"), sides, strict=True)
        if object_id is not None
    }
    values = {"tenant": session.tenant_id, "label": row.label, "limit": SAMPLES, **objects}
    found = (await session.execute(text(_MISPLACED.format(**matches)), values)).all()
    if found:
        raise ConflictError(
            f"{found[0].total} associations labelled {row.label} link other types of things.",
            errors=[FieldProblem("from_type", f"{found[0].total} associations have other types at their ends")],
            extra={
                "count": found[0].total,
                "samples": [{"association_id": str(a.id), "from": a.from_end, "to": a.to_end} for a in found],
            },
        )


async def _check_once(session: TenantSession, row: AssociationDefinition, side: str) -> None:
    values = {"tenant": session.tenant_id, "label": row.label, "limit": SAMPLES}
    found = (await session.execute(text(_CROWDED.format(side=side)), values)).all()
    if found:
        raise ConflictError(
            f"{found[0].total} things have more than one association labelled {row.label} as its {side}.",
            errors=[FieldProblem("cardinality", f"{found[0].total} things have more than one as `{side}`")],
            extra={
                "count": found[0].total,
                "samples": [
                    {"end": each.one_end, "associations": each.associations, "ids": [str(one) for one in each.ids]}
                    for each in found
                ],
            },
        )


async def _set_once(session: TenantSession, label: str, *, from_once: bool, to_once: bool) -> None:
    statement = (
        sql_update(Association)
        .where(
            Association.tenant_id == session.tenant_id,
            Association.label == label,
            (Association.from_once != from_once) | (Association.to_once != to_once),
        )
        .values(from_once=from_once, to_once=to_once)
        .execution_options(synchronize_session=False)
    )
    try:
        async with session.begin_nested():
            await session.execute(statement)
    except IntegrityError as error:  # a merge of people brought two together meanwhile
        raise UnavailableError("What is linked has just changed; try again in a moment.") from error


async def _log(
    session: TenantSession, row: AssociationDefinition, verb: str, changes: activity.Changes, *, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="association_definition", subject_id=row.id, type=verb, changes=changes
    )
