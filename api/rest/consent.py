"""Consent of a person: where they stand, the ledger of how it came to that, and a link for them to choose."""

from datetime import datetime
from typing import Any, Self
from uuid import UUID

from api.dependencies import SessionDep, SettingsDep, requires
from api.fields import Strict
from api.paging import DEFAULT_LIMIT, CursorParam, LimitParam, Page, decode_entry, encode_cursor
from api.rest.person_shapes import ConsentOut
from api.routing import Router
from core.tokens import NO_MESSAGE, ConsentRef, Tokens
from models import ConsentChange
from services.identity import confirming, consent, directory, people
from services.marketing import links

router = Router(prefix="/people", tags=["people"])


class ConsentChangeOut(Strict):
    """An entry of the ledger; entries are never changed."""

    id: UUID
    channel: consent.Channel
    topic: str
    """`all` for a global opt-out of the channel, or its end."""
    status: consent.Status
    source: str | None
    """Where the person chose."""
    wording: str | None
    """What the person was told."""
    evidence: dict[str, Any]
    """What else shows it, as far as known: `ip`, `user_agent`, `url`, `change_id` of the request that it confirms."""
    actor: str
    """Who wrote it: `api_key:...`, `message:...` for a link in that message, `person:...` for one shown elsewhere."""
    request_id: str | None
    at: datetime

    @classmethod
    def of(cls, change: ConsentChange) -> Self:
        """Return the answer for an entry."""
        return cls.model_validate(change)


class PersonConsent(Strict):
    """Where the person stands, and how it came to that."""

    current: list[ConsentOut]
    history: Page[ConsentChangeOut]
    """Newest first."""


class PreferenceLink(Strict):
    """Where the person can choose."""

    url: str


@router.get("/{person_id}/consent", dependencies=[requires("people:read")])
async def get_consent(
    person_id: UUID, session: SessionDep, limit: LimitParam = DEFAULT_LIMIT, cursor: CursorParam = None
) -> PersonConsent:
    """Return a person's consent for each channel and topic, and the ledger; `limit` and `cursor` are the ledger's."""
    (shown,) = await directory.show(session, [await people.get(session, person_id)])
    before = None if cursor is None else decode_entry(cursor)
    found = await confirming.history(session, shown.person.id, limit=limit + 1, before=before)
    return PersonConsent(
        current=[ConsentOut.model_validate(row) for row in shown.consent],
        history=Page(
            items=[ConsentChangeOut.of(change) for change in found[:limit]],
            next_cursor=encode_cursor(found[limit - 1].at, found[limit - 1].id) if len(found) > limit else None,
        ),
    )


@router.post("/{person_id}/preference-link", dependencies=[requires("people:write")])
async def preference_link(person_id: UUID, session: SessionDep, settings: SettingsDep) -> PreferenceLink:
    """Return the address of the person's preference centre, to link from a page that they alone see.

    Whoever has it can change what the person gets, and nothing else; it does not expire.
    """
    person = await people.get(session, person_id)
    ref = ConsentRef(session.tenant_id, person.id, NO_MESSAGE, "email", "")
    tokens = Tokens(settings.secret_key.get_secret_value())
    return PreferenceLink(url=links.preferences(ref, tokens=tokens, public_url=settings.public_url.rstrip("/")))
