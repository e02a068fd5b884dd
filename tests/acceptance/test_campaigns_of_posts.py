"""A campaign of posts as its user has it: by the API, on a server that speaks Mastodon's."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.eventually import eventually
from tests.factories.whole import Whole
from tests.providers import mastodon
from tests.sender.support import process

TEXT = "{{ tenant.name }} is open: https://shop.example/a?b=1 (and https://shop.example/c)."
MARKED = (
    "The shop is open: https://shop.example/a?b=1&utm_source=mastodon&utm_campaign=opening"
    " (and https://shop.example/c?utm_source=mastodon&utm_campaign=opening)."
)


async def draft(shop: Whole, server: mastodon.Mastodon, **more: Any) -> str:  # noqa: ANN401 - JSON
    await shop.account("mastodon", {"base_url": server.url}, {"access_token": mastodon.TOKEN})
    body = {"name": "Opening", "key": "opening", "channel": "social", "utm": {"source": "mastodon"}}
    template = await shop.template("social", TEXT)
    return (await shop.call("POST", "/campaigns", body | {"template_id": template} | more))["id"]


async def test_a_post_is_shown_first_and_made_once(shop: Whole) -> None:
    money = {
        "budget": {"amount": "2.00", "currency": "EUR"},
        "cost": {"fixed": {"amount": "1.00", "currency": "EUR"}, "per_message": {"amount": "0.25", "currency": "EUR"}},
    }
    async with mastodon.mastodon() as server:
        campaign = await draft(shop, server, **money)
        path = f"/campaigns/{campaign}"
        shown = await shop.call("POST", f"{path}/test", {})
        assert shown == {"messages": [], "post": {"text": MARKED, "characters": 72, "warnings": []}}
        told = await shop.call("POST", f"{path}/audience")
        assert told == {"audience": 1, "queued": 1, "excluded": {}}
        assert server.posts == {}
        async with shop.working():
            for _ in range(2):
                await shop.call("POST", f"{path}/send")
            report = await shop.finished(campaign)
        [(key, post)] = server.posts.items()
        assert post["status"] == MARKED
    assert (report["audience"], report["sent"], report["excluded"]) == (1, 1, {})
    assert (report["spend"]["amount"], report["budget_left"]["amount"]) == ("1.25", "0.75")
    [message] = (await shop.call("GET", f"/messages?campaign_id={campaign}"))["items"]
    assert (message["id"], message["person_id"], message["provider_id"]) == (key, None, post["url"])


async def test_one_whose_sender_is_killed_stands_once(shop: Whole) -> None:
    async with mastodon.mastodon() as server:
        server.hold = asyncio.Event()
        campaign = await draft(shop, server)

        async def posted() -> bool:
            return bool(server.posts)

        async with shop.working(sending=False), process(shop.settings) as sender:
            await shop.call("POST", f"/campaigns/{campaign}/send")
            await eventually(posted)
            sender.send_signal(signal.SIGKILL)
            await sender.wait()
        server.hold.set()
        async with shop.working():
            report = await shop.finished(campaign)
        assert server.asked == 2
        assert len(server.posts) == 1
    assert (report["sent"], report["in_doubt"]) == (1, 0)


async def test_each_occurrence_posts_once_and_quiet_hours_are_of_people(shop: Whole) -> None:
    hours = {"from": "00:00", "to": "23:59"}
    await shop.call("PATCH", "/tenant", {"quiet_hours": hours, "time_zone": "UTC"})
    async with mastodon.mastodon() as server:
        campaign = await draft(shop, server, schedule={"cron": "0 0 1 1 *"})
        async with shop.working():
            await shop.call("POST", f"/campaigns/{campaign}/schedule", {})
            now = datetime.now(UTC)
            for minutes in (2, 2, 1):
                await shop.occur(campaign, now - timedelta(minutes=minutes))
            report = await shop.until(campaign, sent=2)
        assert len(server.posts) == report["audience"] == 2


@pytest.mark.parametrize("verb", ["pause", "cancel"])
async def test_one_that_is_held_or_ended_before_it_went_is_not_posted(shop: Whole, verb: str) -> None:
    async with mastodon.mastodon() as server:
        campaign = await draft(shop, server)
        path = f"/campaigns/{campaign}"
        async with shop.working(sending=False):
            await shop.call("POST", f"{path}/send")
            await shop.until(campaign, queued=1)
            await shop.call("POST", f"{path}/{verb}")
        async with shop.working():
            if verb == "pause":
                assert (await shop.call("POST", f"{path}/resume"))["status"] == "running"
                assert (await shop.finished(campaign))["sent"] == 1
            else:
                assert (await shop.until(campaign, queued=0))["excluded"] == {"cancelled": 1}
        assert len(server.posts) == (verb == "pause")


async def test_a_budget_that_does_not_pay_for_it_posts_nothing(shop: Whole) -> None:
    money = {
        "budget": {"amount": "0.10", "currency": "EUR"},
        "cost": {"per_message": {"amount": "0.25", "currency": "EUR"}},
    }
    async with mastodon.mastodon() as server:
        campaign = await draft(shop, server, **money)
        async with shop.working():
            told = await shop.call("POST", f"/campaigns/{campaign}/audience")
            assert told == {"audience": 1, "queued": 0, "excluded": {"budget": 1}}
            await shop.call("POST", f"/campaigns/{campaign}/send")
            report = await shop.finished(campaign)
        assert (report["excluded"], server.posts) == ({"budget": 1}, {})


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"audience": {"include": ["readers"]}}, "audience.include"),
        ({"audience": {"include": [], "exclude": ["readers"]}}, "audience.exclude"),
        ({"batches": {"size": 10, "every_minutes": 1}}, "batches"),
        ({"schedule": {"at": "2090-01-01T09:00:00", "time_zone": "recipient"}}, "schedule.time_zone"),
        ({"variants": 2}, "variants"),
        ({"ab": {"share": 0.5, "metric": "clicks", "wait_hours": 1}}, "ab"),
        ({"template_id": "of a person"}, "template_id"),
    ],
)
async def test_what_a_post_cannot_have_is_refused_by_its_field(shop: Whole, more: dict[str, Any], field: str) -> None:
    named = {"readers": await shop.segment([]), "of a person": await shop.template("social", "{{ person.email }}", "p")}
    template = await shop.template("social", "Hello")
    body: dict[str, Any] = {"name": "Opening", "channel": "social", "template_id": template} | more
    if "audience" in more:
        body["audience"] = {side: [named[each] for each in keys] for side, keys in more["audience"].items()}
    if "variants" in more:
        body["variants"] = [{"template_id": template}] * body["variants"]
        del body["template_id"]
    elif body["template_id"] in named:
        body["template_id"] = named[body["template_id"]]
    answer = await shop.client.post("/v1/campaigns", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field), answer.text


async def test_nobody_is_sent_a_copy_of_a_post(shop: Whole) -> None:
    template = await shop.template("social", "Hello")
    made = await shop.call("POST", "/campaigns", {"name": "Opening", "channel": "social", "template_id": template})
    assert made["audience"] is None
    answer = await shop.client.post(f"/v1/campaigns/{made['id']}/test", json={"to": ["ann@shop.example"]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "to")
    changed = await shop.client.patch(f"/v1/campaigns/{made['id']}", json={"audience": {"include": [made["id"]]}})
    assert (changed.status_code, changed.json()["errors"][0]["field"]) == (422, "audience.include")
