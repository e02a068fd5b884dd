"""What a tenant's attributes may hold: defined one by one, checked with every write; what is undefined stays free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import JsonValue
from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    Numeric,
    Table,
    Text,
    and_,
    case,
    func,
    literal,
    not_,
    or_,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from journeys.attributes import DAY_LENGTH, AttributeType, Defined, value_problem
from models import AttributeDefinition, Organization, Person
from services.identity import attributes
from services.shared import activity
from services.shared.conditions_fields import fits_date

SubjectType = Literal["person", "organization"]

MAX_DEFINITIONS: Final = 500
"""Of a subject type; each write loads those it sets."""
MAX_CHOICES: Final = 500
MAX_CHOICE: Final = 200
SHOWN_MISFITS: Final = 5

_SUBJECTS: Final[Mapping[str, Table]] = {
    "person": Person.__table__,  # pyright: ignore[reportAssignmentType]  # declarative tables are plain tables here
    "organization": Organization.__table__,  # pyright: ignore[reportAssignmentType]
}
_IDS: Final = {"person": "person_ids", "organization": "organization_ids"}
_PLAIN: Final = ("label", "description", "type", "choices", "minimum", "maximum")


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A definition as a caller gives it."""

    subject_type: SubjectType
    key: str
    label: str
    description: str | None = None
    type: AttributeType
    choices: Sequence[str] | None = None
    minimum: float | None = None
    maximum: float | None = None

    def check(self) -> None:
        """Check that it can be met.

        Raises:
            InvalidError: naming every field at fault.
        """
        attributes.check({self.key: None}, named="key")
        problems: list[FieldProblem] = []
        if self.type == "choice" and not self.choices:
            problems.append(FieldProblem("choices", "are needed for the type choice"))
        if self.choices is not None:
            problems += self._choice_problems(self.choices)
        if self.type not in {"number", "text", "list"}:
            problems += [
                FieldProblem(name, f"means nothing for the type {self.type}")
                for name in ("minimum", "maximum")
                if getattr(self, name) is not None
            ]
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            problems.append(FieldProblem("maximum", "must not be below the minimum"))
        if problems:
            raise InvalidError(f"{problems[0].field}: {problems[0].reason}", errors=problems)

    def _choice_problems(self, choices: Sequence[str]) -> list[FieldProblem]:
        if self.type not in {"choice", "list"}:
            return [FieldProblem("choices", f"mean nothing for the type {self.type}")]
        if len(choices) > MAX_CHOICES or len(set(choices)) < len(choices):
            return [FieldProblem("choices", f"must be at most {MAX_CHOICES}, each once")]
        if not all(0 < len(choice) <= MAX_CHOICE for choice in choices):
            return [FieldProblem("choices", f"must have 1 to {MAX_CHOICE} characters each")]
        return []

    def values(self) -> dict[str, Any]:
        """Return the columns that can change."""
        return {
            name: list(self.choices) if name == "choices" and self.choices is not None else getattr(self, name)
            for name in _PLAIN
        }


@dataclass(frozen=True, slots=True)
class Change:
    """What to change of a definition; what is not named stays."""

    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of `label`, `description`, `type`, `choices`, `minimum`, `maximum`."""


def defined(row: AttributeDefinition | Definition) -> Defined:
    """Return what a definition says of values."""
    return Defined(
        row.type,  # pyright: ignore[reportArgumentType]  # the store holds the column to these
        None if row.choices is None else tuple(row.choices),
        row.minimum,
        row.maximum,
    )


async def load(session: TenantSession, subject_type: SubjectType) -> dict[str, Defined]:
    """Return what each defined attribute may hold, by its key."""
    rows = await session.scalars(
        select(AttributeDefinition).where(
            AttributeDefinition.tenant_id == session.tenant_id, AttributeDefinition.subject_type == subject_type
        )
    )
    return {row.key: defined(row) for row in rows}


def problems(known: Mapping[str, Defined], changes: Mapping[str, JsonValue]) -> list[FieldProblem]:
    """Return what does not fit of attributes to set; a null, which removes, always does."""
    return [
        FieldProblem(f"attributes.{key}", reason)
        for key, value in changes.items()
        if value is not None and key in known and (reason := value_problem(known[key], value)) is not None
    ]


async def check(session: TenantSession, subject_type: SubjectType, changes: Mapping[str, JsonValue]) -> None:
    """Check attributes that are to be set.

    Raises:
        InvalidError: values do not fit their definitions; naming each as `attributes.KEY`.
    """
    if not changes:
        return
    found = problems(await load(session, subject_type), changes)
    if found:
        raise InvalidError(f"{found[0].field}: {found[0].reason}", errors=found)


async def create(
    session: TenantSession, definition: Definition, *, force: bool = False, by: Actor
) -> AttributeDefinition:
    """Define an attribute.

    Raises:
        InvalidError: the definition cannot be met.
        ConflictError: the key is defined; or values that are there would not fit, and `force` is not given.
    """
    definition.check()
    if not force:
        await _refuse_misfits(session, definition)
    count = await session.scalar(
        select(func.count())
        .select_from(AttributeDefinition)
        .where(
            AttributeDefinition.tenant_id == session.tenant_id,
            AttributeDefinition.subject_type == definition.subject_type,
        )
    )
    if (count or 0) >= MAX_DEFINITIONS:
        raise ConflictError(f"At most {MAX_DEFINITIONS} attributes can be defined.")
    row = await session.scalar(
        insert(AttributeDefinition)
        .values(
            tenant_id=session.tenant_id,
            id=new_id(),
            subject_type=definition.subject_type,
            key=definition.key,
            **definition.values(),
        )
        .on_conflict_do_nothing()
        .returning(AttributeDefinition)
    )
    if row is None:
        raise ConflictError(
            f"The attribute {definition.key} is defined already.", errors=[FieldProblem("key", "is defined already")]
        )
    given = {"subject_type": definition.subject_type, "key": definition.key, **definition.values()}
    changes = {name: (None, value) for name, value in given.items() if value is not None}
    await _log(session, row, "attribute_definition.created", changes, by=by)
    return row


async def update(
    session: TenantSession, definition_id: UUID, change: Change, *, force: bool = False, by: Actor
) -> AttributeDefinition:
    """Change a definition.

    Raises:
        NotFoundError: no such definition in this tenant.
        InvalidError: as for `create`.
        ConflictError: values that are there would not fit, and `force` is not given.
    """
    row = await _get(session, definition_id, lock=True)
    wanted = Definition(
        subject_type=row.subject_type,  # pyright: ignore[reportArgumentType]  # the store holds the column to these
        key=row.key,
        **{name: change.fields.get(name, getattr(row, name)) for name in _PLAIN},
    )
    wanted.check()
    changes = {
        name: (getattr(row, name), value) for name, value in wanted.values().items() if getattr(row, name) != value
    }
    if not changes:
        return row
    if not force and changes.keys() & {"type", "choices", "minimum", "maximum"}:
        await _refuse_misfits(session, wanted)
    for name, (_, value) in changes.items():
        setattr(row, name, value)
    row.updated_at = func.now()
    await session.flush()
    await session.refresh(row)
    await _log(session, row, "attribute_definition.updated", changes, by=by)
    return row


async def delete(session: TenantSession, definition_id: UUID, *, by: Actor) -> None:
    """Drop a definition; the values stay, and are free from now on.

    Raises:
        NotFoundError: no such definition in this tenant.
    """
    row = await _get(session, definition_id, lock=True)
    await session.delete(row)
    await session.flush()
    await _log(session, row, "attribute_definition.deleted", {"key": (row.key, None)}, by=by)


async def get(session: TenantSession, definition_id: UUID) -> AttributeDefinition:
    """Return a definition.

    Raises:
        NotFoundError: no such definition in this tenant.
    """
    return await _get(session, definition_id, lock=False)


async def page(
    session: TenantSession, *, subject_type: SubjectType | None, limit: int, after: UUID | None
) -> Sequence[AttributeDefinition]:
    """Return up to `limit` definitions, oldest first, those made after `after` only."""
    statement = select(AttributeDefinition).where(AttributeDefinition.tenant_id == session.tenant_id)
    if subject_type is not None:
        statement = statement.where(AttributeDefinition.subject_type == subject_type)
    if after is not None:
        statement = statement.where(AttributeDefinition.id > after)
    return (await session.scalars(statement.order_by(AttributeDefinition.id).limit(limit))).all()


async def _get(session: TenantSession, definition_id: UUID, *, lock: bool) -> AttributeDefinition:
    row = await session.get(
        AttributeDefinition, (session.tenant_id, definition_id), with_for_update=lock or None, populate_existing=True
    )
    if row is None:
        raise NotFoundError("No such attribute definition.")
    return row


async def _log(
    session: TenantSession, row: AttributeDefinition, verb: str, changes: activity.Changes, *, by: Actor
) -> None:
    await activity.record(
        session, by=by, subject_type="attribute_definition", subject_id=row.id, type=verb, changes=changes
    )


async def _refuse_misfits(session: TenantSession, definition: Definition) -> None:
    subject = _SUBJECTS[definition.subject_type]
    json = subject.c.attributes.op("->", return_type=JSONB())(literal(definition.key, Text))
    rows = (
        await session.execute(
            select(subject.c.id, func.count().over())
            .where(subject.c.tenant_id == session.tenant_id, json.is_not(None), not_(_fits(json, defined(definition))))
            .order_by(subject.c.id)
            .limit(SHOWN_MISFITS)
        )
    ).all()
    if rows:
        count: int = rows[0][1]
        raise ConflictError(
            f"{count} values of {definition.key} would not fit; give force: true to leave them as they are.",
            errors=[FieldProblem("type", f"does not fit {count} values that are there")],
            extra={"count": count, _IDS[definition.subject_type]: [str(row.id) for row in rows]},
        )


def _fits(json: ColumnElement[Any], wanted: Defined) -> ColumnElement[bool]:
    """Return in SQL whether a value fits, as `value_problem` says it in memory; never NULL, and no cast can fail."""
    text: ColumnElement[str] = json.op("#>>", return_type=Text())(literal([], ARRAY(Text)))
    of_kind: dict[str, tuple[str, ColumnElement[bool]]] = {
        "text": ("string", _within(func.length(text), wanted)),
        "choice": ("string", _chosen(text, wanted)),
        "number": ("number", _within(sql_cast(json, Numeric), wanted)),
        "boolean": ("boolean", literal(value=True, type_=Boolean)),
        "date": ("string", and_(func.length(text) == DAY_LENGTH, fits_date(text))),
        "datetime": (
            "string",
            and_(text.like("%T%"), or_(text.like("%Z"), text.like("%+__:__"), text.like("%-__:__")), fits_date(text)),
        ),
        "list": (
            "array",
            and_(_within(func.jsonb_array_length(json, type_=Integer), wanted), _all_items(json, wanted)),
        ),
    }
    kind, then = of_kind[wanted.type]
    return case((func.jsonb_typeof(json) == kind, then), else_=False)


def _within(size: ColumnElement[Any], wanted: Defined) -> ColumnElement[bool]:
    return and_(
        True,  # noqa: FBT003 - SQLAlchemy's own for no condition
        *([size >= wanted.minimum] if wanted.minimum is not None else []),
        *([size <= wanted.maximum] if wanted.maximum is not None else []),
    )


def _chosen(text: ColumnElement[str], wanted: Defined) -> ColumnElement[bool]:
    if wanted.choices is None:
        return literal(value=True, type_=Boolean)
    return text == func.any(literal(list(wanted.choices), ARRAY(Text)))


def _all_items(json: ColumnElement[Any], wanted: Defined) -> ColumnElement[bool]:
    items = func.jsonb_array_elements(json).table_valued("value")
    item: ColumnElement[Any] = items.c.value.op("#>>", return_type=Text())(literal([], ARRAY(Text)))
    bad = or_(func.jsonb_typeof(items.c.value) != "string", not_(_chosen(item, wanted)))
    return not_(select(literal(1)).select_from(items).where(bad).correlate_except(items).exists())
