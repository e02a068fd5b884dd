"""What the rows of a file become: people, or records of an object. All else about an import serves both.

A `Kind` says what may be asked of a file of its kind, before a row is read; a `Target` takes the rows in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from core.actor import Actor
from core.database import TenantSession
from services.identity.import_files import Detected, Reading
from services.identity.import_rows import RawRow

Mapped = Mapping[str, str | None]
"""Column of a file to what it is taken for; None leaves it out."""

ChangeT = TypeVar("ChangeT")


@dataclass(slots=True)
class Refused:
    """A row that is not taken."""

    line: int
    field: str
    reason: str


@dataclass(slots=True)
class Tally:
    """What a page came to, or would."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: list[Refused] = field(default_factory=list[Refused])
    fresh: Sequence[Sequence[tuple[str, str]]] = ()
    """Of a dry run: by what each thing that would be created is known, as `(kind, value)`."""


class Target(Protocol[ChangeT]):
    """Takes rows in, a page in a transaction."""

    def change(self, row: RawRow) -> ChangeT:
        """Return what a row says; runs in a thread, and asks nothing of the store.

        Raises:
            InvalidError: the row is refused for this.
        """
        ...

    async def take(self, session: TenantSession, changes: Sequence[ChangeT], *, by: Actor) -> Tally:
        """Take a page in: a fixed number of statements, whatever its rows.

        Raises:
            VanishedError, asyncpg.PostgresError (`resolve_rows.LOST_RACE`): others changed the same meanwhile; the
                transaction must be rolled back, and the page can be taken again.
        """
        ...

    async def look(self, session: TenantSession, changes: Sequence[ChangeT]) -> Tally:
        """Say what `take` would do now, changing nothing."""
        ...


class Kind(Protocol):
    """What files of people, or of an object's records, may be asked for."""

    def options(self, given: Mapping[str, Any]) -> Reading:
        """Return the options.

        Raises:
            InvalidError: naming each one that is not acceptable, as `options.NAME`.
        """
        ...

    def recognized(self, columns: Sequence[str]) -> str | None:
        """Return the system whose export has these columns."""
        ...

    def mapping(self, detected: Detected, given: Mapped | None, options: Reading) -> dict[str, str | None]:
        """Return what each column is taken for: as given, else as proposed.

        Raises:
            InvalidError: it does not fit the file.
        """
        ...

    def check_startable(self, mapping: Mapped) -> None:
        """Check that rows of a CSV file can mean something.

        Raises:
            InvalidError: by this mapping none can.
        """
        ...

    async def target(
        self, session: TenantSession, detected: Detected, mapping: Mapped, options: Reading
    ) -> Target[Any]:
        """Return what takes the rows in."""
        ...
