"""Fields that lead from one thing to others: one of them, a page of them, or a list that REST has too.

Each says which scopes it needs. A field that may not be read, or leads nowhere, is null; the others are answered.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

import strawberry
from pydantic import ConfigDict, ValidationError, create_model

from api.errors import problems_of
from api.graphql.context import Context, Load
from api.graphql.shapes import named, plain_value
from api.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor
from core.database import TenantSession
from core.errors import FieldProblem, InvalidError

NodeT = TypeVar("NodeT")
Info = strawberry.Info[Context, None]

PAGES: Final = "pages"
"""Key of a field's metadata: it has as many things as its `first` says."""
COST: Final = "cost"
"""Key of a field's metadata: what reading it costs beside what is shown of it."""
LONGEST: Final = 200
NESTED: Final = 20
"""How many a page within something has unless `first` says."""

_GIVEN: Final = frozenset({"session", "caller", "limit", "cursor"})


@strawberry.type(description="Where a page ends.")
class PageInfo:
    """Where a page ends."""

    has_next_page: bool
    end_cursor: str | None = strawberry.field(description="Give it as `after` for what follows; null of an empty page.")


@strawberry.type(description="Something in its place in a list.")
class Edge(Generic[NodeT]):
    """Something in its place in a list."""

    node: NodeT
    cursor: str | None = strawberry.field(
        description="Give it as `after` for what follows; null in lists where only the page's end has one."
    )


@strawberry.type(description="A page of a list.")
class Connection(Generic[NodeT]):
    """A page of a list."""

    nodes: list[NodeT]
    edges: list[Edge[NodeT]]
    page_info: PageInfo


@dataclass(frozen=True, slots=True)
class Place:
    """What an edge shows."""

    node: Any
    cursor: str | None


@dataclass(frozen=True, slots=True)
class End:
    """What page info shows."""

    has_next_page: bool
    end_cursor: str | None


@dataclass(frozen=True, slots=True)
class Slice:
    """A page as it was read: what a connection shows."""

    nodes: Sequence[Any]
    cursors: Sequence[str | None]
    has_next_page: bool
    next_cursor: str | None = None
    """Where no thing has a cursor of its own."""

    @classmethod
    def of(cls, found: Sequence[Any], limit: int, cursor: Callable[[Any], str]) -> "Slice":
        """Return the page of `limit` things, of which one more was asked for."""
        return cls(found[:limit], [cursor(node) for node in found[:limit]], len(found) > limit)

    @classmethod
    def of_page(cls, page: Page[Any], cursor: Callable[[Any], str] | None = None) -> "Slice":
        """Return a page as REST has it."""
        cursors = [None if cursor is None else cursor(item) for item in page.items]
        return cls(page.items, cursors, page.next_cursor is not None, page.next_cursor)

    @property
    def edges(self) -> list[Place]:
        """The things with their cursors."""
        return [Place(node, cursor) for node, cursor in zip(self.nodes, self.cursors, strict=True)]

    @property
    def page_info(self) -> End:
        """Where it ends."""
        return End(self.has_next_page, self.next_cursor or (self.cursors[-1] if self.cursors else None))


EMPTY: Final = Slice([], [], has_next_page=False)


def after_id(cursor: str) -> UUID:
    """Return the id that a cursor of a list in the order of ids stands behind.

    Raises:
        InvalidError: it is none of such a list.
    """
    return cast("UUID", decode_cursor(cursor, [UUID])[0])


def by_id(node: Any) -> str:  # noqa: ANN401 - anything with an id
    """Return the cursor of a list in the order of ids."""
    return encode_cursor(node.id)


def one(
    target: Any,  # noqa: ANN401 - a type, or where to find it
    load: Load[Any],
    key: str,
    *scopes: str,
    description: str | None = None,
) -> Any:  # noqa: ANN401 - the field of a class
    """Return the field with what `load` finds by the parent's attribute `key`; null without one."""

    async def resolve(root: Any, info: Info) -> Any:  # noqa: ANN401 - a model
        info.context.principal.require(*scopes)
        value = getattr(root, key)
        return None if value is None else await info.context.load(load, value)

    return strawberry.field(resolver=resolve, graphql_type=target | None, description=description)


def some(
    target: Any,  # noqa: ANN401 - as above
    load: Load[Any],
    *scopes: str,
    key: str = "id",
    description: str | None = None,
) -> Any:  # noqa: ANN401 - as above
    """Return the field with all that `load` finds of the parent, as they are few."""

    async def resolve(root: Any, info: Info) -> Any:  # noqa: ANN401 - a model
        info.context.principal.require(*scopes)
        return await info.context.load(load, getattr(root, key)) or []

    return strawberry.field(resolver=resolve, graphql_type=list[target] | None, description=description)


def many(
    target: Any,  # noqa: ANN401 - as above
    load: Load[Any],
    *scopes: str,
    key: str | Callable[[Any], object] = "id",
    filters: Mapping[str, Any] = MappingProxyType({}),
    read_after: Callable[[str], object] = after_id,
    cursor: Callable[[Any], str] = by_id,
    description: str | None = None,
) -> Any:  # noqa: ANN401 - as above
    """Return the field with a page of what is the parent's.

    `load` is given the parents, how many to find of each, behind what, and the values of the `filters` in their order.
    """

    async def resolve(root: Any, info: Info, first: int = NESTED, after: str | None = None, **given: Any) -> Slice:  # noqa: ANN401 - a model, and filters
        info.context.principal.require(*scopes)
        limit = checked_length(first)
        behind = None if after is None else _read(after, read_after)
        values = [plain_value(given.get(name)) for name in filters]
        found: list[Any] | None = await info.context.load(load, _key(root, key), limit + 1, behind, *values)
        return Slice.of(found or [], limit, cursor)

    arguments = {name: (kind | None, strawberry.UNSET) for name, kind in filters.items()}
    return _paged(resolve, target, NESTED, arguments, description)


def listing(
    target: Any,  # noqa: ANN401 - as above
    route: Callable[..., Awaitable[Any]],
    *scopes: str,
    called: str,
    run: Callable[..., Awaitable[Page[Any]]] | None = None,
    cursor: Callable[[Any], str] | None = by_id,
    description: str | None = None,
) -> Any:  # noqa: ANN401 - as above
    """Return the field with a list of REST's: its filters, its checks of them, its order and its cursors.

    `called` begins the names of enumerations that its filters alone have; `run` reads it where the route itself wants
    a connection of its own. A `cursor` of None: only a page's end has one.
    """
    checked, kinds = _filters(route, called)

    async def resolve(
        root: object,  # noqa: ARG001 - Strawberry gives it
        info: Info,
        first: int = DEFAULT_LIMIT,
        after: str | None = None,
        **given: object,
    ) -> Slice:
        info.context.principal.require(*scopes)
        limit = checked_length(first)
        values = checked({name: plain_value(value) for name, value in given.items()})

        async def read(session: TenantSession) -> Page[Any]:
            try:
                return await (run or route)(session=session, limit=limit, cursor=after, **values)
            except InvalidError as error:
                raise as_called(error) from error

        return Slice.of_page(await info.context.read(read), cursor)

    return _paged(resolve, target, DEFAULT_LIMIT, kinds, description)


def found(
    target: Any,  # noqa: ANN401 - as above
    load: Load[Any],
    *scopes: str,
    kind: Any = UUID,  # noqa: ANN401 - as above
    name: str = "id",
    description: str | None = None,
) -> Any:  # noqa: ANN401 - as above
    """Return the root field with the thing of this id; null where the tenant has none."""

    async def resolve(root: Any, info: Info, **given: Any) -> Any:  # noqa: ANN401, ARG001 - Strawberry names it
        info.context.principal.require(*scopes)
        return await info.context.load(load, given[name])

    _sign(resolve, {name: (kind, inspect.Parameter.empty)})
    return strawberry.field(resolver=resolve, graphql_type=target | None, description=description)


def own(
    resolve: Callable[..., Awaitable[Any]],
    target: Any,  # noqa: ANN401 - as above
    *,
    description: str | None = None,
    cost: int = 0,
) -> Any:  # noqa: ANN401 - as above
    """Return the field that a function of its own reads; `cost` is what that costs beside what is shown of it."""
    return strawberry.field(
        resolver=resolve, graphql_type=target | None, description=description, metadata={COST: cost}
    )


def _paged(
    resolve: Callable[..., Awaitable[Slice]],
    target: Any,  # noqa: ANN401 - as above
    first: int,
    arguments: Mapping[str, tuple[Any, Any]],
    description: str | None,
) -> Any:  # noqa: ANN401 - as above
    _sign(resolve, {"first": (int, first), "after": (str | None, strawberry.UNSET), **arguments})
    return strawberry.field(
        resolver=resolve,
        graphql_type=Connection[target] | None,
        description=description,
        metadata={PAGES: first},
    )


def _sign(resolve: Callable[..., Awaitable[Any]], arguments: Mapping[str, tuple[Any, Any]]) -> None:
    """Have Strawberry see these arguments."""
    own = inspect.Parameter.POSITIONAL_OR_KEYWORD
    known = [inspect.Parameter("root", own, annotation=Any), inspect.Parameter("info", own, annotation=Info)]
    given = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in arguments.items()
    ]
    cast("Any", resolve).__signature__ = inspect.Signature([*known, *given])


def _filters(
    route: Callable[..., Any], called: str
) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], dict[str, tuple[Any, Any]]]:
    """Return what checks the filters of a route, and what they are in GraphQL, by their names."""
    given = {name: parameter for name, parameter in inspect.signature(route).parameters.items() if name not in _GIVEN}
    needed = inspect.Parameter.empty
    fields: dict[str, Any] = {
        name: (parameter.annotation, ... if parameter.default is needed else parameter.default)
        for name, parameter in given.items()
    }
    model = create_model(called, __config__=ConfigDict(extra="forbid"), **fields)

    def checked(values: Mapping[str, Any]) -> dict[str, Any]:
        try:
            read = model.model_validate(values)
        except ValidationError as error:
            raise _invalid(error, values) from None
        return {name: getattr(read, name) for name in given}

    kinds: dict[str, tuple[Any, Any]] = {}
    for name, parameter in given.items():
        kind = named(parameter.annotation, called + name[:1].upper() + name[1:])
        default = parameter.default
        if isinstance(kind, type) and issubclass(kind, Enum) and isinstance(default, str):
            default = kind(default)
        kinds[name] = (kind, strawberry.UNSET if default is None else default)
    return checked, kinds


def _invalid(error: ValidationError, values: Mapping[str, Any]) -> InvalidError:
    named_so = [FieldProblem(camel(problem.field), problem.reason) for problem in problems_of(error, values)]
    return InvalidError("; ".join(f"{each.field}: {each.reason}" for each in named_so), errors=named_so)


def as_called(error: InvalidError) -> InvalidError:
    """Return the refusal of a route with the fields called as GraphQL does."""
    names = {"cursor": "after", "limit": "first"}
    problems = [FieldProblem(names.get(each.field) or camel(each.field), each.reason) for each in error.errors]
    if not problems:
        return error
    return InvalidError("; ".join(f"{each.field}: {each.reason}" for each in problems), errors=problems)


def camel(name: str) -> str:
    """Return what GraphQL calls a field of REST's."""
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def checked_length(first: int) -> int:
    """Return how many a list is to have.

    Raises:
        InvalidError: more than a list can have, or none.
    """
    if not 1 <= first <= LONGEST:
        raise InvalidError.of("first", f"must be 1 to {LONGEST}")
    return first


def _key(root: Any, key: str | Callable[[Any], object]) -> object:  # noqa: ANN401 - a model
    return getattr(root, key) if isinstance(key, str) else key(root)


def _read(after: str, read: Callable[[str], object]) -> object:
    try:
        return read(after)
    except InvalidError as error:
        raise InvalidError.of("after", "is not a cursor of this list") from error
