"""Which kinds of files there are. A domain above adds its own: whoever takes files in is handed the kinds it serves."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from core.database import TenantSession
from services.identity.import_people import PeopleFiles
from services.identity.import_target import Kind
from services.objects import record_import
from services.shared.starts import IDENTITY

PEOPLE: Final = "people"
RECORD: Final = "record"


@dataclass(frozen=True, slots=True)
class Contents:
    """What the rows of a file are."""

    kind: str
    """A key of the kinds that are served; the log calls such an import `KIND_import`."""
    object_id: UUID | None = None
    """Of whose records they are; of no other kind."""

    @property
    def noun(self) -> str:
        """What the log calls an import of it."""
        return f"{self.kind}_import"


OF_PEOPLE: Final = Contents(PEOPLE)

Load = Callable[[TenantSession, Contents], Awaitable[Kind]]
"""Returns the kind as it is in the tenant now; raises NotFoundError where what it is of is gone."""


@dataclass(frozen=True, slots=True)
class Served:
    """A kind of files that can be taken in."""

    load: Load
    domain: str
    """On whose queue its files are taken in: the domain of `services.shared.starts` that owns what they become."""


Kinds = Mapping[str, Served]
"""By what `Contents.kind` says."""


def of_records(object_id: UUID) -> Contents:
    """Return what a file of an object's records has."""
    return Contents(RECORD, object_id)


async def _people(session: TenantSession, contents: Contents) -> Kind:
    del session, contents
    return PeopleFiles()


async def _records(session: TenantSession, contents: Contents) -> Kind:
    if contents.object_id is None:
        raise AssertionError("records are of an object")
    return await record_import.load(session, contents.object_id)


KINDS: Final[Kinds] = {PEOPLE: Served(_people, IDENTITY), RECORD: Served(_records, IDENTITY)}
"""Those of the identity domain and the objects beside it."""


async def kind_of(session: TenantSession, kinds: Kinds, contents: Contents) -> Kind:
    """Return the kind of files with such rows.

    Raises:
        NotFoundError: there is no such object in this tenant.
        KeyError: this process does not serve the kind.
    """
    return await kinds[contents.kind].load(session, contents)
