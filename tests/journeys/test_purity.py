"""Workflows import these modules past Temporal's sandbox, so only this test keeps clocks and chance out."""

import ast
import importlib
import inspect

import pytest

WALKED = ["command_nodes", "definition", "durations", "members", "plan", "planner", "state", "texts"]
IMPURE_MODULES = {"os", "random", "secrets", "socket", "threading", "time", "uuid", "asyncio", "subprocess"}
IMPURE_CALLS = {"now", "utcnow", "today", "open", "input", "getenv", "local", "hash", "id"}


def impurities(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names} & IMPURE_MODULES
            case ast.ImportFrom(module=str(module)):
                found |= {module} & IMPURE_MODULES
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                found |= {name} & IMPURE_CALLS
            case _:
                pass
    return found


@pytest.mark.parametrize("name", WALKED)
def test_what_a_workflow_imports_reads_no_clock_and_rolls_no_dice(name: str) -> None:
    assert impurities(inspect.getsource(importlib.import_module(f"journeys.{name}"))) == set()


@pytest.mark.parametrize(
    "source", ["import random", "from time import monotonic", "datetime.now(UTC)", "x = hash(node)", "open('a')"]
)
def test_the_check_finds_them(source: str) -> None:
    assert impurities(source)
