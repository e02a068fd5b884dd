"""Published versions, read once per process: a version never changes, so a cached one is never stale."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Select, select

from core.database import TenantSession
from core.errors import NotFoundError
from journeys.definition import JourneyDefinition
from journeys.plan import Plan
from models import Journey, JourneyVersion


class Statements:
    """SQL made for a version's nodes: making one costs as much as running it for one member."""

    SIZE: Final = 500

    def __init__(self) -> None:
        """None made yet."""
        self._made: dict[tuple[object, ...], Select[*tuple[Any, ...]]] = {}

    def get(self, key: tuple[object, ...], make: Callable[[], Select[*tuple[Any, ...]]]) -> Select[*tuple[Any, ...]]:
        """Return the statement of `key`, made now if it was not."""
        statement = self._made.get(key)
        if statement is None:
            if len(self._made) >= self.SIZE:  # visits of a loop are without number
                self._made.clear()
            statement = self._made[key] = make()
        return statement


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A version ready for use."""

    id: UUID
    journey_id: UUID
    number: int
    definition: JourneyDefinition
    plan: Plan
    """For moves and arrivals; its clock of zone `tenant` is the workflow's business."""
    raw: dict[str, Any]
    domain: str = "marketing"
    """Its journey's: whose worker walks it."""
    statements: Statements = field(default_factory=Statements, compare=False, repr=False)


class _Cache:
    """Versions by tenant and id, the most recently used kept."""

    def __init__(self, size: int) -> None:
        self._loaded: dict[tuple[UUID, UUID], LoadedVersion] = {}
        self._size = size

    def get(self, key: tuple[UUID, UUID]) -> LoadedVersion | None:
        version = self._loaded.pop(key, None)
        if version is not None:
            self._loaded[key] = version
        return version

    def put(self, key: tuple[UUID, UUID], version: LoadedVersion) -> None:
        self._loaded[key] = version
        while len(self._loaded) > self._size:
            del self._loaded[next(iter(self._loaded))]


@lru_cache(maxsize=1)
def _cache() -> _Cache:
    return _Cache(size=500)


async def load(session: TenantSession, version_id: UUID) -> LoadedVersion:
    """Return a version.

    Raises:
        NotFoundError: the tenant has no such version.
    """
    key = (session.tenant_id, version_id)
    cached = _cache().get(key)
    if cached is not None:
        return cached
    row = await session.get(JourneyVersion, {"tenant_id": session.tenant_id, "id": version_id})
    if row is None:
        raise NotFoundError(f"there is no journey version {version_id}")
    definition = JourneyDefinition.model_validate(row.definition)
    of_journey = select(Journey.domain).where(Journey.tenant_id == session.tenant_id, Journey.id == row.journey_id)
    version = LoadedVersion(
        id=row.id,
        journey_id=row.journey_id,
        number=row.number,
        definition=definition,
        plan=Plan(definition),
        raw=row.definition,
        domain=(await session.scalars(of_journey)).one(),
    )
    _cache().put(key, version)
    return version
