"""Campaigns and a journey of text messages and push messages as their user has them, by the API and to the end."""

import re
from typing import Any

from tests.eventually import eventually
from tests.factories.whole import Whole
from tests.providers import fcm, twilio

NUMBERS = {"ann": "+4915112345601", "bob": "+4915112345602", "cyd": "+4915112345603", "dan": "+4915112345604"}
BROWSER = {"User-Agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) Version/17.5 Safari/604.1"}
BODY = "Hi {{ person.first_name }}: https://shop.example/sale?x=1"


async def texting(shop: Whole, server: twilio.Twilio) -> dict[str, Any]:
    return await shop.account("twilio", server.config(), {"auth_token": twilio.TOKEN})


async def draft(shop: Whole, channel: str, people: list[str], template: str, **more: Any) -> str:  # noqa: ANN401 - JSON
    audience = {"include": [await shop.segment(people)]}
    body = {"name": "Sale", "channel": channel, "audience": audience, "template_id": template}
    return (await shop.call("POST", "/campaigns", body | more))["id"]


async def status_of(shop: Whole, person: str, channel: str) -> dict[str, str]:
    found = (await shop.call("GET", f"/people/{person}/consent"))["current"]
    return {each["topic"]: each["status"] for each in found if each["channel"] == channel}


async def test_a_campaign_of_text_messages_from_its_audience_to_its_report(shop: Whole) -> None:
    people = {
        name: await shop.person(("sms",), first_name=name, phone=number)
        for name, number in NUMBERS.items()
        if name != "dan"
    }
    people["dan"] = await shop.person(("email",), first_name="dan", phone=NUMBERS["dan"])
    people["eve"] = await shop.person(("sms",), first_name="eve", email="eve@shop.example")
    costs = {"cost": {"per_message": {"amount": "0.0750", "currency": "EUR"}}}
    async with twilio.twilio() as server:
        account = await texting(shop, server)
        template = await shop.template("sms", BODY)
        utm = {"utm": {"source": "texts"}, "key": "sale"}
        campaign = await draft(shop, "sms", list(people.values()), template, **costs, **utm)
        told = await shop.call("POST", f"/campaigns/{campaign}/audience")
        assert told == {"audience": 5, "queued": 3, "excluded": {"no_consent": 1, "no_address": 1}}
        async with shop.working():
            await shop.call("POST", f"/campaigns/{campaign}/send")
            report = await shop.finished(campaign)
            assert {name: report[name] for name in told} == told | {"queued": 0}
            assert (report["sent"], report["spend"]["amount"]) == (3, "0.23")
            sent = {each["To"]: each for each in server.sent}
            assert sorted(sent) == sorted(NUMBERS[name] for name in ("ann", "bob", "cyd"))
            ann = sent[NUMBERS["ann"]]
            assert ann["Body"].endswith("\nReply STOP to opt out.")

            # a person follows the link, a machine another's
            await shop.a_while_later()
            for name, headers in (("ann", BROWSER), ("bob", {"User-Agent": "Twitterbot/1.0"})):
                [path] = re.findall(r"(/t/l/[\w-]+)", sent[NUMBERS[name]]["Body"])
                led = await shop.client.get(path, headers=headers)
                assert led.headers["location"] == "https://shop.example/sale?x=1&utm_source=texts&utm_campaign=sale"

            # receipts and answers
            for name, state in (("ann", "delivered"), ("bob", "delivered"), ("cyd", "undelivered")):
                said = {"MessageSid": sent[NUMBERS[name]]["sid"], "MessageStatus": state, "To": NUMBERS[name]}
                await shop.twilio_says(account, **said, **({"ErrorCode": "30005"} if name == "cyd" else {}))
            stop = {"MessageSid": "SM1", "AccountSid": twilio.SID, "From": NUMBERS["bob"], "Body": "Stop"}
            for _ in range(2):
                await shop.twilio_says(account, **stop)
            report = await shop.report(campaign)
    assert (report["sent"], report["delivered"], report["bounced"], report["failed"]) == (3, 2, 1, 0)
    assert (report["clicked"], report["machine_clicked"], report["unsubscribed"]) == (1, 1, 1)
    assert report["rates"]["clicked"] == report["rates"]["unsubscribed"] == 1 / 2
    assert await status_of(shop, people["bob"], "sms") == {"general": "opted_out", "all": "opted_out"}
    told = await shop.call("POST", f"/campaigns/{campaign}/audience")
    assert told["excluded"] == {"no_consent": 1, "no_address": 1, "opted_out": 1, "suppressed": 1}


async def test_what_twilio_refuses_is_in_the_report(shop: Whole) -> None:
    people = [await shop.person(("sms",), phone=NUMBERS[name]) for name in ("ann", "bob")]
    async with twilio.twilio() as server:
        server.refuse[NUMBERS["ann"]] = [(400, 21610)]
        await texting(shop, server)
        campaign = await draft(shop, "sms", people, await shop.template("sms", "Hi"))
        async with shop.working():
            await shop.call("POST", f"/campaigns/{campaign}/send")
            report = await shop.finished(campaign)
    assert (report["sent"], report["failed"], report["audience"]) == (1, 1, 2)
    [failed] = (await shop.call("GET", f"/messages?campaign_id={campaign}&status=failed"))["items"]
    assert (failed["address"], failed["reason"]) == (NUMBERS["ann"], "400 21610 Refused")


async def test_a_campaign_of_push_messages_reaches_each_person_once(shop: Whole) -> None:
    names = ("ann", "bob", "cyd", "dan")
    people = {name: await shop.person(("push",) if name != "dan" else (), first_name=name) for name in names}
    for name, devices in {"ann": ("a1", "a2"), "bob": ("b1",), "dan": ("d1",)}.items():
        for token in devices:
            device = {"token": token, "platform": "android"}
            await shop.call("POST", f"/people/{people[name]}/devices", device)
    async with fcm.fcm() as server:
        server.refuse["b1"] = [(404, "UNREGISTERED")]
        await shop.account("fcm", server.config(), {"private_key": fcm.pem()})
        template = await shop.template(
            "push", "Hi {{ person.first_name }}", title="Sale", link="https://shop.example/sale"
        )
        campaign = await draft(shop, "push", list(people.values()), template)
        told = await shop.call("POST", f"/campaigns/{campaign}/audience")
        assert told == {"audience": 4, "queued": 2, "excluded": {"no_address": 1, "no_consent": 1}}
        async with shop.working():
            await shop.call("POST", f"/campaigns/{campaign}/send")
            report = await shop.finished(campaign)
            assert [(each["token"], each["notification"]["body"]) for each in server.sent] == [("a2", "Hi ann")]
            assert (report["audience"], report["sent"], report["failed"]) == (4, 1, 1)

            async def forgotten() -> bool:
                return (await shop.call("GET", f"/people/{people['bob']}/devices"))["items"] == []

            await eventually(forgotten)
            await shop.a_while_later()
            [message] = server.sent
            link = message["data"]["link"]
            led = await shop.client.get(link.removeprefix(shop.settings.public_url), headers=BROWSER)
            assert led.headers["location"] == "https://shop.example/sale"
            assert (await shop.report(campaign))["clicked"] == 1
    told = await shop.call("POST", f"/campaigns/{campaign}/audience")
    assert told["excluded"] == {"no_address": 2, "no_consent": 1}


async def test_a_journey_of_text_messages_asks_consent_and_ends_on_stop(shop: Whole) -> None:
    ann, bob = [await shop.person(("sms",), first_name=name, phone=NUMBERS[name]) for name in ("ann", "bob")]
    dan = await shop.person(first_name="dan", phone=NUMBERS["dan"])
    async with twilio.twilio() as server:
        account = await texting(shop, server)
        await shop.template("sms", BODY, key="first")
        await shop.template("sms", "Once more", key="second")
        definition = {
            "entry": {"api": True},
            "start": "first",
            "nodes": {
                "first": {"type": "send", "channel": "sms", "template": "first", "next": "wait"},
                "wait": {
                    "type": "wait_for_event",
                    "event": "sms.clicked",
                    "timeout": "P1D",
                    "matched": "second",
                    "timed_out": "done",
                },
                "second": {"type": "send", "channel": "sms", "template": "second", "next": "done"},
                "done": {"type": "exit", "reason": "finished"},
            },
            "exit_when": [{"event": "person.unsubscribed"}],
        }
        made = await shop.call("POST", "/journeys", {"key": "sale", "name": "Sale", "definition": definition})
        await shop.call("POST", f"/journeys/{made['id']}/publish", {"in_flight": "finish"})
        async with shop.working():
            await shop.call("POST", f"/journeys/{made['id']}/enrollments", {"person_ids": [ann, bob, dan]})
            await eventually(lambda: _texts(server, 2))
            await eventually(lambda: _waiting(shop, made["id"], 3))
            first = {each["To"]: each for each in server.sent}
            assert sorted(first) == [NUMBERS["ann"], NUMBERS["bob"]]
            await shop.a_while_later()
            [path] = re.findall(r"(/t/l/[\w-]+)", first[NUMBERS["ann"]]["Body"])
            await shop.client.get(path, headers=BROWSER)
            stop = {"MessageSid": "SM1", "AccountSid": twilio.SID, "From": NUMBERS["bob"], "Body": "STOP"}
            await shop.twilio_says(account, **stop)
            await eventually(lambda: _texts(server, 3))

            async def ended() -> dict[str, str] | None:
                rows = (await shop.call("GET", f"/journeys/{made['id']}/enrollments"))["items"]
                found = {each["person_id"]: each["status"] for each in rows}
                return found if found[ann] == "completed" and found[bob] == "exited" else None

            await eventually(ended)
    assert [(each["To"], each["Body"].splitlines()[0]) for each in server.sent[2:]] == [(NUMBERS["ann"], "Once more")]
    [message] = (await shop.call("GET", f"/messages?person_id={dan}"))["items"]
    assert (message["status"], message["reason"]) == ("excluded", "no_consent")


async def _texts(server: twilio.Twilio, number: int) -> bool:
    return len(server.sent) == number


async def _waiting(shop: Whole, journey: str, number: int) -> bool:
    rows = (await shop.call("GET", f"/journeys/{journey}/enrollments?status=waiting"))["items"]
    return len(rows) == number
