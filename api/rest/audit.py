"""Who did what: the audit log of the tenant, and the history of one thing."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import Query
from pydantic import AwareDatetime

from api.dependencies import PrincipalDep, SessionDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_cursor, decode_entry, encode_cursor
from api.routing import Router
from services.shared import audit

router = Router(tags=["audit"])

AUDIT: Final = "audit:read"
_NOUNS: Final = {
    "person": "people",
    "organization": "organizations",
    "event": "events",
    "dead_event": "events",
    "form": "forms",
    "template": "templates",
    "template_partial": "templates",
    "journey": "journeys",
    "enrollment": "journeys",
    "tenant": "tenant",
    "api_key": "api_keys",
    "user": "users",
    "object": "objects",
    "record": "objects",
    "association": "objects",
    "association_definition": "objects",
    "segment": "segments",
    "communication": "communications",
    "pipeline": "pipelines",
    "deal": "deals",
    "cart": "carts",
    "discount": "discounts",
    "tax_rate": "tenant",
    "shipping_method": "tenant",
    "order": "orders",
    "product": "products",
    "variant": "products",
    "category": "products",
    "stock_location": "inventory",
    "payment": "payments",
    "payment_account": "payments",
    "task": "tasks",
    "outgoing_call": "journeys",
    "sender_domain": "channels",
    "webhook": "webhooks",
    "event_type": "events",
}
"""Whose scope also allows to read the history of such a thing."""

SubjectType = Annotated[str, Query(max_length=64, pattern=r"^[a-z_]+$", examples=["person"])]


class ActivityOut(Strict):
    """A change somebody made."""

    id: UUID
    at: datetime
    type: str
    """`noun.verb`, such as `person.updated`."""
    subject_type: str
    subject_id: UUID
    actor: str
    """`user:ID`, `api_key:ID`, `journey:ID`, `message:ID`, `import:ID`, `form:ID`, `system` or `cli`."""
    changes: dict[str, Any]
    """Each field with what it was and what it became; the values are `[erased]` once the person was."""
    request_id: str | None
    """Of the request that made it; also in its answer's header `X-Request-ID`, and in our logs."""


@router.get("/audit", dependencies=[requires(AUDIT)])
async def find(  # noqa: PLR0913, PLR0917 - the filters of one list
    session: SessionDep,
    actor: Annotated[
        str | None, Query(max_length=100, examples=["api_key:00000000-0000-7000-8000-000000000000"])
    ] = None,
    type: Annotated[str | None, Query(max_length=100, examples=["person.erased"])] = None,  # noqa: A002 - the field's name
    subject_type: SubjectType | None = None,
    subject_id: UUID | None = None,
    since: Annotated[AwareDatetime | None, Query(alias="from", description="Not before this time")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Before this time")] = None,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ActivityOut]:
    """List what was done in the tenant, newest first; every filter given must hold.

    Entries are never changed. Erasing a person alone replaces values, and leaves an entry of its own that says so.
    """
    before = None if cursor is None else decode_cursor(cursor, [UUID])[0]
    wanted = audit.Filter(
        actor=actor, type=type, subject_type=subject_type, subject_id=subject_id, since=since, until=until
    )
    found = await audit.page(session, wanted, limit=limit + 1, before=before)
    return Page(
        items=[ActivityOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None,
    )


@router.get("/activities", responses={403: {}})
async def history(
    subject_type: SubjectType,
    subject_id: UUID,
    session: SessionDep,
    principal: PrincipalDep,
    limit: LimitParam = DEFAULT_LIMIT,
    cursor: CursorParam = None,
) -> Page[ActivityOut]:
    """List what was done to one thing, newest first: a person, an organization, a journey, a template, ...

    Needs the scope to read such things, or `audit:read`.
    """
    scope = f"{_NOUNS[subject_type]}:read" if subject_type in _NOUNS else AUDIT
    if not principal.allows(AUDIT):
        principal.require(scope)
    before = None if cursor is None else decode_entry(cursor)
    found = await audit.history(session, subject_type, subject_id, limit=limit + 1, before=before)
    return Page(
        items=[ActivityOut.model_validate(row) for row in found[:limit]],
        next_cursor=encode_cursor(found[limit - 1].at, found[limit - 1].id) if len(found) > limit else None,
    )
