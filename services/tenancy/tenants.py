"""Tenants and the settings all parts read."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import time
from email.utils import parseaddr
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.events import TENANT_UPDATED
from core import currency
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, FieldProblem, InvalidError, NotFoundError
from core.ids import new_id
from models import Tenant
from models.identity import CHANNELS
from services.events.publish import NewEvent, publish
from services.identity import scoring
from services.shared import activity
from services.tenancy import origins

KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
SETTINGS = (
    "name",
    "time_zone",
    "base_currency",
    "postal_address",
    "from_address",
    "quiet_hours",
    "frequency_caps",
    "send_limits",
    "breaker",
    "attribution_hours",
    "qualify_at_score",
    "allowed_origins",
    "prices_include_tax",
)
"""What `update` can change."""
REQUIRED = frozenset(
    {
        "name",
        "time_zone",
        "base_currency",
        "frequency_caps",
        "send_limits",
        "allowed_origins",
        "prices_include_tax",
    }
)
"""Settings that cannot be null."""
MAX_PER_MINUTE = 10_000_000
_DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}")
_BREAKER: Final[Mapping[str, tuple[float, float]]] = {
    "complaints": (0.0001, 1.0),
    "bounces": (0.0001, 1.0),
    "minimum": (1, 1_000_000),
}
_ATTRIBUTION: Final[Mapping[str, tuple[float, float]]] = dict.fromkeys(CHANNELS, (1, 2160))


async def create(session: AsyncSession, key: str, name: str, settings: Mapping[str, Any] | None = None) -> Tenant:
    """Make a tenant; needs a session of tl_system, which alone may.

    Args:
        session: of tl_system.
        key: what operators call it; unique.
        name: what people read.
        settings: any of `SETTINGS`.

    Raises:
        InvalidError: a setting is not acceptable.
        ConflictError: the key is taken.
    """
    if not KEY.fullmatch(key):
        raise InvalidError.of("key", "must be lower case letters, digits, _ and -, at most 63")
    chosen = {"name": name, **(settings or {})}
    chosen = validated(chosen)
    values = {"id": new_id(), "key": key, **chosen}
    statement = insert(Tenant).values(values).on_conflict_do_nothing(index_elements=["key"]).returning(Tenant)
    tenant = await session.scalar(statement)
    if tenant is None:
        raise ConflictError(
            f"There is a tenant with the key {key!r} already.", errors=[FieldProblem("key", "is taken")]
        )
    return tenant


async def by_key(session: AsyncSession, key: str) -> Tenant:
    """Return the tenant operators call `key`; needs a session of tl_system.

    Raises:
        NotFoundError: there is none.
    """
    tenant = await session.scalar(select(Tenant).where(Tenant.key == key))
    if tenant is None:
        raise NotFoundError(f"There is no tenant with the key {key!r}.")
    return tenant


async def get(session: TenantSession) -> Tenant:
    """Return the session's tenant.

    Raises:
        NotFoundError: it was deleted.
    """
    tenant = await session.scalar(select(Tenant).where(Tenant.id == session.tenant_id))
    if tenant is None:
        raise NotFoundError("The tenant no longer exists.")
    return tenant


async def update(session: TenantSession, changes: Mapping[str, Any], *, by: Actor) -> Tenant:
    """Change settings of the session's tenant; what is not named stays.

    Raises:
        InvalidError: a value is not acceptable.
    """
    changes = validated(changes)
    statement = select(Tenant).where(Tenant.id == session.tenant_id).with_for_update()
    tenant = await session.scalar(statement.execution_options(populate_existing=True))
    if tenant is None:
        raise NotFoundError("The tenant no longer exists.")
    changed = {field: (getattr(tenant, field), value) for field, value in changes.items()}
    changed = {field: pair for field, pair in changed.items() if pair[0] != pair[1]}
    if changed:
        for field, (_, value) in changed.items():
            setattr(tenant, field, value)
        await session.flush()
        await activity.record(
            session,
            by=by,
            subject_type="tenant",
            subject_id=session.tenant_id,
            type=TENANT_UPDATED,
            changes=changed,
        )
        told = NewEvent(
            TENANT_UPDATED, session.tenant_id, subject_type="tenant", properties={"fields": sorted(changed)}
        )
        await publish(session, [told])
        if "qualify_at_score" in changed:
            await scoring.owe_all(session)
    return tenant


def validated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as they are kept; refuse those the other parts could not work with.

    Raises:
        InvalidError: naming every field at fault.
    """
    problems = [problem for field, value in settings.items() for problem in _problems(field, value)]
    if problems:
        detail = "; ".join(f"{problem.field}: {problem.reason}" for problem in problems)
        raise InvalidError(detail, errors=problems)
    origins_given = settings.get("allowed_origins")
    if origins_given is None:
        return dict(settings)
    return {**settings, "allowed_origins": list(dict.fromkeys(map(origins.normalized, origins_given)))}


def _problems(field: str, value: Any) -> list[FieldProblem]:  # noqa: ANN401 - each setting has its own type
    if field not in SETTINGS:
        return [FieldProblem(field, "is not a known field")]
    if value is None:
        return [FieldProblem(field, "cannot be null")] if field in REQUIRED else []
    reason: str | None = None
    if field == "time_zone":
        reason = None if is_time_zone(value) else "is not an IANA time zone"
    elif field == "base_currency":
        reason = None if value in currency.EXPONENTS else "is not a currency code of ISO 4217"
    elif field == "from_address":
        reason = _sender_problem(value)
    elif field in _PARTS:
        return _PARTS[field](value)
    return [FieldProblem(field, reason)] if reason else []


def _bad_limits(value: Sequence[Mapping[str, Any]]) -> list[FieldProblem]:
    problems: list[FieldProblem] = []
    seen: set[tuple[str, str | None]] = set()
    for number, limit in enumerate(value):
        field, domain = f"send_limits.{number}", limit.get("domain")
        if limit["channel"] not in CHANNELS:
            problems.append(FieldProblem(f"{field}.channel", "is not a channel"))
        if domain is not None and limit["channel"] != "email":
            problems.append(FieldProblem(f"{field}.domain", "is for email alone"))
        elif domain is not None and not _DOMAIN.fullmatch(domain):
            problems.append(FieldProblem(f"{field}.domain", "is not a domain in lower case, as gmail.com"))
        if not 1 <= limit["per_minute"] <= MAX_PER_MINUTE:
            problems.append(FieldProblem(f"{field}.per_minute", f"must be from 1 to {MAX_PER_MINUTE}"))
        if (limit["channel"], domain) in seen:
            problems.append(FieldProblem(field, "is given twice"))
        seen.add((limit["channel"], domain))
    return problems


def _out_of_range(
    field: str, value: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]
) -> list[FieldProblem]:
    problems = [FieldProblem(f"{field}.{name}", "is not a known field") for name in value if name not in ranges]
    for name, (least, most) in ranges.items():
        if name in value and not least <= value[name] <= most:
            problems.append(FieldProblem(f"{field}.{name}", f"must be from {least:g} to {most:g}"))
    return problems


def _bad_origins(value: Sequence[str]) -> list[FieldProblem]:
    if len(value) > origins.MAX_ORIGINS:
        return [FieldProblem("allowed_origins", f"must have at most {origins.MAX_ORIGINS} items")]
    problems: list[FieldProblem] = []
    for number, text in enumerate(value):
        try:
            origins.normalized(text)
        except ValueError as error:
            problems.append(FieldProblem(f"allowed_origins.{number}", str(error)))
    return problems


def is_time_zone(name: str) -> bool:
    """Return whether `name` is in the IANA database."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder's name, or a path out of the database
        return False
    return True


def _sender_problem(value: str) -> str | None:
    """Check `Name <address>`; a line break would let a name write headers of its own."""
    if any(ord(character) < ord(" ") for character in value):
        return "holds a control character"
    address = parseaddr(value)[1]
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        return "is not an email address, alone or as Name <address>"
    return None


def _bad_hours(value: Mapping[str, str]) -> list[FieldProblem]:
    bad = [name for name in ("from", "to") if not _is_hour(value.get(name, ""))]
    return [FieldProblem(f"quiet_hours.{name}", "is not a time as HH:MM") for name in bad]


def _is_hour(text: str) -> bool:
    try:
        parsed = time.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == len("HH:MM") and parsed.tzinfo is None


_PARTS: Final[dict[str, Callable[[Any], list[FieldProblem]]]] = {
    "quiet_hours": _bad_hours,
    "allowed_origins": _bad_origins,
    "send_limits": _bad_limits,
    "breaker": lambda value: _out_of_range("breaker", value, _BREAKER),
    "attribution_hours": lambda value: _out_of_range("attribution_hours", value, _ATTRIBUTION),
}
"""Settings that are made of parts, each of which may be at fault."""
