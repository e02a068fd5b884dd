"""Finds out what a sender did that died: what it sent is recorded, what is in doubt is held, the rest goes out."""

from datetime import UTC, datetime
from typing import Final

from core.database import Database
from core.logging import get_logger
from integrations.email.port import Delivery, EmailChannel, Outcome
from sender import pages, results
from sender.journal import Fate, Journal
from sender.pages import ClaimedPage
from sender.policy import Policy
from sender.results import Result

_NO_ANSWER: Final = "the sender died between the mail and its answer"
_LOST: Final = "the sender was lost with its journal"

_log = get_logger(__name__)


async def recover(
    page: ClaimedPage, *, database: Database, journal: Journal, channel: EmailChannel, policy: Policy
) -> bool:
    """Record what the page's former holder did; return whether the page is now ours.

    Mail in doubt is not sent again, unless the channel says that a repeat is harmless.
    """
    if page.previous_owner is None:
        return True
    fate = journal.fate(page.previous_owner)
    if fate is Fate.ALIVE:
        return False  # slow, not dead; it is asked again when the lease runs out again
    if fate is Fate.DEAD:
        told = journal.read(page.previous_owner, page.id)
        known = list(told.finished.values())
        if not channel.repeat_is_harmless:
            now = datetime.now(UTC)
            known += [Delivery(each, Outcome.IN_DOUBT, now, reason=_NO_ANSWER) for each in told.begun]
        await results.record(database, page.tenant_id, [Result.of(delivery) for delivery in known])
    elif not channel.repeat_is_harmless:
        await results.doubt_all(database, page.tenant_id, page.id, _LOST)
    _log.warning("page_recovered", page=str(page.id), fate=fate.name.lower())
    adopted = await pages.adopt(database, page, owner=journal.owner, lease=policy.lease)
    if adopted:
        journal.forget(page.id)
    return adopted


async def find_the_dead(database: Database, journal: Journal) -> None:
    """Free the pages of senders that died on this machine at once; remove the journals nobody needs any more."""
    with journal.dead() as names:
        needed = await pages.expire(database, names) if names else set[str]()
        for name in names:
            if name not in needed:
                journal.remove(name)
    if needed:
        _log.info("senders_found_dead", senders=len(needed))
