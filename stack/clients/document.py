"""The operations of the OpenAPI document, as a tree of nouns and verbs: `people.imports.create`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Document = Mapping[str, Any]
Schema = Mapping[str, Any]

JSON: Final = "application/json"
_STREAM: Final = "text/event-stream"
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_PREFIX: Final = "/v1/"
"""What lies elsewhere is for browsers and providers, not for who calls with a key."""
_ALONE: Final = frozenset({"hooks"})
"""Nouns that providers call."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query or path, or a header."""

    name: str
    schema: Schema
    required: bool
    description: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What can be asked of the API."""

    id: str
    method: str
    path: str
    summary: str
    """The first paragraph of its description."""
    in_path: tuple[Parameter, ...]
    in_query: tuple[Parameter, ...]
    in_header: tuple[Parameter, ...]
    body: Schema | None
    """Of JSON; None where it takes none."""
    body_required: bool
    uploads: tuple[str, ...]
    """The media types of a body that is no JSON."""
    answer: Schema | None
    """Of JSON; None where it answers with none."""
    answers_text: bool
    """Whether it answers with something else than JSON."""

    @property
    def item(self) -> Schema | None:
        """Return the schema of the items of a list that is read page by page; None for all else."""
        if self.answer is None or not any(parameter.name == "cursor" for parameter in self.in_query):
            return None
        return self.answer.get("properties", {}).get("items", {}).get("items")


@dataclass(slots=True)
class Noun:
    """The operations on a thing, and the things below it."""

    path: tuple[str, ...]
    own: Operation | None = None
    """What the noun itself does: `journeys.draft` is one, with `journeys.draft.replace` below it."""
    verbs: dict[str, Operation] = field(default_factory=dict[str, Operation])
    nouns: dict[str, "Noun"] = field(default_factory=dict[str, "Noun"])

    def walk(self) -> Iterator["Noun"]:
        """Yield what is below, the deepest first, then this."""
        for noun in self.nouns.values():
            yield from noun.walk()
        yield self


def tree(document: Document) -> Noun:
    """Return the operations that are called with a key, by their ids."""
    root = Noun(())
    for operation in sorted(_operations(document), key=lambda each: each.id):
        *above, verb = operation.id.split(".")
        if above[0] in _ALONE:
            continue
        noun = root
        for depth, name in enumerate(above):
            noun = noun.nouns.setdefault(name, Noun(tuple(above[: depth + 1])))
        noun.verbs[verb] = operation
    for noun in root.walk():
        for name in noun.verbs.keys() & noun.nouns.keys():
            noun.nouns[name].own = noun.verbs.pop(name)
    return root


def _operations(document: Document) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        if not path.startswith(_PREFIX):
            continue
        for method in _METHODS:
            if method in item and not _is_stream(item[method]):
                yield _operation(document, method, path, item[method])


def _is_stream(found: Mapping[str, Any]) -> bool:
    """Whether it answers without end: the clients read it by hand-written code."""
    return any(_STREAM in answer.get("content", {}) for answer in found["responses"].values())


def _operation(document: Document, method: str, path: str, found: Mapping[str, Any]) -> Operation:
    given = [_parameter(one) | {"in": one["in"]} for one in found.get("parameters", [])]

    def those(place: str) -> tuple[Parameter, ...]:
        return tuple(
            Parameter(**{name: value for name, value in one.items() if name != "in"})
            for one in given
            if one["in"] == place
        )

    body = found.get("requestBody", {})
    contents = body.get("content", {})
    answers = [answer for status, answer in found["responses"].items() if status.startswith("2")]
    answered = [content for answer in answers for content in answer.get("content", {}).items()]
    schemas = [content["schema"] for media, content in answered if media == JSON and content.get("schema")]
    return Operation(
        id=found["operationId"],
        method=method.upper(),
        path=path,
        summary=" ".join(found.get("description", found.get("summary", "")).split("\n\n")[0].split()),
        in_path=those("path"),
        in_query=those("query"),
        in_header=those("header"),
        body=contents[JSON].get("schema", {}) if JSON in contents else None,
        body_required=bool(body.get("required")),
        uploads=() if JSON in contents else tuple(media for media in contents if not media.startswith("multipart/")),
        answer=_resolved_page(document, schemas[0]) if schemas else None,
        answers_text=bool(answered) and not schemas,
    )


def _parameter(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": found["name"],
        "schema": found.get("schema", {}),
        "required": bool(found.get("required")),
        "description": found.get("description"),
    }


def _resolved_page(document: Document, schema: Schema) -> Schema:
    """Return the schema with its items to be seen, where it is that of a page."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target = document["components"]["schemas"][reference.rpartition("/")[2]]
    return {**schema, "properties": target.get("properties", {})}
