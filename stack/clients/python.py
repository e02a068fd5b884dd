"""Writes the Python client's generated half: the types of all bodies, and a method for each operation."""

import keyword
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from stack.clients.document import Document, Noun, Operation, Parameter, Schema, tree

_HEAD: Final = '''"""{meaning} Generated from the API's OpenAPI document: changes made here are lost."""

# ruff: noqa
# pyright: reportUnusedImport=false, reportIncompatibleVariableOverride=false

'''
_PLAIN: Final = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_INDENT: Final = "    "


def write(document: Document, folder: Path) -> None:
    """Write the package's modules into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text('"""What is generated."""\n')
    (folder / "types.py").write_text(types(document))
    (folder / "sync.py").write_text(api(document, asynchronous=False))
    (folder / "asynchronous.py").write_text(api(document, asynchronous=True))


def types(document: Document) -> str:
    """Return the module of the types of bodies: a TypedDict for each schema."""
    parts = [
        _HEAD.format(meaning="The bodies of requests and answers."),
        "from __future__ import annotations\n\n",
        "from typing import Any, Dict, List, Literal, NotRequired, TypeAlias, TypedDict, Union\n\n",
    ]
    schemas: Mapping[str, Schema] = document["components"]["schemas"]
    parts += [_typed(name, schema) for name, schema in sorted(schemas.items())]
    return "\n".join(parts)


def api(document: Document, *, asynchronous: bool) -> str:
    """Return the module of the operations: a class for each noun."""
    names = sorted(document["components"]["schemas"])
    parts = [
        _HEAD.format(meaning="What can be asked of the API."),
        "from __future__ import annotations\n\n",
        "from typing import Any, AsyncIterator, Dict, Iterator, List, Literal, Union\n\n",
        f"from .._calls import {'AsyncCaller' if asynchronous else 'Caller'} as Caller\n",
        f"from .types import (\n{''.join(f'    {name},{chr(10)}' for name in names)})\n\n",
    ]
    parts += [_class(noun, asynchronous=asynchronous) for noun in tree(document).walk()]
    return "\n".join(parts)


def _typed(name: str, schema: Schema) -> str:
    properties: Mapping[str, Schema] | None = schema.get("properties")
    if properties is None:
        return f'{name}: TypeAlias = "{type_of(schema)}"\n'
    required = set(schema.get("required", []))
    fields = {
        field: type_of(one) if field in required else f"NotRequired[{type_of(one)}]"
        for field, one in properties.items()
    }
    told = _told(schema.get("description"), _INDENT)
    if any(not field.isidentifier() or keyword.iskeyword(field) for field in fields):
        inner = ", ".join(f'"{field}": "{one}"' for field, one in fields.items())
        return f'{name} = TypedDict("{name}", {{{inner}}})\n' + _told(schema.get("description"), "")
    lines = [f"class {name}(TypedDict):", told or f'{_INDENT}"""As the API has it."""\n']
    lines += [f"{_INDENT}{field}: {one}" for field, one in fields.items()]
    return "\n".join(lines) + "\n"


def type_of(schema: Schema) -> str:
    """Return the Python type of what fits a schema, as JSON is read."""
    if "$ref" in schema:
        return cast("str", schema["$ref"]).rpartition("/")[2]
    if "const" in schema or "enum" in schema:
        return f"Literal[{', '.join(map(repr, schema.get('enum', [schema.get('const')])))}]"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return _either([type_of(one) for one in schema[word]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return _either([type_of({**schema, "type": one}) for one in cast("list[str]", kind)])
    return _container(schema) if kind in {"array", "object"} else _PLAIN.get(cast("str", kind), "Any")


def _container(schema: Schema) -> str:
    if schema["type"] == "array":
        return f"List[{type_of(schema['items'])}]" if "items" in schema else "List[Any]"
    more = schema.get("additionalProperties")
    return f"Dict[str, {type_of(cast('Schema', more))}]" if isinstance(more, Mapping) else "Dict[str, Any]"


def _either(kinds: list[str]) -> str:
    found = list(dict.fromkeys(kinds))
    if "Any" in found:
        return "Any"
    return found[0] if len(found) == 1 else f"Union[{', '.join(found)}]"


def _class(noun: Noun, *, asynchronous: bool) -> str:
    name = _class_name(noun.path)
    lines = [f"class {name}:", f'{_INDENT}"""{_meaning(noun)}"""', ""]
    lines += [f"{_INDENT}def __init__(self, caller: Caller) -> None:", f"{_INDENT * 2}self._caller = caller"]
    for each, below in noun.nouns.items():
        lines.append(f"{_INDENT * 2}self.{_safe(each)} = {_class_name(below.path)}(caller)")
    methods = [("__call__", noun.own)] if noun.own is not None else []
    for verb, operation in [*methods, *noun.verbs.items()]:
        lines += ["", *_method(_safe(verb), operation, asynchronous=asynchronous)]
        if operation.item is not None:
            lines += ["", *_iterator(_safe(verb), operation, asynchronous=asynchronous)]
    return "\n".join(lines) + "\n"


def _meaning(noun: Noun) -> str:
    return f"Calls of `{'.'.join(noun.path)}`." if noun.path else "The API, noun by noun."


def _class_name(path: tuple[str, ...]) -> str:
    return "".join(part.title() for name in path for part in name.split("_")) + "Api"


def _safe(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _variable(parameter: Parameter) -> str:
    return _safe(parameter.name.lower().replace("-", "_"))


def _arguments(operation: Operation, *, without: frozenset[str] = frozenset()) -> list[str]:
    """Return the parameters of a method, behind `self`."""
    given = [f"{_variable(one)}: str" for one in operation.in_path]
    if operation.body is not None:
        kind = type_of(operation.body)
        given.append(f"body: {kind}" if operation.body_required else f"body: Union[{kind}, None] = None")
    if operation.uploads:
        media = ", ".join(map(repr, operation.uploads))
        given += ["content: bytes", f"content_type: Literal[{media}] = {operation.uploads[0]!r}"]
    named = [one for one in (*operation.in_query, *operation.in_header) if one.name not in without]
    if named:
        given.append("*")
        given += sorted((_named(one) for one in named), key=lambda text: " = " in text)
    return given


def _named(parameter: Parameter) -> str:
    kind = type_of(parameter.schema)
    if parameter.required:
        return f"{_variable(parameter)}: {kind}"
    return f"{_variable(parameter)}: {kind if kind.endswith(', None]') else _either([kind, 'None'])} = None"


def _method(name: str, operation: Operation, *, asynchronous: bool) -> Iterator[str]:
    kind = "bytes" if operation.answers_text else "None" if operation.answer is None else type_of(operation.answer)
    begin = "async def" if asynchronous else "def"
    yield f"{_INDENT}{begin} {name}({', '.join(['self', *_arguments(operation)])}) -> {kind}:"
    yield _told(operation.summary, _INDENT * 2)
    wait = "await " if asynchronous else ""
    yield f"{_INDENT * 2}return {wait}self._caller.call({_call(operation)})"


def _iterator(name: str, operation: Operation, *, asynchronous: bool) -> Iterator[str]:
    item = type_of(cast("Schema", operation.item))
    arguments = _arguments(operation, without=frozenset({"cursor"}))
    outer = "AsyncIterator" if asynchronous else "Iterator"
    yield f"{_INDENT}def {name}_all({', '.join(['self', *arguments])}) -> {outer}[{item}]:"
    yield _told(f"As `{name}`, but all of them: further pages are asked for as they are needed.", _INDENT * 2)
    yield f"{_INDENT * 2}return self._caller.items({_call(operation, without=frozenset({'cursor'}))})"


def _call(operation: Operation, *, without: frozenset[str] = frozenset()) -> str:
    filled = ", ".join(f"{one.name!r}: {_variable(one)}" for one in operation.in_path)
    parts: list[Any] = [repr(operation.method), repr(operation.path), f"{{{filled}}}"]
    query = [one for one in operation.in_query if one.name not in without]
    if query:
        parts.append(f"query={{{', '.join(f'{one.name!r}: {_variable(one)}' for one in query)}}}")
    if operation.in_header:
        parts.append(f"headers={{{', '.join(f'{one.name!r}: {_variable(one)}' for one in operation.in_header)}}}")
    if operation.body is not None:
        parts.append("body=body")
    if operation.uploads:
        parts.append("content=content, content_type=content_type")
    if operation.answers_text:
        parts.append("raw=True")
    return ", ".join(parts)


def _told(text: str | None, indent: str) -> str:
    if not text:
        return ""
    safe = text.replace("\\", "\\\\").replace('"""', "'''").strip()
    if safe.endswith('"'):
        safe += " "
    lines = textwrap.wrap(" ".join(safe.split()), 110) or [""]
    return "\n".join([f'{indent}"""{lines[0]}', *(indent + line for line in lines[1:])]) + '"""'
