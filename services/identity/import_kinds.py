"""Which kind of file an import is of."""

from typing import Final
from uuid import UUID

from core.database import TenantSession
from services.identity.import_people import PeopleFiles
from services.identity.import_target import Kind
from services.objects import record_import

_PEOPLE: Final = PeopleFiles()


async def kind_of(session: TenantSession, object_id: UUID | None) -> Kind:
    """Return the kind of files of an object's records; of people where no object is named.

    Raises:
        NotFoundError: there is no such object in this tenant.
    """
    return _PEOPLE if object_id is None else await record_import.load(session, object_id)
