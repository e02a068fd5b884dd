"""Imports of people, records and what other domains have: a file, what is to be done with it, how far that has come.

`uploading` -> `uploaded` -> (`checking` -> `checked`) -> `queued` -> `running` -> `finished`, or `failed` (it can be
started again, and goes on where it was) or `cancelled`.
"""

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from contracts.people_import import CHECK_WORKFLOW, WORKFLOW, ImportRef
from core.actor import Actor
from core.database import TenantSession
from core.errors import ConflictError, InvalidError, NotFoundError
from core.ids import new_id
from models import ImportChunk, ImportReject, PeopleImport
from services.identity import import_options
from services.identity.import_files import Detected, Reading, detect
from services.identity.import_kinds import KINDS, OF_PEOPLE, Contents, Kinds, kind_of
from services.identity.import_target import Kind
from services.shared import activity, starts

STARTABLE: Final = frozenset({"uploaded", "checked", "failed"})
CHECKABLE: Final = frozenset({"uploaded", "checked"})
ENDED: Final = frozenset({"finished", "cancelled"})
REJECTS_KEPT_DAYS: Final = 30
ABANDONED_DAYS: Final = 7
"""A file that was never imported is deleted after so long."""


async def create(
    session: TenantSession,
    *,
    options: Mapping[str, Any],
    file_name: str | None,
    contents: Contents = OF_PEOPLE,
    kinds: Kinds = KINDS,
    by: Actor,
) -> PeopleImport:
    """Make an import whose file is to follow.

    Raises:
        NotFoundError: there is no such object.
        InvalidError: an option is not acceptable.
    """
    chosen = (await kind_of(session, kinds, contents)).options(options)
    await import_options.check_targets(session, chosen)
    made = PeopleImport(
        tenant_id=session.tenant_id,
        id=new_id(),
        kind=contents.kind,
        object_id=contents.object_id,
        file_name=file_name[:200] if file_name else None,
        format="csv",
        status="uploading",
        size_bytes=0,
        mapping={},
        options=chosen.stored(),
        created_by=by.name,
    )
    session.add(made)
    await session.flush()
    return made


async def uploaded(  # noqa: PLR0913 - what is known of a file that has arrived
    session: TenantSession,
    import_id: UUID,
    *,
    size: int,
    head: bytes,
    content_type: str | None,
    mapping: Mapping[str, str | None] | None,
    kinds: Kinds = KINDS,
    by: Actor,
) -> PeopleImport:
    """Note that the file is there, and propose what each column is; `mapping` has the last word.

    Raises:
        InvalidError: the file's beginning cannot be read, or the mapping does not fit it.
    """
    found = await locked(session, import_id)
    kind = await kind_of(session, kinds, contents_of(found))
    options = kind.options(found.options)
    detected = detect(head, options, recognized=kind.recognized, file_name=found.file_name, content_type=content_type)
    found.format = detected.format
    found.detected = detected.stored()
    found.size_bytes = size
    found.mapping = kind.mapping(detected, mapping, options)
    found.bytes_done = detected.header_bytes
    found.lines_done = detected.header_lines
    found.status = "uploaded"
    found.updated_at = func.now()
    await _log(session, found, "uploaded", by=by, size_bytes=[None, size])
    return found


async def get(session: TenantSession, import_id: UUID, *, contents: Contents = OF_PEOPLE) -> PeopleImport:
    """Return the import.

    Raises:
        NotFoundError: no such import of such rows in this tenant.
    """
    found = await any_of_kind(session, import_id)
    if contents_of(found) != contents:
        raise NotFoundError("No such import.")
    return found


async def any_of_kind(session: TenantSession, import_id: UUID) -> PeopleImport:
    """Return the import, whatever its rows are.

    Raises:
        NotFoundError: no such import in this tenant.
    """
    found = await session.get(PeopleImport, (session.tenant_id, import_id))
    if found is None:
        raise NotFoundError("No such import.")
    return found


async def page(
    session: TenantSession, *, contents: Contents = OF_PEOPLE, limit: int, before: UUID | None
) -> list[PeopleImport]:
    """Return up to `limit` imports of such rows, newest first."""
    statement = select(PeopleImport).where(
        PeopleImport.tenant_id == session.tenant_id,
        PeopleImport.kind == contents.kind,
        PeopleImport.object_id == contents.object_id,
    )
    if before is not None:
        statement = statement.where(PeopleImport.id < before)
    return list(await session.scalars(statement.order_by(PeopleImport.id.desc()).limit(limit)))


async def rejects(session: TenantSession, import_id: UUID, *, limit: int, after: int) -> list[ImportReject]:
    """Return up to `limit` rows that were not taken, those after the line `after`, in the file's order."""
    return list(
        await session.scalars(
            select(ImportReject)
            .where(
                ImportReject.tenant_id == session.tenant_id,
                ImportReject.import_id == import_id,
                ImportReject.line > after,
            )
            .order_by(ImportReject.line)
            .limit(limit)
        )
    )


async def check(
    session: TenantSession,
    import_id: UUID,
    *,
    contents: Contents = OF_PEOPLE,
    kinds: Kinds = KINDS,
    mapping: Mapping[str, str | None] | None = None,
    options: Mapping[str, Any] | None = None,
    by: Actor,
) -> PeopleImport:
    """Have the whole file read, and reported what it would do, changing nobody.

    Raises:
        NotFoundError: no such import.
        ConflictError: it has been started, or is over.
        InvalidError: the mapping does not fit the file, or an option is not acceptable.
    """
    found = await _own(session, import_id, contents)
    _allow(found, CHECKABLE, "checked")
    kind = await kind_of(session, kinds, contents_of(found))
    await import_options.check_targets(session, configure(found, kind, mapping=mapping, options=options))
    found.status = "checking"
    found.report = None
    found.error = None
    found.updated_at = func.now()
    await _log(session, found, "check_started", by=by)
    await starts.owe(
        session,
        workflow=CHECK_WORKFLOW,
        entity_id=new_id(),
        input=_ref(session, found),
        domain=kinds[found.kind].domain,
    )
    return found


async def start(
    session: TenantSession,
    import_id: UUID,
    *,
    contents: Contents = OF_PEOPLE,
    kinds: Kinds = KINDS,
    mapping: Mapping[str, str | None] | None = None,
    options: Mapping[str, Any] | None = None,
    by: Actor,
) -> PeopleImport:
    """Have the rows taken in, from where it stopped if it failed before.

    Raises:
        NotFoundError: no such import.
        ConflictError: it is running, or is over.
        InvalidError: the mapping does not fit the file, or an option is not acceptable.
    """
    found = await _own(session, import_id, contents)
    _allow(found, STARTABLE, "started")
    kind = await kind_of(session, kinds, contents_of(found))
    await import_options.check_targets(session, configure(found, kind, mapping=mapping, options=options))
    if found.format == "csv":
        kind.check_startable(found.mapping)
    first = found.started_at is None
    found.status = "queued"
    found.error = None
    found.updated_at = func.now()
    await _log(session, found, "started", by=by)
    # A workflow's id starts once: an import that failed goes on under another.
    entity_id = found.id if first else new_id()
    await starts.owe(
        session, workflow=WORKFLOW, entity_id=entity_id, input=_ref(session, found), domain=kinds[found.kind].domain
    )
    return found


def configure(
    found: PeopleImport, kind: Kind, *, mapping: Mapping[str, str | None] | None, options: Mapping[str, Any] | None
) -> Reading:
    """Change the mapping and options of an import that nothing has been taken from yet; return the options.

    Raises:
        ConflictError: some of it has been taken.
        InvalidError: they are not acceptable.
    """
    if mapping is None and not options:
        return kind.options(found.options)
    if found.started_at is not None:
        raise ConflictError("Part of the file has been imported; the rest is read as that was.")
    for name in ("encoding", "delimiter", "preset"):
        if options and name in options and options[name] != found.options.get(name):
            raise InvalidError.of(f"options.{name}", "can only be given with the upload")
    chosen = kind.options({**found.options, **(options or {})})
    found.options = chosen.stored()
    found.mapping = kind.mapping(Detected.of(found.detected), found.mapping if mapping is None else mapping, chosen)
    return chosen


async def cancel(session: TenantSession, import_id: UUID, *, contents: Contents = OF_PEOPLE, by: Actor) -> PeopleImport:
    """Stop an import for good after the page it is at; what was taken stays, and its file is deleted.

    Raises:
        NotFoundError: no such import.
        ConflictError: it is over.
    """
    found = await _own(session, import_id, contents)
    if found.status == "cancelled":
        return found
    if found.status in ENDED:
        raise ConflictError("The import is finished.")
    found.status = "cancelled"
    found.finished_at = func.now()
    found.updated_at = func.now()
    await session.flush()
    await drop_file(session, import_id)
    await _log(session, found, "cancelled", by=by)
    return found


async def drop_file(session: TenantSession, import_id: UUID) -> None:
    """Delete the file of an import that is over."""
    await session.execute(
        delete(ImportChunk).where(ImportChunk.tenant_id == session.tenant_id, ImportChunk.import_id == import_id)
    )


async def discard(session: TenantSession, import_id: UUID) -> None:
    """Delete an import whose upload came to nothing."""
    await session.execute(
        delete(PeopleImport).where(
            PeopleImport.tenant_id == session.tenant_id,
            PeopleImport.id == import_id,
            PeopleImport.status == "uploading",
        )
    )


async def fail(session: TenantSession, import_id: UUID, error: str) -> None:
    """Note that an import cannot go on; started again, it goes on where it was. A check leaves it as uploaded."""
    await session.execute(
        update(PeopleImport)
        .where(
            PeopleImport.tenant_id == session.tenant_id,
            PeopleImport.id == import_id,
            PeopleImport.status.in_(["checking", "queued", "running"]),
        )
        .values(
            status=text("CASE WHEN status = 'checking' THEN 'uploaded' ELSE 'failed' END"),
            error=error,
            updated_at=func.now(),
        )
    )


async def purge(session: AsyncSession) -> None:
    """Forget refused rows past their time and files that were never imported; needs a session of tl_system."""
    await session.execute(
        text("""
        DELETE FROM import_reject r USING people_import i
        WHERE i.tenant_id = r.tenant_id AND i.id = r.import_id
          AND i.finished_at < now() - make_interval(days => :days)
        """),
        {"days": REJECTS_KEPT_DAYS},
    )
    await session.execute(
        text("""
        WITH abandoned AS (
          UPDATE people_import SET status = 'cancelled', error = 'abandoned', finished_at = now(), updated_at = now()
          WHERE status IN ('uploading', 'uploaded', 'checking', 'checked', 'failed')
            AND updated_at < now() - make_interval(days => :days)
          RETURNING tenant_id, id
        )
        DELETE FROM import_chunk c USING abandoned a WHERE c.tenant_id = a.tenant_id AND c.import_id = a.id
        """),
        {"days": ABANDONED_DAYS},
    )


async def locked(session: TenantSession, import_id: UUID) -> PeopleImport:
    """Return the import as it is now, which it stays until the transaction ends, but for what that does.

    Raises:
        NotFoundError: no such import in this tenant.
    """
    found = await session.get(
        PeopleImport, (session.tenant_id, import_id), with_for_update={"key_share": True}, populate_existing=True
    )
    if found is None:
        raise NotFoundError("No such import.")
    return found


async def _own(session: TenantSession, import_id: UUID, contents: Contents) -> PeopleImport:
    """Return the import of such rows as `locked` does."""
    found = await locked(session, import_id)
    if contents_of(found) != contents:
        raise NotFoundError("No such import.")
    return found


def contents_of(found: PeopleImport) -> Contents:
    """Return what the rows of an import's file are."""
    return Contents(found.kind, found.object_id)


def _allow(found: PeopleImport, statuses: frozenset[str], verb: str) -> None:
    if found.status not in statuses:
        raise ConflictError(f"An import that is {found.status} cannot be {verb}.")


def _ref(session: TenantSession, found: PeopleImport) -> ImportRef:
    return ImportRef(tenant_id=session.tenant_id, import_id=found.id)


async def _log(session: TenantSession, found: PeopleImport, verb: str, *, by: Actor, **changes: list[Any]) -> None:
    await session.flush()
    noun = contents_of(found).noun
    await activity.record(
        session,
        by=by,
        subject_type=noun,
        subject_id=found.id,
        type=f"{noun}.{verb}",
        changes={name: (pair[0], pair[1]) for name, pair in changes.items()} | {"status": (None, found.status)},
    )
    await session.refresh(found)
