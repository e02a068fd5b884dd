"""Writes the TypeScript client's generated half: its tree of operations; their types are `openapi-typescript`'s."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from stack.clients.document import Document, Noun, Operation, tree

_HEAD: Final = """// What can be asked of the API. Generated from its OpenAPI document: changes made here are lost.
import type { Call, Caller, Listing } from "../call.js";

"""
_INDENT: Final = "  "


def write(document: Document, folder: Path) -> None:
    """Write the module into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "api.ts").write_text(api(document))


def api(document: Document) -> str:
    """Return the module: an object of nouns and verbs."""
    lines = ["export function api(caller: Caller) {", f"{_INDENT}return {{"]
    lines += _members(tree(document), _INDENT * 2)
    lines += [f"{_INDENT}}};", "}", "", "export type Api = ReturnType<typeof api>;", ""]
    return _HEAD + "\n".join(lines)


def _members(noun: Noun, indent: str) -> Iterator[str]:
    for verb, operation in noun.verbs.items():
        yield from _verb(verb, operation, indent)
    for name, below in noun.nouns.items():
        if below.own is None:
            yield f"{indent}{name}: {{"
            yield from _members(below, indent + _INDENT)
            yield f"{indent}}},"
        else:
            yield from _told(below.own, indent)
            yield f"{indent}{name}: Object.assign({_function(below.own)}, {{"
            yield from _members(below, indent + _INDENT)
            yield f"{indent}}}),"


def _verb(verb: str, operation: Operation, indent: str) -> Iterator[str]:
    yield from _told(operation, indent)
    yield f"{indent}{verb}: {_function(operation)},"
    if operation.item is not None:
        yield f"{indent}/** As `{verb}`, but all of them: further pages are asked for as they are needed. */"
        yield f'{indent}{verb}_all: caller.listing("{operation.path}") as Listing<"{operation.id}">,'


def _function(operation: Operation) -> str:
    raw = ', "text"' if operation.answers_text else ""
    return f'caller.call("{operation.method}", "{operation.path}"{raw}) as Call<"{operation.id}">'


def _told(operation: Operation, indent: str) -> Iterator[str]:
    if operation.summary:
        yield f"{indent}/** {operation.summary.replace('*/', '* /')} */"
