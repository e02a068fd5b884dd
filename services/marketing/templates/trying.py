"""Test copies of a template, for who looks at them first."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from core.actor import Actor
from core.database import TenantSession
from services.marketing import test_sends
from services.marketing.templates import store
from services.marketing.test_sends import Copy
from services.shared import activity


async def send_copies(  # noqa: PLR0913 - what a request may say, each by its name
    session: TenantSession,
    template_id: UUID,
    *,
    to: Sequence[str] | None,
    person_ids: Sequence[UUID] | None,
    as_person_id: UUID | None = None,
    entry: Mapping[str, Any] | None = None,
    locale: str | None = None,
    by: Actor,
) -> list[Copy]:
    """Send copies of the current version; see `test_sends`.

    Raises:
        NotFoundError: no such template.
        InvalidError: naming the field that means nothing.
    """
    saved = await store.get(session, template_id)
    channel = saved.template.channel
    recipients = await test_sends.recipients(session, channel, to=to, person_ids=person_ids)
    copies = await test_sends.send(
        session, channel, [(None, saved.version)], recipients, as_person_id=as_person_id, entry=entry, locale=locale
    )
    changes = {"recipients": (None, len(recipients)), "version": (None, saved.version.number)}
    await activity.record(
        session, by=by, subject_type="template", subject_id=template_id, type="template.tested", changes=changes
    )
    return copies
