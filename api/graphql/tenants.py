"""A schema per tenant: what all share, and a type for the records of each object that the tenant defined.

A type has the properties that the object's JSON Schema names, as what it says they hold. A record may hold something
else, where a change of the schema was forced: then the property is null, and `data` has what is there.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from uuid import UUID

from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLField,
    GraphQLFloat,
    GraphQLInt,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
)
from pydantic_core import to_json

from api.graphql.context import Context
from api.graphql.fields import Slice, as_called, checked_length
from api.graphql.schema import platform
from api.graphql.shapes import pascal
from api.paging import DEFAULT_LIMIT
from api.rest.records import RecordOut, page_of
from core.database import TenantSession
from core.errors import InvalidError
from models import ObjectDefinition
from services.objects import definitions, shapes
from services.objects.plans import Connection

KEPT: Final = 200
"""Schemas of tenants that a process keeps; the one unused longest goes first."""
DEEPEST: Final = 5
"""How deep properties within properties are typed; what is below is `JSON`."""

Output = Any
"""A type of what is answered: graphql-core's own union of them says nothing of what a list is of."""

_UNFIT: Final = re.compile(r"[^_0-9A-Za-z]")
_INT: Final = range(-(2**31), 2**31)
_SCALARS: Final[Mapping[str, GraphQLScalarType]] = {
    "string": GraphQLString,
    "boolean": GraphQLBoolean,
    "integer": GraphQLInt,
    "number": GraphQLFloat,
}


@dataclass(frozen=True, slots=True)
class TenantSchema:
    """The schema of a tenant, for one state of its objects."""

    state: str
    core: GraphQLSchema
    records: Mapping[str, str]
    """The types of records, by the keys of their objects."""


class Schemas:
    """The schemas that a process has made."""

    def __init__(self) -> None:
        self._kept: OrderedDict[UUID, TenantSchema] = OrderedDict()
        self._plain: TenantSchema | None = None

    async def of(self, session: TenantSession) -> TenantSchema:
        """Return the schema of the session's tenant, made anew if its objects have changed."""
        state = await definitions.state(session)
        if not state:
            self._kept.pop(session.tenant_id, None)
            return self.plain()
        known = self._kept.get(session.tenant_id)
        if known is None or known.state != state:
            known = made_of(state, await definitions.all_of_tenant(session))
            self._kept[session.tenant_id] = known
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(session.tenant_id)
        return known

    def plain(self) -> TenantSchema:
        """Return the schema of tenants without objects."""
        if self._plain is None:
            self._plain = TenantSchema("", platform().core, {})
        return self._plain


def made_of(state: str, rows: Sequence[ObjectDefinition]) -> TenantSchema:
    """Return the schema of a tenant with these objects."""
    shared = platform().core
    making = _Making(shared)
    lists: dict[str, GraphQLField] = {}
    names: dict[str, str] = {}
    kinds: list[GraphQLObjectType] = []
    for row in rows:
        kind = making.record(row)
        kinds.append(kind)
        names[row.key] = kind.name
        lists[making.free(row.key, lists)] = making.list_of(row, kind)
    query = cast("GraphQLObjectType", shared.query_type)
    records = GraphQLObjectType("Records", lists, description="Records of the tenant's objects, by the objects' keys.")
    fields = {
        **query.fields,
        "records": GraphQLField(
            GraphQLNonNull(records), resolve=_itself, description="Lists of records of the tenant's own objects."
        ),
    }
    core = GraphQLSchema(
        query=GraphQLObjectType(query.name, fields, description=query.description),
        subscription=shared.subscription_type,
        types=kinds,
        directives=shared.directives,
        assume_valid=True,  # the shared one is checked, and what is added has names that are checked here
    )
    return TenantSchema(state, core, names)


def _itself(_root: object, _info: GraphQLResolveInfo[Any]) -> dict[str, object]:
    return {}


@dataclass(slots=True)
class _Making:
    """Makes types, and keeps their names apart."""

    shared: GraphQLSchema
    _taken: set[str] = field(default_factory=set[str])

    @staticmethod
    def free(name: str, taken: Mapping[str, object]) -> str:
        """Return a name for GraphQL that is as near to `name` as can be, and not taken."""
        plain = _UNFIT.sub("_", name)
        if plain[:1].isdigit() or not plain:
            plain = f"_{plain}"
        return _counted(plain.replace("__", "_") if plain.startswith("__") else plain, taken)

    def record(self, row: ObjectDefinition) -> GraphQLObjectType:
        """Return the type of an object's records."""
        begins = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^0-9A-Za-z]+", row.key))
        begins = f"_{begins}" if begins[:1].isdigit() else begins
        name = self._type(f"{begins}Record")
        interface = cast("GraphQLInterfaceType", self.shared.type_map["Record"])
        fields = dict(interface.fields)
        properties = self._properties(name.removesuffix("Record"), row.schema, row.schema, 1)
        if properties is not None:
            fields["properties"] = GraphQLField(GraphQLNonNull(properties), resolve=_properties_of)
        return GraphQLObjectType(name, fields, interfaces=[interface], description=row.description or row.name)

    def list_of(self, row: ObjectDefinition, kind: GraphQLObjectType) -> GraphQLField:
        """Return the field with the records of an object."""
        edge = GraphQLObjectType(
            f"{kind.name}Edge",
            {"node": GraphQLField(GraphQLNonNull(kind)), "cursor": GraphQLField(GraphQLString)},
            description="A record in its place in a list; only the page's end has a cursor.",
        )
        info = cast("GraphQLObjectType", self.shared.type_map["PageInfo"])
        whole = GraphQLObjectType(
            f"{kind.name}Connection",
            {
                "nodes": GraphQLField(_full(kind)),
                "edges": GraphQLField(_full(edge)),
                "pageInfo": GraphQLField(GraphQLNonNull(info), resolve=_page_info),
            },
            description="A page of records.",
        )
        condition = cast("GraphQLScalarType", self.shared.type_map["JSON"])
        return GraphQLField(
            whole,
            args={
                "first": GraphQLArgument(GraphQLNonNull(GraphQLInt), default_value=DEFAULT_LIMIT),
                "after": GraphQLArgument(GraphQLString),
                "filter": GraphQLArgument(condition, description=f"A condition on `record:{row.key}.PROPERTY`."),
                "sort": GraphQLArgument(
                    GraphQLNonNull(GraphQLString),
                    default_value="id",
                    description="`id`, `created_at`, `updated_at` or an indexed property; behind `-` downwards.",
                ),
            },
            resolve=_Lister(row.key),
            description=row.description or row.name,
        )

    def _properties(
        self, begins: str, part: Mapping[str, Any], whole: Mapping[str, Any], depth: int
    ) -> GraphQLObjectType | None:
        fields: dict[str, GraphQLField] = {}
        given: Mapping[str, object] = part.get("properties", {})
        for name, schema in given.items():
            called = self.free(name, fields)
            says = shapes.resolved(whole, schema)
            kind = self._kind(begins + pascal(called), says, whole, depth)
            said = says.get("description") or says.get("title")
            fields[called] = GraphQLField(
                kind, resolve=_Property(name, kind), description=said if isinstance(said, str) else None
            )
        if not fields:
            return None
        return GraphQLObjectType(self._type(f"{begins}Properties"), fields)

    def _kind(self, begins: str, part: Mapping[str, Any], whole: Mapping[str, Any], depth: int) -> Output:
        anything = cast("GraphQLScalarType", self.shared.type_map["JSON"])
        kinds: set[str] = {*shapes.json_types(part)} - {"null"}
        if kinds == {"integer", "number"}:
            return GraphQLFloat
        if len(kinds) != 1:
            return anything
        (kind,) = kinds
        if kind == "array":
            items = shapes.resolved(whole, part.get("items", {}))
            return GraphQLList(self._kind(begins, items, whole, depth))
        if kind == "object":
            return (self._properties(begins, part, whole, depth + 1) if depth < DEEPEST else None) or anything
        return _SCALARS.get(kind, anything)

    def _type(self, name: str) -> str:
        taken = {**self.shared.type_map, **dict.fromkeys(self._taken)}
        found = _counted(name, taken)
        self._taken.add(found)
        return found


@dataclass(frozen=True, slots=True)
class _Property:
    """Reads a property, null where it holds something that its type cannot be."""

    name: str
    kind: Output

    def __call__(self, root: Mapping[str, Any], _info: GraphQLResolveInfo[Any]) -> object:
        return _fitting(root.get(self.name), self.kind)


@dataclass(frozen=True, slots=True)
class _Lister:
    """Reads a page of an object's records."""

    key: str

    async def __call__(
        self,
        _root: object,
        info: GraphQLResolveInfo[Any],
        *,
        first: int,
        sort: str,
        after: str | None = None,
        filter: object = None,  # noqa: A002 - what GraphQL calls it
    ) -> Slice:
        context: Context = info.context
        context.principal.require("objects:read")
        limit = checked_length(first)
        asked = filter if isinstance(filter, str) or filter is None else to_json(filter).decode()

        try:
            async with context.hot() as connection:
                page = await page_of(
                    cast("Connection", connection),
                    context.principal.tenant_id,
                    self.key,
                    filter_text=asked,
                    sort=sort,
                    limit=limit,
                    cursor=after,
                )
        except InvalidError as error:
            raise as_called(error) from error
        return Slice.of_page(page)


def _properties_of(root: RecordOut, _info: GraphQLResolveInfo[Any]) -> Mapping[str, Any]:
    return root.properties


def _page_info(root: Slice, _info: GraphQLResolveInfo[Any]) -> object:
    return root.page_info


def _fitting(value: object, kind: Output) -> object:  # noqa: PLR0911 - one line per kind
    if isinstance(kind, GraphQLList):
        inner = cast("GraphQLList[Any]", kind).of_type
        return [_fitting(each, inner) for each in cast("list[object]", value)] if isinstance(value, list) else None
    if isinstance(kind, GraphQLObjectType):
        return cast("object", value) if isinstance(value, dict) else None
    if kind is GraphQLString:
        return value if isinstance(value, str) else None
    if kind is GraphQLBoolean:
        return value if isinstance(value, bool) else None
    if kind is GraphQLInt or kind is GraphQLFloat:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return value if kind is GraphQLFloat or (value == int(value) and int(value) in _INT) else None
    return value


def _full(kind: GraphQLObjectType) -> Output:
    return GraphQLNonNull(GraphQLList(GraphQLNonNull(kind)))


def _counted(name: str, taken: Mapping[str, object]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found
