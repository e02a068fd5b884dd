"""The report of a campaign over the API."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from httpx import AsyncClient
from sqlalchemy import insert, update

from core.ids import new_id
from core.settings import Settings
from core.tokens import Click, Tokens
from models import Conversion, Message, MessageClick
from models.messages import MESSAGE_STATUSES
from tests.factories.marketing import Marketing
from tests.services.marketing.outcomes.running import running


async def test_each_message_is_counted_once_and_money_adds_up(client: AsyncClient, marketing: Marketing) -> None:
    costs: dict[str, Any] = {
        "currency": "EUR",
        "budget_minor": 10_000,
        "fixed_cost_minor": 1_000,
        "message_cost_micros": 400,
    }
    made = await running(marketing, variants=2, **costs)
    rows = [
        {"status": status, "reason": "no_address" if status == "excluded" else "words", "variant": number % 2}
        for number, status in enumerate(MESSAGE_STATUSES * 3)
    ]
    ids = await made.add([*rows, {"opens": 2, "clicks": 1, "machine_opens": 1}, {"machine_opens": 3}])
    conversion = {"campaign_id": made.campaign_id, "channel": "email", "touch": "click"}
    now = datetime.now(UTC)
    async with marketing.session() as session:
        for code, minor in (("EUR", 5_000), ("USD", 700)):
            await session.execute(
                insert(Conversion).values(
                    tenant_id=marketing.tenant_id,
                    id=new_id(),
                    order_key=code,
                    message_id=ids[-2],
                    touched_at=now,
                    converted_at=now,
                    currency=code,
                    amount_minor=minor,
                    **conversion,
                )
            )
    found = (await client.get(f"/v1/campaigns/{made.campaign_id}/report")).json()
    counts = Counter({name: found[name] for name in ("queued", "sent", "failed", "in_doubt")})
    assert found["audience"] == counts.total() + sum(found["excluded"].values()) == len(ids)
    assert (found["excluded"], found["sent"], found["delivered"]) == ({"no_address": 3}, 14, 11)
    assert (found["opened"], found["clicked"], found["machine_opened"]) == (1, 1, 2)
    assert (found["revenue"]["amount"], found["revenue_by_currency"]["USD"]["amount"]) == ("50.00", "7.00")
    # 10.00 and 14 times 0.0004, rounded up
    assert (found["spend"]["amount"], found["budget_left"]["amount"]) == ("10.01", "89.99")
    assert found["roi"] == (5_000 - 1_001) / 1_001
    assert [each["audience"] for each in found["variants"]] == [12, 12]


async def test_a_run_is_reported_alone(client: AsyncClient, marketing: Marketing) -> None:
    made = await running(marketing, occurrence="2026-11-27T09:00Z")
    await made.add([{}])
    path = f"/v1/campaigns/{made.campaign_id}/report"
    assert (await client.get(path, params={"occurrence": made.occurrence})).json()["audience"] == 1
    assert (await client.get(path, params={"occurrence": "once"})).status_code == 404
    assert (await client.get(f"/v1/campaigns/{new_id()}/report")).status_code == 404


async def test_the_messages_behind_a_figure_are_listed_by_status(client: AsyncClient, marketing: Marketing) -> None:
    made = await running(marketing)
    ids = await made.add([{"status": status, "page_id": new_id()} for status in MESSAGE_STATUSES])
    for message, status in zip(ids, MESSAGE_STATUSES, strict=True):
        asked = {"campaign_id": str(made.campaign_id), "status": status}
        found = (await client.get("/v1/messages", params=asked)).json()["items"]
        assert [each["id"] for each in found] == [str(message)]
    for wrong in ({"status": "sent"}, {"campaign_id": str(made.campaign_id), "status": "gone"}):
        refused = await client.get("/v1/messages", params=wrong)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "status")


BROWSER: Final = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
SHOP: Final = "https://shop.example/"


async def _people(client: AsyncClient, *names: str) -> list[UUID]:
    made = [await client.post("/v1/people", json={"email": f"{name}@shop.example"}) for name in names]
    return [UUID(each.json()["id"]) for each in made]


async def _follow(
    anonymous: AsyncClient, marketing: Marketing, settings: Settings, clicks: Sequence[tuple[UUID, str]]
) -> None:
    """Follow links of messages, taking one's time between them."""
    tokens = Tokens(settings.secret_key.get_secret_value())
    for message_id, target in clicks:
        path = f"/t/c/{tokens.click(Click(marketing.tenant_id, message_id, target))}"
        assert (await anonymous.get(path, headers=BROWSER)).status_code == 302
        async with marketing.session() as session:
            long_ago = Message.last_click_at - timedelta(seconds=5)
            await session.execute(
                update(Message)
                .where(Message.tenant_id == marketing.tenant_id, Message.id == message_id)
                .values(last_click_at=long_ago)
            )


async def _links(client: AsyncClient, campaign_id: UUID) -> list[tuple[str | None, int, int, int]]:
    found = (await client.get(f"/v1/campaigns/{campaign_id}/report")).json()["links"]
    return [(each["url"], each["people"], each["clicks"], each["machine_clicks"]) for each in found]


async def test_links_are_counted_by_people_whatever_marks_them(
    client: AsyncClient, anonymous: AsyncClient, marketing: Marketing, settings: Settings
) -> None:
    made, other = await running(marketing), await running(marketing)
    ann, bob = await _people(client, "ann", "bob")
    first, second = await made.add([{"person_id": ann}, {"person_id": bob}])
    again = (await made.add([{"person_id": ann}]))[0]
    (elsewhere,) = await other.add([{"person_id": ann}])
    cup, mug = f"{SHOP}cup?utm_source=a&size=2&UTM_content=b#top", f"{SHOP}mug?utm_medium=email"
    clicks = [(first, cup), (first, cup), (second, f"{SHOP}cup?size=2#top"), (again, cup), (first, mug)]
    await _follow(anonymous, marketing, settings, [*clicks, (elsewhere, SHOP)])
    assert await _links(client, made.campaign_id) == [(f"{SHOP}cup?size=2#top", 2, 4, 0), (f"{SHOP}mug", 1, 1, 0)]
    assert await _links(client, other.campaign_id) == [(SHOP, 1, 1, 0)]


async def test_a_burst_is_taken_back_from_the_links_it_began_with(
    client: AsyncClient, anonymous: AsyncClient, marketing: Marketing, settings: Settings
) -> None:
    made = await running(marketing)
    people = await _people(client, "ann", "bob")
    first, second = await made.add([{"person_id": each} for each in people])
    await _follow(anonymous, marketing, settings, [(first, f"{SHOP}0")])
    tokens = Tokens(settings.secret_key.get_secret_value())
    paths = [
        f"/t/c/{tokens.click(Click(marketing.tenant_id, message_id, f'{SHOP}{number}'))}"
        for message_id in (first, second)
        for number in range(5)
    ]
    await asyncio.gather(*(anonymous.get(path, headers=BROWSER) for path in paths))
    found = await _links(client, made.campaign_id)
    assert sorted(found) == [(f"{SHOP}0", 1, 1, 2), *((f"{SHOP}{number}", 0, 0, 2) for number in range(1, 5))]
    assert found[0][0] == f"{SHOP}0"


async def test_links_of_somebody_erased_count_and_say_no_address(
    client: AsyncClient, anonymous: AsyncClient, marketing: Marketing, settings: Settings
) -> None:
    made = await running(marketing)
    (ann,) = await _people(client, "ann")
    (message,) = await made.add([{"person_id": ann}])
    await _follow(anonymous, marketing, settings, [(message, f"{SHOP}?name=ann")])
    assert (await client.delete(f"/v1/people/{ann}")).is_success
    await _follow(anonymous, marketing, settings, [(message, f"{SHOP}?name=ann"), (message, f"{SHOP}ann")])
    assert await _links(client, made.campaign_id) == [(None, 1, 3, 0)]


async def test_a_report_has_the_links_that_most_people_followed(client: AsyncClient, marketing: Marketing) -> None:
    made = await running(marketing)
    messages = await made.add([{}, {}])
    values = [
        {"message_id": message, "link": number, "url": f"{SHOP}{number}", "clicks": 1, "machine_clicks": 0}
        for nth, message in enumerate(messages)
        for number in range(110 if nth == 0 else 3)
    ]
    async with marketing.session() as session:
        await session.execute(insert(MessageClick), [{"tenant_id": marketing.tenant_id, **each} for each in values])
    found = await _links(client, made.campaign_id)
    assert len(found) == 100
    assert [people for _, people, _, _ in found[:4]] == [2, 2, 2, 1]
