"""The parameters of a campaign, in what the links of its messages lead to."""

from datetime import UTC, datetime
from typing import Any, Never
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from core.database import Database
from core.ids import new_id
from core.settings import Settings
from core.tokens import Tokens
from models import Campaign, CampaignRun, MessagePage
from services.marketing import rendering
from tests.sender.support import MailServer, open_pages, queue_for, sending, until

DUE = datetime(2026, 1, 1, tzinfo=UTC)
_PLAN = {"name": "Spring", "utm": {"source": "news", "medium": "email"}}


async def _of_run(database: Database, tenant_id: UUID) -> None:
    """Have what is queued be of a run; its campaign was changed since."""
    campaign_id, run_id = new_id(), new_id()
    common = {"tenant_id": tenant_id, "id": campaign_id, "key": "spring", "name": "Spring", "channel": "email"}
    described: dict[str, Any] = {"audience": {}, "variants": [], "utm": {"source": "later"}, "created_by": "test"}
    async with database.tenant(tenant_id) as session:
        await session.execute(insert(Campaign), [common | described])
        run = {"id": run_id, "campaign_id": campaign_id, "occurrence": "once", "plan": _PLAN}
        await session.execute(insert(CampaignRun), [run | {"tenant_id": tenant_id, "due_at": DUE}])
        await session.execute(update(MessagePage).where(MessagePage.tenant_id == tenant_id).values(run_id=run_id))


async def test_links_of_a_campaign_lead_with_its_parameters_on_the_fast_path(
    database: Database,
    tenant_id: UUID,
    smtp_settings: Settings,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def by_liquid(*_: object) -> Never:
        raise AssertionError

    monkeypatch.setattr(rendering, "render", by_liquid)
    body = "<a href='https://shop.example/{{ person.first_name }}?a=1&amp;utm_medium=own#top'>Shop</a>"
    await queue_for(database, tenant_id, ["ann", "bob"], body=body)
    await _of_run(database, tenant_id)
    async with sending(database, smtp_settings):
        await until(lambda: _sent(database, tenant_id))
    tokens = Tokens(smtp_settings.secret_key.get_secret_value())
    targets: set[str] = set()
    for _, mail in mail_server.received:
        _, html = (part.get_content() for part in mail.iter_parts())
        targets.add(tokens.read_click(html.partition("/t/c/")[2].partition("'")[0]).target)
        assert "utm" not in str(mail["list-unsubscribe"])
    assert targets == {
        f"https://shop.example/{name}?a=1&utm_medium=own&utm_source=news&utm_campaign=spring#top"
        for name in ("ann", "bob")
    }


async def _sent(database: Database, tenant_id: UUID) -> bool:
    return await open_pages(database, tenant_id) == 0
