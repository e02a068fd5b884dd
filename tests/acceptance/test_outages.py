"""A provider that is down for an hour in the midst of campaigns: all goes out after it, and what people do counts."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import select

from models import MessagePage
from sender.policy import Policy
from tests.eventually import eventually
from tests.factories import texting
from tests.factories.bad_mail import BadServer, listening
from tests.factories.offices import Office, once

PEOPLE: Final = 60
HOUR: Final = timedelta(hours=1)
SCALE: Final = 20_000
"""How much faster time goes for what waits here."""


async def downed() -> BadServer:
    """Return a server that does not listen, but has a port."""
    server = BadServer()
    async with listening(server):
        pass
    return server


async def until_put_off(office: Office, campaign: str, count: int = PEOPLE) -> None:
    async def put_off() -> bool:
        return (await office.report(campaign))["put_off"] == count

    await eventually(put_off)


async def tries(office: Office) -> int:
    async with office.desk.marketing.session() as session:
        found = await session.scalars(select(MessagePage.attempts).where(MessagePage.tenant_id == session.tenant_id))
        return max(found, default=0)


async def test_after_an_hour_without_the_deployment_s_server_all_go_out(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    server = await downed()
    people = await office.desk.marketing.people(PEOPLE)
    campaign = await office.campaign(people)
    async with office.running(server.url):
        await office.do(campaign, "send")
        await until_put_off(office, campaign)
        assert await office.status(campaign) == "running"
        assert await office.counts(campaign) == {"queued": PEOPLE}
        [first, *_] = (await office.get(f"/messages?campaign_id={campaign}"))["items"]
        assert first["reason"].startswith(f"unreachable: 127.0.0.1:{server.port}: ")
        # However long it lasts it is no refusal of anybody's mail, so it uses up none of its tries.
        assert await tries(office) == 0
        async with listening(server):
            await office.until(campaign, "finished")
    assert server.accepted == once(people)
    assert await office.counts(campaign) == {"sent": PEOPLE}
    assert (await office.report(campaign))["put_off"] == 0
    said = [record.getMessage() for record in caplog.records if record.name == "sender.ways"]
    assert any("channel_unreachable" in line for line in said[:-1])
    assert "channel_reachable" in said[-1]


async def test_after_an_hour_without_a_tenant_s_own_server_all_go_out(office: Office) -> None:
    """Its waits are those of an hour and of a day, each shorter in the same measure."""
    real = Policy()
    policy = Policy(
        pauses=tuple(each / SCALE for each in real.pauses),
        give_up_after=real.give_up_after / SCALE,
        unreachable_pause=timedelta(seconds=0.01),
        poll_seconds=0.02,
    )
    waits = [real.pause(each) for each in range(10)]
    in_an_hour = next(number for number in range(10) if sum(waits[:number], timedelta()) > HOUR)
    server, good = await downed(), BadServer()
    marketing = office.desk.marketing
    await texting.account(marketing.database, marketing.tenant_id, office.settings, "smtp", {"url": server.url}, {})
    people = await marketing.people(PEOPLE)
    campaign = await office.campaign(people)
    async with listening(good), office.running(good.url, policy=policy):
        await office.do(campaign, "send")

        async def an_hour() -> bool:
            return await tries(office) >= in_an_hour

        await eventually(an_hour)
        assert await office.counts(campaign) == {"queued": PEOPLE}
        async with listening(server):
            await office.until(campaign, "finished")
    assert server.accepted == once(people)
    assert not good.accepted
    assert await office.counts(campaign) == {"sent": PEOPLE}


@pytest.mark.parametrize("verb", ["pause", "cancel"])
async def test_what_people_do_during_the_outage_counts(office: Office, verb: str) -> None:
    server = await downed()
    people = await office.desk.marketing.people(PEOPLE)
    campaign = await office.campaign(people)
    async with office.running(server.url):
        await office.do(campaign, "send")
        await until_put_off(office, campaign)
        await office.do(campaign, verb)
        if verb == "cancel":  # told of each although nobody answers
            await office.until_counts(campaign, cancelled=PEOPLE)
        async with listening(server):
            others = await office.desk.marketing.people(5)
            await _sent(office, others)
            assert server.accepted == once(others)
            if verb == "pause":
                assert await office.counts(campaign) == {"queued": PEOPLE}
                await office.do(campaign, "resume")
                await office.until(campaign, "finished")
    assert server.accepted == once(others) + (once(people) if verb == "pause" else once([]))
    assert await office.counts(campaign) == ({"sent": PEOPLE} if verb == "pause" else {"cancelled": PEOPLE})


async def _sent(office: Office, people: list[UUID], **fields: Any) -> None:  # noqa: ANN401 - JSON
    campaign = await office.campaign(people, **fields)
    await office.do(campaign, "send")
    await office.until(campaign, "finished")
