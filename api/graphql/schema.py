"""The schema that all tenants share, made with the first query: it takes a moment, and many processes need none."""

from functools import cache
from typing import Any

import strawberry
from graphql import GraphQLResolveInfo, GraphQLSchema

from api.graphql.context import Context
from api.graphql.query import Query
from api.graphql.subscriptions import Subscription
from core.errors import UnavailableError


class Platform(strawberry.Schema):
    """The schema, as Strawberry makes it of our types."""

    @property
    def core(self) -> GraphQLSchema:
        """What graphql-core executes."""
        return self._schema


@cache
def platform() -> Platform:
    """Return the schema without what tenants define."""
    made = Platform(query=Query, subscription=Subscription)
    records: Any = made.core.type_map["Record"]
    records.resolve_type = _type_of_record
    return made


def _type_of_record(record: Any, info: GraphQLResolveInfo[Any], _: object) -> str:  # noqa: ANN401 - a model
    """Return which type a record has in the schema of its tenant."""
    context: Context = info.context
    name = context.record_types.get(record.object)
    if name is None:
        raise UnavailableError("The object was defined a moment ago; ask again.")
    return name
