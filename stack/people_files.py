"""Files in and out of the store, for the command line: the API's services, without an API."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

from core.actor import CLI
from core.database import Database
from core.errors import ConflictError, InvalidError
from models import PeopleImport
from services.commerce import product_exports, product_import
from services.commerce.product_directory import Filter as ProductFilter
from services.crm import deal_exports, deal_import
from services.crm.deal_directory import Filter as DealFilter
from services.identity import exports, import_upload, imports
from services.identity.directory import Filter
from services.identity.exports import FileFormat
from services.identity.import_files import CHUNK
from services.identity.import_kinds import KINDS, OF_PEOPLE, Contents, Kinds, of_records
from services.identity.import_upload import Begin, Upload
from services.objects import definitions
from services.objects import exports as record_exports
from services.tenancy import tenants

LOOK_SECONDS: Final = 0.5
"""How often a followed import is looked at."""

Progress = Callable[[str], None]
"""Shows a line in place of the one before."""


@dataclass(frozen=True, slots=True)
class _Things:
    """What files can be of."""

    contents: Contents
    kinds: Kinds
    parts: Callable[[Begin, FileFormat], AsyncGenerator[tuple[str, int]]]
    """The file of all there are, a part at a time with how many it holds."""


_THINGS: Final[Mapping[str, _Things]] = {
    "people": _Things(OF_PEOPLE, KINDS, lambda begin, form: exports.texts(begin, Filter(), form)),
    "deals": _Things(
        deal_import.OF_DEALS, deal_import.KINDS, lambda begin, form: deal_exports.texts(begin, DealFilter(), form)
    ),
    "products": _Things(
        product_import.OF_PRODUCTS,
        product_import.KINDS,
        lambda begin, form: product_exports.texts(begin, ProductFilter(), form),
    ),
}
NOUNS: Final = tuple(_THINGS)
"""What files can be of, records beside them."""


async def _things(begin: Begin, noun: str, of: str | None) -> _Things:
    if of is None:
        if noun not in _THINGS:
            raise InvalidError.of("kind", f"must be one of {', '.join(NOUNS)}")
        return _THINGS[noun]
    async with begin() as session:
        found = await definitions.get(session, of)
    return _Things(of_records(found.id), KINDS, lambda begin, form: record_exports.texts(begin, found, form))


@asynccontextmanager
async def _tenant(database_url: str, key: str) -> AsyncGenerator[tuple[Database, UUID]]:
    database = Database(database_url, pool_size=2)
    try:
        async with database.system() as session:
            tenant_id = (await tenants.by_key(session, key)).id
        yield database, tenant_id
    finally:
        await database.close()


async def import_file(  # noqa: PLR0913 - what the command line can say
    database_url: str,
    tenant_key: str,
    path: Path,
    upload: Upload,
    *,
    noun: str = "people",
    of: str | None = None,
    follow: bool,
    progress: Progress,
) -> PeopleImport:
    """Upload a file of what `noun` says, one of `NOUNS`, or of records of the object with the key `of`.

    It begins where `upload` says so; with `follow` return when it is over.

    Raises:
        NotFoundError: there is no such tenant, or no such object.
        InvalidError: there is no such noun, or the file, the mapping or an option is not acceptable.
        ConflictError: the import ended, but not at the end of the file.
    """
    async with _tenant(database_url, tenant_key) as (database, tenant_id):

        async def content() -> AsyncIterator[bytes]:
            size, done = (await asyncio.to_thread(path.stat)).st_size, 0
            with path.open("rb") as file:
                while piece := await asyncio.to_thread(file.read, CHUNK):
                    done += len(piece)
                    progress(f"uploading {100 * done // size} %")
                    yield piece

        things = await _things(lambda: database.tenant(tenant_id), noun, of)
        upload = replace(upload, contents=things.contents, kinds=things.kinds)
        found = await import_upload.receive(lambda: database.tenant(tenant_id), content(), upload, by=CLI)
        while follow and upload.start and found.status in {"queued", "running"}:
            await asyncio.sleep(LOOK_SECONDS)
            async with database.tenant(tenant_id) as session:
                found = await imports.get(session, found.id, contents=upload.contents)
            progress(described(found))
        if found.status in {"failed", "cancelled"}:
            raise ConflictError(f"The import {found.id} is {found.status}: {found.error or 'by somebody'}.")
        return found


def described(found: PeopleImport) -> str:
    """Return how far an import has come, as a line."""
    share = 100 * found.bytes_done // found.size_bytes if found.size_bytes else 100
    return (
        f"{found.status}: {share} %, {found.created} created, {found.updated} updated, {found.unchanged} unchanged, "
        f"{found.rejected} rejected"
    )


async def export_file(
    database_url: str,
    tenant_key: str,
    path: Path,
    file_format: FileFormat,
    *,
    noun: str = "people",
    of: str | None = None,
    progress: Progress,
) -> int:
    """Write all of what `noun` says, one of `NOUNS`, or all records of the object with the key `of`, to a file.

    Return how many there are.

    Raises:
        NotFoundError: there is no such tenant, or no such object.
        InvalidError: there is no such noun.
    """
    written, shown = 0, 0.0
    shown_as = noun if of is None else "records"
    async with _tenant(database_url, tenant_key) as (database, tenant_id):
        things = await _things(lambda: database.tenant(tenant_id), noun, of)
        parts = things.parts(lambda: database.tenant(tenant_id), file_format)
        with path.open("w", encoding="utf-8", newline="") as file:
            async for text, count in parts:
                await asyncio.to_thread(file.write, text)
                written += count
                if time.monotonic() - shown > LOOK_SECONDS:
                    shown = time.monotonic()
                    progress(f"{written} {shown_as}")
    progress(f"{written} {shown_as}")
    return written
