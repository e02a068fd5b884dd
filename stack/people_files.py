"""Files of people and records in and out of the store, for the command line: the API's services, without an API."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import UUID

from core.actor import CLI
from core.database import Database
from core.errors import ConflictError
from models import PeopleImport
from services.identity import exports, import_upload, imports
from services.identity.directory import Filter
from services.identity.exports import FileFormat
from services.identity.import_files import CHUNK
from services.identity.import_kinds import of_records
from services.identity.import_upload import Upload
from services.objects import definitions
from services.objects import exports as record_exports
from services.tenancy import tenants

LOOK_SECONDS: Final = 0.5
"""How often a followed import is looked at."""

Progress = Callable[[str], None]
"""Shows a line in place of the one before."""


@asynccontextmanager
async def _tenant(database_url: str, key: str) -> AsyncGenerator[tuple[Database, UUID]]:
    database = Database(database_url, pool_size=2)
    try:
        async with database.system() as session:
            tenant_id = (await tenants.by_key(session, key)).id
        yield database, tenant_id
    finally:
        await database.close()


async def import_file(
    database_url: str,
    tenant_key: str,
    path: Path,
    upload: Upload,
    *,
    of: str | None = None,
    follow: bool,
    progress: Progress,
) -> PeopleImport:
    """Upload a file of people, or of records of the object with the key `of`.

    It begins where `upload` says so; with `follow` return when it is over.

    Raises:
        NotFoundError: there is no such tenant, or no such object.
        InvalidError: the file, the mapping or an option is not acceptable.
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

        if of is not None:
            async with database.tenant(tenant_id) as session:
                upload = replace(upload, contents=of_records((await definitions.get(session, of)).id))
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
    of: str | None = None,
    progress: Progress,
) -> int:
    """Write all people, or all records of the object with the key `of`, to a file; return how many there are.

    Raises:
        NotFoundError: there is no such tenant, or no such object.
    """
    written, shown = 0, 0.0
    noun = "people" if of is None else "records"
    async with _tenant(database_url, tenant_key) as (database, tenant_id):
        parts = exports.texts(lambda: database.tenant(tenant_id), Filter(), file_format)
        if of is not None:
            async with database.tenant(tenant_id) as session:
                found = await definitions.get(session, of)
            parts = record_exports.texts(lambda: database.tenant(tenant_id), found, file_format)
        with path.open("w", encoding="utf-8", newline="") as file:
            async for text, count in parts:
                await asyncio.to_thread(file.write, text)
                written += count
                if time.monotonic() - shown > LOOK_SECONDS:
                    shown = time.monotonic()
                    progress(f"{written} {noun}")
    progress(f"{written} {noun}")
    return written
