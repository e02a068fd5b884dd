"""Associations: what is linked to what, by which label."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from fastapi import Query, Response, status
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema

from api.dependencies import ActorDep, SessionDep, requires
from api.errors import problems_of
from api.fields import Key, Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, encode_cursor
from api.routing import Router
from core.errors import PlatformError
from services.objects import associations, ends, linking
from services.objects.association_report import Link
from services.objects.associations import Listed, Position
from services.objects.linking import MAX_BATCH, NewAssociation, Outcome

router = Router(prefix="/associations", tags=["objects"])

READ = [requires("objects:read")]
WRITE = [requires("objects:write")]

_SIDES: Final[dict[str, Sequence[ends.Side]]] = {"from": ("from",), "to": ("to",), "any": ("from", "to")}

EndTypeIn = Annotated[str, Field(max_length=40, examples=["person"])]
EndIdIn = Annotated[str, Field(min_length=1, max_length=255)]


class _Sided(Strict):
    model_config = ConfigDict(extra="forbid", from_attributes=True, populate_by_name=True)


class EndIn(Strict):
    """A thing to link."""

    type: EndTypeIn
    """`person`, `organization`, `record` or `order`."""
    id: EndIdIn
    """An order's is its id as in its events."""


class AssociationIn(_Sided):
    """What to link."""

    start: Annotated[EndIn, Field(alias="from")]
    to: EndIn
    label: Key

    def wanted(self) -> NewAssociation:
        """Return it as the service takes it."""
        return NewAssociation(
            from_type=self.start.type,
            from_id=self.start.id,
            to_type=self.to.type,
            to_id=self.to.id,
            label=self.label,
        )


class AssociationsIn(Strict):
    """What to link. Each is judged alone: one that is refused does not hold up the others."""

    associations: Annotated[
        list[
            Annotated[Any, WithJsonSchema({"$ref": "#/components/schemas/AssociationIn"})]  # read one by one
        ],
        Field(min_length=1, max_length=MAX_BATCH),
    ]


class EndOut(Strict):
    """A thing that is linked."""

    type: ends.EndType
    id: str


class AssociationOut(_Sided):
    """Two things that belong together."""

    id: UUID
    label: str
    start: Annotated[EndOut, Field(alias="from")]
    to: EndOut
    created_at: datetime

    @classmethod
    def of(cls, link: Link, created_at: datetime) -> Self:
        """Return the answer for an association."""
        return cls.model_validate(
            {"id": link.id, "label": link.label, "from": link.start, "to": link.end, "created_at": created_at}
        )


class ListedOut(AssociationOut):
    """An association as it is seen from one of its ends."""

    direction: ends.Side
    """Which of its ends was asked about."""
    called: str
    """The label; seen from `to`, the inverse that its definition gives it."""

    @classmethod
    def seen(cls, listed: Listed) -> Self:
        """Return the answer for one of a list."""
        link = listed.link
        return cls.model_validate(
            {"id": link.id, "label": link.label, "from": link.start, "to": link.end, "created_at": listed.created_at}
            | {"direction": listed.side, "called": listed.called}
        )


class AssociationProblem(Strict):
    """A field and what is wrong with it."""

    field: str
    reason: str


class RejectedAssociation(Strict):
    """One that was not linked."""

    index: int
    errors: list[AssociationProblem]


class AssociationBatchOut(Strict):
    """What became of a batch: the three add up to its size."""

    created: int
    existing: int
    """There were such associations already."""
    rejected: list[RejectedAssociation]
    ids: list[UUID | None]
    """In the order given; null for those rejected."""


@router.post("", status_code=status.HTTP_201_CREATED, dependencies=WRITE, responses={200: {"model": AssociationOut}})
async def create(body: AssociationIn, session: SessionDep, actor: ActorDep, response: Response) -> AssociationOut:
    """Link two things (201); what is linked by the label already is answered as it is (200).

    409 where the label is defined to be an end's only one, and the end has one: `association_id` says which.
    """
    row, created = await linking.create(session, body.wanted(), by=actor)
    if not created:
        response.status_code = status.HTTP_200_OK
    return AssociationOut.of(Link.of(row), row.created_at)


@router.post("/batch", dependencies=WRITE)
async def create_batch(body: AssociationsIn, session: SessionDep, actor: ActorDep) -> AssociationBatchOut:
    """Link many; those refused are listed with the reasons, the others are linked."""
    read = [_read(item) for item in body.associations]
    wanted = [item for item in read if isinstance(item, NewAssociation)]
    written = iter(await linking.create_all(session, wanted, by=actor))
    outcomes = [next(written) if isinstance(item, NewAssociation) else item for item in read]
    return AssociationBatchOut(
        created=sum(outcome.created for outcome in outcomes),
        existing=sum(outcome.association_id is not None and not outcome.created for outcome in outcomes),
        rejected=[
            RejectedAssociation(index=index, errors=_problems(outcome.error))
            for index, outcome in enumerate(outcomes)
            if outcome.error is not None
        ],
        ids=[outcome.association_id for outcome in outcomes],
    )


@router.get("", dependencies=READ, responses={404: {}})
async def find(
    session: SessionDep,
    type: Annotated[str, Query(max_length=40, examples=["person"])],  # noqa: A002 - the field's name
    id: Annotated[str, Query(min_length=1, max_length=255)],  # noqa: A002 - as above
    label: Annotated[str | None, Query(max_length=63)] = None,
    direction: Literal["from", "to", "any"] = "any",
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ListedOut]:
    """List what something is linked to, by label and then by what is at the other end.

    `direction` says at which end of the association it stands.
    """
    end = await ends.find(session, type, id)
    after = None if cursor is None else Position(*decode_cursor(cursor, [str, str, str]))
    found = await associations.page(session, end, sides=_SIDES[direction], label=label, limit=limit + 1, after=after)
    last = found[limit - 1].position if len(found) > limit else None
    return Page(
        items=[ListedOut.seen(listed) for listed in found[:limit]],
        next_cursor=None if last is None else encode_cursor(last.label, last.other_end, last.side),
    )


@router.get("/{association_id}", dependencies=READ)
async def get(association_id: UUID, session: SessionDep) -> AssociationOut:
    """Return an association."""
    row = await associations.get(session, association_id)
    return AssociationOut.of(Link.of(row), row.created_at)


@router.delete("/{association_id}", status_code=status.HTTP_204_NO_CONTENT, dependencies=WRITE)
async def remove(association_id: UUID, session: SessionDep, actor: ActorDep) -> None:
    """Part two things."""
    await associations.remove(session, association_id, by=actor)


_ONE = TypeAdapter(AssociationIn)


def _read(item: object) -> NewAssociation | Outcome:
    try:
        return _ONE.validate_python(item).wanted()
    except ValidationError as error:
        return Outcome(error=PlatformError("invalid", errors=problems_of(error, item)))


def _problems(error: PlatformError) -> list[AssociationProblem]:
    return [AssociationProblem(field=problem.field, reason=problem.reason) for problem in error.errors] or [
        AssociationProblem(field="body", reason=error.detail)
    ]
