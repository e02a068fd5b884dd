"""House rules that no linter knows."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

PURE = ("contracts", "journeys")
"""Packages that the workflow passes through Temporal's sandbox: what they do must be the same in every replay."""
IMPURE_MODULES = frozenset(
    {
        "asyncio",
        "glob",
        "io",
        "os",
        "pathlib",
        "random",
        "secrets",
        "shutil",
        "socket",
        "subprocess",
        "tempfile",
        "threading",
    }
    | {"time", "uuid_utils"}
)
IMPURE_NAMES = frozenset({"getenv", "now", "open", "today", "urandom", "utcnow", "uuid1", "uuid4", "uuid7"})


FILES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts[:-1])
)
"""Our Python files; hidden folders hold what was installed and stored."""


def within(*packages: str) -> list[Path]:
    return [path for path in FILES if path.relative_to(ROOT).parts[0] in packages]


def place(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), path)


def impure(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that name a clock, chance or a file."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if any(name.name.split(".")[0] in IMPURE_MODULES for name in names):
                yield node.lineno
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] in IMPURE_MODULES or any(
                name.name in IMPURE_NAMES for name in names
            ):
                yield node.lineno
            case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)) if name in IMPURE_NAMES:
                yield node.lineno
            case ast.keyword(value=ast.Attribute(attr=name) | ast.Name(id=name)) if name in IMPURE_NAMES - {"now"}:
                yield node.value.lineno
            case ast.keyword(value=ast.Attribute(value=ast.Name(id="datetime"), attr="now")):
                yield node.value.lineno
            case _:
                pass


def late_imports(tree: ast.Module) -> Iterator[int]:
    """Yield the lines of imports inside functions."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    yield node.lineno


def commits(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that call a method named `commit`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="commit")):
                yield node.lineno
            case _:
                pass


def test_what_replays_must_repeat_reads_no_clock_takes_no_chances_and_opens_no_file() -> None:
    assert [place(path, line) for path in within(*PURE) for line in impure(parsed(path))] == []


def test_no_module_grows_past_its_limit() -> None:
    long = {
        place(path): lines
        for path in FILES
        if path.relative_to(ROOT).parts[0] != "tests"
        and path.relative_to(ROOT).parts[:2] != ("migrations", "versions")
        and (lines := len(path.read_text().splitlines())) > MAX_LINES
    }
    assert long == {}


def test_no_module_is_called_after_nothing() -> None:
    assert [place(path) for path in FILES if path.stem in {"utils", "util", "helpers", "misc", "common"}] == []


def test_imports_stand_at_the_top() -> None:
    assert [place(path, line) for path in FILES for line in late_imports(parsed(path))] == []


def test_nothing_is_left_for_later() -> None:
    note = re.compile(r"#\s*(?:TODO|FIXME|XXX|HACK)\b")
    left = [
        place(path, number)
        for path in FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if note.search(line)
    ]
    assert left == []


def test_services_leave_committing_to_the_edge() -> None:
    assert [place(path, line) for path in within("services") for line in commits(parsed(path))] == []


def test_no_package_shadows_the_standard_library() -> None:
    shadows = {"calendar", "email", "platform", "types", "queue", "select", "signal", "string", "token"}
    tops = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in FILES}
    assert tops & shadows == set()


def test_what_not_every_run_of_the_tests_has_is_run_before_a_merge() -> None:
    makefile = (ROOT / "Makefile").read_text()
    slow = re.findall(r"^\t.*pytest .*(?<=-m )(\w+)$", makefile, re.MULTILINE)
    assert {"chaos", "fuzz"} <= set(slow)
    run = re.findall(r"^make (\w+)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    # examples are recorded after a change; tests/api/test_openapi.py holds them true
    assert {"test", "check", *slow} - {"examples"} <= set(run)
    assert {path.parent.name for path in FILES if "pytest.mark.fuzz" in path.read_text()} >= {"fuzz"}, "linted too"


@pytest.mark.parametrize(
    ("source", "rule", "lines"),
    [
        ("from datetime import datetime\ndatetime.now()", impure, [2]),
        ("import datetime as d\nd.datetime.utcnow()\nd.date.today()", impure, [2, 3]),
        ("field(default_factory=datetime.now)", impure, [1]),
        ("field(default_factory=date.today)", impure, [1]),
        ("step(plan, now=now)", impure, []),
        ("import time", impure, [1]),
        ("from os import path", impure, [1]),
        ("from uuid import uuid4 as new", impure, [1]),
        ("open('x')", impure, [1]),
        ("from pathlib import Path", impure, [1]),
        ("from datetime import time, datetime\nfrom uuid import UUID", impure, []),
        ("def f():\n    import os", late_imports, [2]),
        ("class C:\n    async def f(self):\n        from os import path", late_imports, [3]),
        ("if True:\n    import os", late_imports, []),
        ("async def f(session):\n    await session.commit()", commits, [2]),
        ("async def f(session):\n    await session.flush()", commits, []),
    ],
)
def test_the_rules_see_what_they_forbid(
    source: str, rule: Callable[[ast.Module], Iterator[int]], lines: list[int]
) -> None:
    assert list(rule(ast.parse(source))) == lines
