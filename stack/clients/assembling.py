"""Puts the clients together: what stands in `clients/`, and what is generated from the OpenAPI document."""

import json
import shutil
from pathlib import Path
from typing import Final

from stack.clients import node, python, typescript
from stack.clients.document import Document

ROOT: Final = Path(__file__).parents[2]
SOURCES: Final = ROOT / "clients"
TOOLS: Final = ROOT / ".cache" / "npm"
"""Where what the TypeScript client is built with is installed, as its lock has it."""


def python_client(document: Document, target: Path) -> None:
    """Put the Python client together in `target`, as a project to build."""
    _copy("python", target)
    python.write(document, target / "src" / "throughline_client" / "_generated")


def typescript_client(document: Document, target: Path, *, besides: Path | None = None) -> None:
    """Put the TypeScript client together in `target`, compiled, as a package to publish.

    A program that lies `besides` it is compiled with it.

    Raises:
        StackError: what it is built with could not be installed, or the client does not compile.
    """
    _copy("typescript", target)
    if besides is not None:
        shutil.copy(besides, target / "src")
    node.install(target, TOOLS)
    generated = target / "src" / "generated"
    typescript.write(document, generated)
    described = target / "openapi.json"
    described.write_text(json.dumps(document))
    modules = TOOLS / "node_modules"
    # what has a default may be left out of a request
    options = ["--default-non-nullable", "false", "-o", str(generated / "schema.ts")]
    node.run(modules / "openapi-typescript" / "bin" / "cli.js", str(described), *options)
    node.run(modules / "typescript" / "bin" / "tsc", "-p", str(target))


def pack(package: Path, target: Path) -> None:
    """Pack an npm package into `target`."""
    node.npm("pack", "--silent", "--pack-destination", str(target), cwd=package)


def _copy(name: str, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(SOURCES / name, target, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
