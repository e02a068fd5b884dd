"""What a server refuses for good at once: no such mailbox is a bounce, and no other refusal says that."""

from uuid import UUID

from sqlalchemy import select

from core.database import Database
from core.settings import Settings
from models import Event, Suppression
from tests.sender.support import MailServer, open_pages, queue_for, sending, statuses, until

BOUNCED = ("550 5.1.1 who?", "550 5.1.10 null MX", "550 5.1.2 no such host", "551 5.1.6 moved", "550 5.2.1 disabled")
REFUSED = (
    "550 nobody",
    "550 5.7.1 no",
    "550 5.3.0 down",
    "550 5.2.2 full",
    "554 5.1.8 sender",
    "550 4.1.1 odd",
    "550 5.1.11 new",
)


async def test_a_mailbox_that_does_not_exist_is_suppressed_at_once_and_policy_never_suppresses(
    database: Database, tenant_id: UUID, smtp_settings: Settings, mail_server: MailServer
) -> None:
    names = [f"r{number}" for number in range(len(BOUNCED + REFUSED))]
    for name, answer in zip(names, BOUNCED + REFUSED, strict=True):
        mail_server.refuse[f"{name}@"] = [answer]
    mail_server.refuse_data["late"] = ["550 5.1.1 who?"]
    mail_server.refuse_data["spam"] = ["554 5.7.1 not wanted"]
    await queue_for(database, tenant_id, [*names, "late", "spam", "fine"])

    async def done() -> bool:
        return await open_pages(database, tenant_id) == 0

    async with sending(database, smtp_settings):
        await until(done)
    found = await statuses(database, tenant_id)
    for name, answer in zip(names, BOUNCED + REFUSED, strict=True):
        expected = ("bounced", f"hard: {answer}") if answer in BOUNCED else ("failed", answer)
        assert found[name] == expected
    assert found["late"] == ("bounced", "hard: 550 5.1.1 who?")
    assert (found["spam"], found["fine"]) == (("failed", "554 5.7.1 not wanted"), ("sent", None))
    gone = {f"{name}@example.com" for name in [*names[: len(BOUNCED)], "late"]}
    async with database.tenant(tenant_id) as session:
        suppressed = select(Suppression.address, Suppression.reason).where(Suppression.tenant_id == tenant_id)
        assert {(address, reason) for address, reason in await session.execute(suppressed)} == {
            (address, "bounced") for address in gone
        }
        events = select(Event.type, Event.properties).where(Event.tenant_id == tenant_id)
        told = [(kind, properties["kind"]) for kind, properties in await session.execute(events)]
    assert told == [("email.bounced", "hard")] * len(gone)
