"""A query read, checked against its tenant's schema and the limits, and answered. What went wrong is told by field."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import graphql
from graphql import (
    DocumentNode,
    ExecutionResult,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    GraphQLSyntaxError,
    OperationDefinitionNode,
    OperationType,
    get_operation_ast,
    parse,
    validate,
)
from pydantic_core import from_json
from starlette.types import Scope

from api.errors import respond
from api.graphql.context import Context
from api.graphql.limits import MAX_TOKENS, Measure, check
from api.graphql.tenants import Schemas, TenantSchema
from core.errors import InvalidError, UnavailableError

KEPT: Final = 500
"""Checked queries that a process keeps; the one unused longest goes first."""
KEPT_LENGTH: Final = 10_000
"""Longer texts are read anew each time."""
MAX_LENGTH: Final = 100_000
"""Characters of a query."""
MAX_ERRORS: Final = 10
"""What is wrong with a query is told up to so many times."""
SECONDS: Final = 30.0
"""How long a query may take."""
TOO_LONG: Final = f"The query took more than {SECONDS:.0f} seconds; ask for less at a time."

_OTHERWISE: Final = {
    OperationType.QUERY: "A query is not answered as an event stream.",
    OperationType.SUBSCRIPTION: "A subscription is answered over a WebSocket, or as an event stream: send Accept: "
    "text/event-stream.",
    OperationType.MUTATION: "Nothing is changed by GraphQL.",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asks."""

    query: str
    variables: Mapping[str, Any]
    operation_name: str | None

    @classmethod
    def of(cls, body: Mapping[str, object]) -> "Asked":
        """Return what is asked; what others send beside it, as `extensions`, means nothing here.

        Raises:
            InvalidError: naming the member that is none of a request.
        """
        query, variables, name = (body.get(key) for key in ("query", "variables", "operationName"))
        if not isinstance(query, str) or not query.strip():
            raise InvalidError.of("query", "is required, as a text")
        if variables is not None and not isinstance(variables, dict):
            raise InvalidError.of("variables", "must be an object")
        if name is not None and not isinstance(name, str):
            raise InvalidError.of("operationName", "must be a text")
        return cls(query, cast("dict[str, Any]", variables or {}), name or None)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What somebody asks, read against a schema."""

    request: Asked
    schema: TenantSchema
    document: DocumentNode
    operation: OperationDefinitionNode
    until: float
    """By the loop's clock, when a query must have been answered."""


class RefusedError(Exception):
    """A query that is not carried out, and why."""

    def __init__(self, errors: Sequence[GraphQLError]) -> None:
        """Keep what is wrong with it."""
        super().__init__("refused")
        self.errors = errors


@dataclass(slots=True)
class Engine:
    """Answers queries, and keeps what it made to do so."""

    max_depth: int
    max_cost: int
    schemas: Schemas = field(default_factory=Schemas)
    _kept: OrderedDict[tuple[int, str], tuple[GraphQLSchema, DocumentNode]] = field(
        default_factory=OrderedDict[tuple[int, str], tuple[GraphQLSchema, DocumentNode]]
    )

    async def prepared(self, context: Context, request: Asked) -> Prepared:
        """Return what is asked, read against the schema of its tenant in a transaction that the answer goes on with.

        Raises:
            RefusedError: it is none of this schema.
            UnavailableError: it took too long already.
        """
        until = asyncio.get_running_loop().time() + SECONDS
        try:
            async with asyncio.timeout_at(until):
                schema = await context.read(self.schemas.of)
            document = self._document(schema.core, request.query)
            return Prepared(request, schema, document, self._operation(document, request.operation_name), until)
        except TimeoutError as error:
            await context.close()
            raise UnavailableError(TOO_LONG) from error
        except BaseException:
            await context.close()
            raise

    async def answer(self, context: Context, prepared: Prepared, scope: Scope) -> dict[str, Any]:
        """Return the answer of a query, carried out as far as it could be.

        Raises:
            RefusedError: it is no query, or too large.
        """
        try:
            self._check(prepared, OperationType.QUERY)
            async with asyncio.timeout_at(prepared.until):
                result = await self._executed(context, prepared)
        except TimeoutError:
            return {"data": None, "errors": failed(UnavailableError(TOO_LONG), scope)}
        finally:
            await context.close()
        return answer_of(result, scope)

    async def subscribed(
        self, context: Context, prepared: Prepared
    ) -> ExecutionResult | AsyncGenerator[ExecutionResult, None]:
        """Return the results of a subscription, one after another; or the one that says why there are none.

        Raises:
            RefusedError: it is no subscription, or too large.
        """
        await context.close()
        self._check(prepared, OperationType.SUBSCRIPTION)
        context.record_types = prepared.schema.records
        begun = graphql.subscribe(  # pyright: ignore[reportUnknownMemberType]  # a parameter nobody needs is of no type
            prepared.schema.core,
            prepared.document,
            context_value=context,
            variable_values=dict(prepared.request.variables),
            operation_name=prepared.request.operation_name,
        )
        results = begun if isinstance(begun, ExecutionResult | AsyncIterator) else await begun
        return cast("ExecutionResult | AsyncGenerator[ExecutionResult, None]", results)

    def _check(self, prepared: Prepared, kind: OperationType) -> None:
        operation, document = prepared.operation, prepared.document
        if operation.operation is not kind:
            raise RefusedError([GraphQLError(_OTHERWISE[operation.operation])])
        fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
        size = Measure(prepared.schema.core, fragments, prepared.request.variables).of(operation)
        try:
            check(size, max_depth=self.max_depth, max_cost=self.max_cost)
        except Exception as error:
            raise RefusedError([GraphQLError(str(error), original_error=error)]) from error

    @staticmethod
    def _operation(document: DocumentNode, name: str | None) -> OperationDefinitionNode:
        operation = get_operation_ast(document, name)
        if operation is None:
            raise RefusedError(
                [GraphQLError("Say by operationName which of the operations is meant.")]
                if name is None
                else [GraphQLError(f"There is no operation {name[:100]}.")]
            )
        return operation

    def _document(self, schema: GraphQLSchema, text: str) -> DocumentNode:
        key = (id(schema), text)
        known = self._kept.get(key)
        if known is not None and known[0] is schema:
            self._kept.move_to_end(key)
            return known[1]
        if len(text) > MAX_LENGTH:
            raise RefusedError([GraphQLError(f"The query is longer than {MAX_LENGTH} characters.")])
        try:
            document = parse(text, max_tokens=MAX_TOKENS)
        except GraphQLSyntaxError as error:
            raise RefusedError([error]) from error
        except RecursionError as error:
            raise RefusedError([GraphQLError("The query nests too deep.")]) from error
        errors = validate(schema, document, max_errors=MAX_ERRORS)
        if errors:
            raise RefusedError(errors)
        if len(text) <= KEPT_LENGTH:
            self._kept[key] = (schema, document)
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return document

    @staticmethod
    async def _executed(context: Context, prepared: Prepared) -> ExecutionResult:
        context.record_types = prepared.schema.records
        result = graphql.execute(  # pyright: ignore[reportUnknownMemberType]  # a parameter nobody needs is of no type
            prepared.schema.core,
            prepared.document,
            context_value=context,
            variable_values=dict(prepared.request.variables),
            operation_name=prepared.request.operation_name,
        )
        return result if isinstance(result, ExecutionResult) else await result


def answer_of(result: ExecutionResult, scope: Scope) -> dict[str, Any]:
    """Return a result as it is told."""
    answer: dict[str, Any] = {"data": result.data}
    if result.errors:
        answer["errors"] = told(result.errors, scope)
    return answer


def failed(error: Exception, scope: Scope) -> list[dict[str, Any]]:
    """Return what ended a subscription as it is told."""
    original = error.original_error if isinstance(error, GraphQLError) else error
    return told([GraphQLError("", original_error=original or error)], scope)


def told(errors: Sequence[GraphQLError], scope: Scope) -> list[dict[str, Any]]:
    """Return errors as they are told: our own refusals with what they say, all others without our inside."""
    return [_told(error, scope) for error in errors]


def _told(error: GraphQLError, scope: Scope) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    original = error.original_error
    while isinstance(original, GraphQLError):
        original = original.original_error
    if original is None:
        shown = {"message": error.message, "extensions": {"code": "invalid"}}
    else:
        problem = from_json(bytes(respond(scope, original).body))
        code = problem.pop("type").rpartition("/")[2]
        shown = {"message": problem.pop("detail"), "extensions": {"code": code, **_members(problem)}}
    if error.locations:
        shown["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        shown["path"] = list(error.path)
    return shown


def _members(problem: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in problem.items() if name != "title" and value not in (None, [])}
