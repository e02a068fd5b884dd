"""Holds every statement the application sends to the rule that it binds its tenant itself.

Row-level security would hide a statement that forgets; the rule makes the policy a one-time filter, and is the second
of the two walls. The check stands where all statements pass, in asyncpg, for the whole test run: a statement about a
tenant's table, or a view for SQL criteria, that our code sends as tl_app or tl_reader without binding the tenant raises
where it is sent.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from models import Base

ROOT = Path(__file__).parents[1]
_PACKAGES = tuple(f"{ROOT / package}/" for package in ("activities", "api", "receiver", "relay", "sender", "services"))
_TESTS = f"{ROOT / 'tests'}/"
_SENDERS = ("prepare", "execute", "executemany", "fetch", "fetchrow", "fetchval")

_ROLES = {"tl_app", "tl_reader"}
"""Those that a policy holds to one tenant."""
_TENANT_TABLES = "|".join(
    [*sorted(set(Base.metadata.tables) - {"consumer_cursor", "sign_in_attempts", "process_beat"}), r"criteria_\w+"]
)
_TOUCHES = re.compile(rf"\b(?:FROM|JOIN|INTO|UPDATE|USING)\s+(?:ONLY\s+)?(?:{_TENANT_TABLES})\b", re.IGNORECASE)
_BINDS = re.compile(
    r"""
      tenant_id \s* = \s* (?:CAST\()? \$\d            # compared with a parameter
    | \$\d+ (?:::uuid)? \s* = \s* (?:\w+\.)? tenant_id
    | \btenant\.id \s* = \s* \$\d                     # the tenant itself
    | \$\d+ (?:::uuid)? \s+ AS \s+ tenant_id          # or brought in by a row of parameters
    | INSERT \s+ INTO \s+ \w+ \s* \([^)]*\btenant_id\b [^)]*\) \s* VALUES
    """,
    re.IGNORECASE | re.VERBOSE,
)
_FILTER = re.compile(
    r"""
      (?:\w+\.)? tenant_id \s* = \s* \$\d+ (?:::uuid)? (?!\w)
    | \$\d+ (?:::uuid)? \s* = \s* (?:\w+\.)? tenant_id \b
    | \btenant\.id \s* = \s* \$\d+ (?:::uuid)? (?!\w)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_removed: list[str] | None = None
"""The statements that lost their filter, while they do."""


class UnboundTenantError(AssertionError):
    """A statement of ours does not bind its tenant."""


def is_bound(sql: str) -> bool:
    """Return whether a statement leaves tenants' tables alone or binds the tenant it is about."""
    return not _TOUCHES.search(sql) or bool(_BINDS.search(sql))


def without_filter(sql: str) -> str:
    """Return the statement for the rows of all tenants it may see; it keeps the parameter, which must have a type."""
    return _FILTER.sub(r"(\g<0> OR true)", sql)


@contextmanager
def unfiltered() -> Generator[list[str]]:
    """Have every statement of ours sent without its tenant filter; yield the list of those that had one.

    A connection keeps what it has prepared: use one that was opened within.
    """
    global _removed  # noqa: PLW0603 - asyncpg's methods are replaced for the whole process too
    _removed = []
    try:
        yield _removed
    finally:
        _removed = None


def _role(connection: Any) -> str | None:  # noqa: ANN401 - asyncpg shows its settings nowhere but inside
    settings: dict[str, str] | None = connection._params.server_settings
    return settings.get("role") if settings else None


def _sender() -> str | None:
    """Return the innermost place of ours in the stack, None where a test sends its own statement."""
    frame = inspect.currentframe()
    # past this module, which is a test's too
    frame = frame and frame.f_back and frame.f_back.f_back
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(_TESTS):
            return None
        if file.startswith(_PACKAGES):
            return f"{Path(file).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _checked(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    def send(
        connection: "asyncpg.Connection[Any]", query: str, *arguments: object, **options: object
    ) -> Awaitable[Any]:
        if not is_bound(query) and _role(connection) in _ROLES:
            sender = _sender()
            if sender is not None:
                raise UnboundTenantError(f"{sender} sends a statement that does not bind tenant_id:\n{query}")
        if _removed is not None and _role(connection) in _ROLES and _sender() is not None:
            bare = without_filter(query)
            if bare != query:
                _removed.append(query)
                query = bare
        return method(connection, query, *arguments, **options)

    return send


def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check every statement from here on."""
    for name in _SENDERS:
        monkeypatch.setattr(asyncpg.Connection, name, _checked(getattr(asyncpg.Connection, name)))
