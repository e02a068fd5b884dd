"""Text messages, push messages and posts: templates, people to reach, accounts to reach them by."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import String, cast, func, insert, literal, null, select

from core.actor import CLI
from core.database import Database
from core.ids import new_id, new_ids
from core.sealing import Seal
from core.settings import Settings
from models import ChannelAccount, Consent, Device, Message, MessagePage, Person, Template, TemplateVersion
from services.marketing import accounts, queueing
from services.marketing.accounts import Keeping
from services.marketing.providers import Provider


def keeping(settings: Settings) -> Keeping:
    """Return how a deployment of these settings keeps accounts."""
    return Keeping(Seal(settings.secret_key.get_secret_value()), settings.allow_private_hosts)


async def account(
    database: Database,
    tenant_id: UUID,
    settings: Settings,
    provider: Provider,
    config: Mapping[str, Any],
    secret: Mapping[str, Any],
    *,
    rate_per_minute: int | None = None,
) -> ChannelAccount:
    """Give the tenant an active account."""
    fields = {
        "key": provider,
        "name": None,
        "config": config,
        "secret": secret,
        "rate_per_minute": rate_per_minute,
        "active": True,
    }
    async with database.tenant(tenant_id) as session:
        return await accounts.create(session, provider, fields, keeping=keeping(settings), by=CLI)


async def version(database: Database, tenant_id: UUID, channel: str, body: str, **more: Any) -> TemplateVersion:  # noqa: ANN401 - columns
    """Make a template of a channel."""
    template_id, version_id = new_ids(2)
    async with database.tenant(tenant_id) as session:
        template = Template(tenant_id=tenant_id, id=template_id, key=f"t-{template_id.hex}", channel=channel)
        session.add(template)
        await session.flush()
        row = TemplateVersion(
            **{"tenant_id": tenant_id, "id": version_id, "template_id": template_id, "number": 1, "body": body}
            | {"purpose": "marketing", "topic": "general", "variables": []}
            | more
        )
        session.add(row)
        await session.flush()
        template.current_version_id = version_id
        await session.flush()
        return row


async def reachable(database: Database, tenant_id: UUID, numbers: Mapping[str, str]) -> dict[str, UUID]:
    """Make people by first name who have these numbers, and a device each (`device-NAME`), and opted in to both."""
    people = {name: new_id() for name in numbers}
    async with database.tenant(tenant_id) as session:
        rows = [
            {"tenant_id": tenant_id, "id": person_id, "first_name": name, "phone": numbers[name]}
            for name, person_id in people.items()
        ]
        await session.execute(insert(Person), rows)
        consents = [
            {"tenant_id": tenant_id, "person_id": each, "channel": channel, "topic": "general", "status": "opted_in"}
            for each in people.values()
            for channel in ("sms", "push")
        ]
        await session.execute(insert(Consent), consents)
        devices = [
            {
                "tenant_id": tenant_id,
                "id": new_id(),
                "person_id": each,
                "token": f"device-{name}",
                "platform": "android",
            }
            for name, each in people.items()
        ]
        await session.execute(insert(Device), devices)
    return people


async def queue(database: Database, tenant_id: UUID, channel: str, written: TemplateVersion) -> queueing.QueueResult:
    """Queue a message of this version for everybody."""
    async with database.tenant(tenant_id) as session:
        source = select(
            Person.id.label("person_id"),
            func.concat(literal(f"campaign:{written.id}:"), cast(Person.id, String)).label("dedupe_key"),
            null().label("enrollment_id"),
            null().label("campaign_id"),
        ).where(Person.tenant_id == tenant_id)
        return await queueing.queue(
            session, source, channel=channel, template_version=written, priority=queueing.BULK, returning=True
        )


async def queue_post(database: Database, tenant_id: UUID, written: TemplateVersion) -> UUID:
    """Queue a post, which is to nobody."""
    message_id, page_id = new_ids(2)
    async with database.tenant(tenant_id) as session:
        message = {"tenant_id": tenant_id, "id": message_id, "channel": "social", "page_id": page_id}
        of = {"template_version_id": written.id, "dedupe_key": f"campaign:{written.id}", "status": "queued"}
        await session.execute(insert(Message), [message | of])
        page = {"tenant_id": tenant_id, "id": page_id, "channel": "social", "priority": queueing.BULK, "size": 1}
        await session.execute(insert(MessagePage), [page])
    return message_id


async def told(database: Database, tenant_id: UUID) -> dict[str, tuple[str, str | None, str | None]]:
    """Return status, reason and provider's id of the messages, by the first name of their person."""
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            select(Person.first_name, Message.status, Message.reason, Message.provider_id)
            .outerjoin(Person, (Person.tenant_id == Message.tenant_id) & (Person.id == Message.person_id))
            .where(Message.tenant_id == tenant_id)
        )
        return {str(row.first_name): (row.status, row.reason, row.provider_id) for row in rows}
