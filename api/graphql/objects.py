"""What tenants define themselves: objects, their records, and what is linked to what.

The records of an object have a type of their own, in the schema of its tenant: see `api.graphql.tenants`.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry
from strawberry.scalars import JSON

from api.graphql.fields import Info, many
from api.graphql.loads import commerce, crm, people
from api.graphql.loads import objects as loads
from api.graphql.names import ASSOCIATION, DEAL, ORDER, ORGANIZATION, PERSON
from api.graphql.shapes import shaped
from api.paging import decode_cursor, encode_cursor
from api.rest.associations import ListedOut
from api.rest.objects import ObjectOut
from services.objects.associations import Position


def associated(target: Any, kind: str) -> Any:  # noqa: ANN401 - a type, and a field
    """Return the field with what something of this type is linked to."""

    def end(root: Any) -> str:  # noqa: ANN401 - a model
        return f"{kind}:{root.id}"

    return many(
        target,
        loads.associations,
        "objects:read",
        key=end,
        filters={"label": str},
        read_after=_position,
        cursor=_place,
        description="What it is linked to, by label and then by what is at the other end.",
    )


def _position(cursor: str) -> Position:
    return Position(*decode_cursor(cursor, [str, str, str]))


def _place(listed: ListedOut) -> str:
    other = _other(listed)
    return encode_cursor(listed.label, f"{other.type}:{other.id}", listed.direction)


def _other(root: Any) -> Any:  # noqa: ANN401 - an association, and an end
    return root.to if root.direction == "from" else root.start


@strawberry.type(description="What is at an end of an association.")
class AssociationEnd:
    """What is at an end of an association."""

    type: str
    id: str = strawberry.field(description="A UUID; of an order, its id as in its events.")


def _leads(target: Any, kind: str, load: Any, scope: str) -> Any:  # noqa: ANN401 - a type, a load, and a field
    async def resolve(root: Any, info: Info) -> Any:  # noqa: ANN401 - a model
        other = _other(root)
        if other.type != kind:
            return None
        info.context.principal.require(scope)
        try:
            key = UUID(other.id)
        except ValueError:
            return None  # an outside shop's order, of which there is no more than its events told
        return await info.context.load(load, key)

    return strawberry.field(resolver=resolve, graphql_type=target | None)


def _properties(root: Any) -> Any:  # noqa: ANN401 - a record, and JSON
    return root.properties


@strawberry.interface(description="A record of an object that the tenant defined.")
class Record:
    """A record of an object that the tenant defined."""

    id: UUID
    object: str = strawberry.field(description="The key of what it is one of.")
    data: JSON = strawberry.field(description="Its properties, as they are.", resolver=_properties)
    version: int = strawberry.field(description="Of the object when the record was last written.")
    created_at: datetime
    updated_at: datetime
    associations = associated(ASSOCIATION, "record")


@strawberry.type(description="Two things that belong together, as seen from one of them.")
class Association:
    """Two things that belong together, as seen from one of them."""

    id: UUID
    label: str
    called: str = strawberry.field(description="The label; seen from `to`, the inverse that its definition gives it.")
    direction: str = strawberry.field(description="Which of its ends it is seen from: `from` or `to`.")
    created_at: datetime
    other: AssociationEnd = strawberry.field(description="What is at the other end.", resolver=_other)
    person = _leads(PERSON, "person", people.people, "people:read")
    organization = _leads(ORGANIZATION, "organization", people.organizations, "organizations:read")
    deal = _leads(DEAL, "deal", crm.deals, "deals:read")
    order = _leads(ORDER, "order", commerce.orders, "orders:read")
    record = _leads(Record, "record", loads.records, "objects:read")


@shaped(ObjectOut)
class ObjectDefinition:
    """A kind of record."""
