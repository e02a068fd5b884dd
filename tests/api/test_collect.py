"""What a browser may send with a public key, and what becomes of it."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from sqlalchemy import text

from api.tracking.collect import MAX_BYTES, MAX_EVENTS, SCRIPT
from core.actor import CLI
from core.database import Database
from services.events import ingest_sql
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.api.websites import CHROME, ORIGIN, Website, browser, viewed, website
from tests.services.identity.statements import recorded


@pytest.fixture
async def site(client: AsyncClient, anonymous: AsyncClient) -> Website:
    return await website(client, anonymous)


async def events(database: Database, tenant_id: UUID) -> list[Any]:
    async with database.tenant(tenant_id) as session:
        statement = (
            "SELECT * FROM event WHERE tenant_id = :tenant AND type NOT LIKE 'person.%' AND type NOT LIKE 'tenant.%'"
            " ORDER BY position"
        )
        return list((await session.execute(text(statement), {"tenant": tenant_id})).all())


async def test_a_visitor_is_recorded_under_the_browsers_id(site: Website) -> None:
    visitor = browser()
    answer = await site.send(visitor, viewed("/a"), viewed("/b"))
    assert (answer.status_code, answer.json()) == (
        202,
        {"accepted": 2, "rejected": [], "anonymous_id": visitor},
    )
    (person,) = await site.people()
    assert person["lifecycle_stage"] == "visitor"
    assert [item["type"] for item in await site.timeline(person["id"])].count("page.viewed") == 2


@pytest.mark.parametrize(("count", "statement"), [(1, ingest_sql.BY_IDENTIFIER), (3, ingest_sql.KNOWN)])
async def test_a_known_visitors_events_are_one_statement(
    site: Website, monkeypatch: pytest.MonkeyPatch, count: int, statement: str
) -> None:
    visitor = browser()
    await site.send(visitor, viewed())
    statements: list[str] = []
    for name in ("fetch", "execute"):
        method = getattr(asyncpg.Connection, name)

        def noting(
            self: object, query: str, *arguments: object, method: Callable[..., object] = method, **options: object
        ) -> object:
            statements.append(query)
            return method(self, query, *arguments, **options)

        monkeypatch.setattr(asyncpg.Connection, name, noting)
    with recorded() as by_sessions:
        assert (await site.send(visitor, *[viewed()] * count)).status_code == 202
    assert ([sent for sent in statements if "NOTIFY" not in sent], by_sessions) == ([statement], [])


@pytest.mark.parametrize("kind", ["text/plain;charset=UTF-8", "application/json"])
async def test_the_body_may_be_plain_text_which_needs_no_preflight(site: Website, kind: str) -> None:
    body = {"key": site.key, "anonymous_id": browser(), "events": [viewed()]}
    headers = {"Origin": ORIGIN, "User-Agent": CHROME, "Content-Type": kind}
    answer = await site.public.post("/t/e", content=json.dumps(body), headers=headers)
    assert answer.json()["accepted"] == 1
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


async def test_an_event_sent_again_counts_once_and_only_for_its_browser(
    site: Website, database: Database, tenant_id: UUID
) -> None:
    event = {**viewed(), "idempotency_key": "order-1"}
    one, other = browser(), browser()
    assert [(await site.send(who, event)).json()["accepted"] for who in (one, one, other)] == [1, 1, 1]
    assert (await site.send(one, event, event, viewed())).json()["accepted"] == 3
    # a page cannot use up the keys of the shop's server
    mine = {"type": "order.placed", "person": {"email": "ann@shop.example"}, "idempotency_key": "order-1"}
    mine["properties"] = {"total": "1.00", "currency": "EUR"}
    assert (await site.api.post("/v1/events", json=mine)).status_code == 202
    assert [event.type for event in await events(database, tenant_id)] == ["page.viewed"] * 3 + ["order.placed"]


async def test_a_wrong_clock_of_the_browser_does_not_matter(site: Website, database: Database, tenant_id: UUID) -> None:
    ahead = datetime(2041, 1, 1, 12, tzinfo=UTC)
    event = {**viewed(), "occurred_at": (ahead - timedelta(minutes=10)).isoformat()}
    before = datetime.now(UTC)
    assert (await site.send(browser(), event, sent_at=ahead.isoformat())).json()["accepted"] == 1
    (written,) = await events(database, tenant_id)
    assert abs(written.occurred_at - (before - timedelta(minutes=10))) < timedelta(seconds=30)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({"type": "Page Viewed"}, "type"),
        ({"type": "person.subscribed"}, "type"),
        ({"type": "order.placed", "properties": {"total": "9.00", "currency": "EUR"}}, "type"),
        ({"type": "order.anything"}, "type"),
        ({"type": "form.submitted", "properties": {"form_id": "x"}}, "properties.form_id"),
        ({"type": "a.b", "person": {"email": "ann@shop.example"}}, "person"),
        ({"type": "a.b", "properties": {"a": "x" * 40_000}}, "properties"),
        ({"type": "a.b", "idempotency_key": "x" * 101}, "idempotency_key"),
        ({"type": "a.b", "backfill": True}, "backfill"),
        (7, "body"),
    ],
)
async def test_an_event_that_is_refused_does_not_hold_up_the_others(
    site: Website, event: dict[str, Any], field: str
) -> None:
    answer = (await site.send(browser(), viewed(), event, viewed())).json()
    assert answer["accepted"] == 2
    (refused,) = answer["rejected"]
    assert (refused["index"], [error["field"] for error in refused["errors"]]) == (1, [field])


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"anonymous_id": "1"}, 422, "anonymous_id"),
        ({"anonymous_id": "00000000-0000-0000-0000-000000000000"}, 422, "anonymous_id"),
        ({"events": [viewed()] * (MAX_EVENTS + 1)}, 422, "events"),
        ({"events": "all"}, 422, "events"),
        ({"identify": {"attributes": {"vip": True}}}, 422, "identify.attributes"),
        ({"more": 1}, 422, "more"),
        ({"key": "tl_pub_x"}, 401, None),
        ({"key": "tl_live_x"}, 401, None),
        ({"key": "tl_pub_\u20ac" + "x" * 500}, 401, None),
        ({"events": [{"type": "a.b", "properties": {"a": "x" * MAX_BYTES}}]}, 413, None),
    ],
)
async def test_a_visit_that_makes_no_sense_is_refused(
    site: Website, change: dict[str, Any], status: int, field: str | None
) -> None:
    answer = await site.public.post(
        "/t/e",
        json={"key": site.key, "anonymous_id": browser(), "events": [], **change},
        headers={"Origin": ORIGIN, "User-Agent": CHROME},
    )
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert [error["field"] for error in answer.json()["errors"]] == ([field] if field else [])
    assert await site.people() == []


async def test_what_is_not_json_is_refused(site: Website) -> None:
    headers = {"Origin": ORIGIN, "User-Agent": CHROME}
    answer = await site.public.post("/t/e", content="{", headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "body")


async def test_only_the_tenants_own_websites_may_send(site: Website) -> None:
    for origin in ("https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null", ""):
        answer = await site.send(browser(), viewed(), headers={"Origin": origin})
        assert answer.status_code == 403, origin
        assert "access-control-allow-origin" not in answer.headers
    body = {"key": site.key, "anonymous_id": browser(), "events": [viewed()]}
    assert (await site.public.post("/t/e", json=body, headers={"User-Agent": CHROME})).status_code == 403
    assert await site.people() == []


async def test_a_preflight_is_answered_for_allowed_websites_alone(site: Website) -> None:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    good = await site.public.options("/t/e", headers={"Origin": ORIGIN, **asked})
    assert good.status_code == 204
    assert good.headers["access-control-allow-origin"] == ORIGIN
    assert good.headers["access-control-allow-headers"] == "Content-Type"
    for origin in ("https://evil.example", "*", "x" * 400):
        bad = await site.public.options("/t/e", headers={"Origin": origin, **asked})
        assert bad.status_code == 403
        assert "access-control-allow-origin" not in bad.headers


async def test_a_change_of_the_allowed_websites_counts_at_once(site: Website) -> None:
    visitor = browser()
    assert (await site.send(visitor, viewed())).status_code == 202
    await site.api.patch("/v1/tenant", json={"allowed_origins": ["https://other.example"]})
    assert (await site.send(visitor, viewed())).status_code == 403
    assert (await site.public.options("/t/e", headers={"Origin": "https://other.example"})).status_code == 204


async def test_a_revoked_key_is_refused_at_once(site: Website) -> None:
    assert (await site.send(browser(), viewed())).status_code == 202
    (key,) = (await site.api.get("/v1/write-keys")).json()["items"]
    assert (await site.api.delete(f"/v1/write-keys/{key['id']}")).status_code == 204
    assert (await site.send(browser(), viewed())).status_code == 401
    (key,) = (await site.api.get("/v1/write-keys")).json()["items"]
    assert key["revoked_at"] is not None
    assert (await site.api.delete(f"/v1/write-keys/{uuid4()}")).status_code == 404


async def test_write_keys_are_listed_a_page_at_a_time(site: Website) -> None:
    for name in ("two", "three"):
        await site.api.post("/v1/write-keys", json={"name": name})
    first = (await site.api.get("/v1/write-keys", params={"limit": 2})).json()
    rest = (await site.api.get("/v1/write-keys", params={"cursor": first["next_cursor"]})).json()
    assert [key["name"] for key in first["items"] + rest["items"]] == ["three", "two", "Shop"]
    assert rest["next_cursor"] is None


async def test_a_write_key_opens_nothing_else(site: Website, app: FastAPI) -> None:
    async with serving(app, site.key) as thief:
        for method, path in (("GET", "/v1/people"), ("POST", "/v1/events"), ("GET", "/v1/write-keys")):
            assert (await thief.request(method, path)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"User-Agent": ""},
        {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"},
        {"User-Agent": "curl/8.5.0"},
        {"User-Agent": CHROME.replace("Chrome/", "HeadlessChrome/")},
        {"User-Agent": "x" * 2_000},
        {"Sec-CH-UA": '"HeadlessChrome";v="138", "Chromium";v="138"'},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
    ],
)
async def test_machines_are_answered_and_count_for_nothing(site: Website, headers: dict[str, str]) -> None:
    answer = await site.send(browser(), viewed(), headers=headers)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 0)
    assert await site.people() == []


async def test_who_sends_too_much_is_told_to_wait(app: FastAPI, site: Website, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = app.state.resources.visits
    monkeypatch.setattr(buckets, "_burst", 2)
    monkeypatch.setattr(buckets, "_rate", 0.001)
    visitor = browser()
    answers = [await site.send(visitor, viewed()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [202, 202, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    assert answers[2].headers["access-control-allow-origin"] == ORIGIN


async def test_a_caller_is_counted_by_the_network_he_has_all_addresses_of(
    app: FastAPI, site: Website, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = app.state.resources.visits
    monkeypatch.setattr(buckets, "_burst", 1)
    monkeypatch.setattr(buckets, "_rate", 0.001)
    answers: list[int] = []
    for host in ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1", "192.0.2.1", "192.0.2.2", "::ffff:192.0.2.1"):
        async with serving(app, host=host) as public:
            answers.append((await replace(site, public=public).send(browser(), viewed())).status_code)
    assert answers == [202, 429, 202, 202, 202, 429]


async def test_a_visitor_who_says_who_he_is_keeps_his_history(site: Website) -> None:
    visitor = browser()
    await site.send(visitor, viewed("/before"))
    assert await site.identify(visitor, email="Ann@shop.example", first_name="Ann", locale="de_AT") == visitor
    await site.send(visitor, viewed("/after"))
    (person,) = await site.people()
    assert (person["email"], person["first_name"], person["locale"]) == ("ann@shop.example", "Ann", "de-AT")
    seen = [item for item in await site.timeline(person["id"]) if item["type"] == "page.viewed"]
    assert len(seen) == 2
    assert await site.identify(visitor, email="ann@shop.example") == visitor


async def test_a_visitor_who_turns_out_to_be_known_brings_his_history(site: Website) -> None:
    ann = (await site.api.post("/v1/people", json={"email": "ann@shop.example", "phone": "+493012345678"})).json()
    for traits in ({"email": "ann@shop.example"}, {"phone": "+493012345678"}):
        visitor = browser()
        await site.send(visitor, viewed(), viewed())
        assert await site.identify(visitor, **traits) == visitor
        await site.send(visitor, viewed())
    (person,) = await site.people()
    assert person["id"] == ann["id"]
    assert [item["type"] for item in await site.timeline(ann["id"])].count("page.viewed") == 6


async def test_browsers_that_all_say_the_same_at_once_end_as_one_person(site: Website) -> None:
    browsers = [browser() for _ in range(6)]
    await asyncio.gather(*(site.send(visitor, viewed()) for visitor in browsers))
    told = await asyncio.gather(*(site.identify(visitor, email="ann@shop.example") for visitor in browsers * 2))
    assert set(told) >= set(browsers)
    assert [person["email"] for person in await site.people() if person["email"]] == ["ann@shop.example"]
    for visitor in browsers:
        await site.send(visitor, {"type": "who.am_i"})
    (ann,) = await site.people()
    types = [item["type"] for item in await site.timeline(ann["id"])]
    assert (types.count("page.viewed"), types.count("who.am_i")) == (6, 6)


async def test_people_who_fight_over_one_browser_stay_apart(site: Website) -> None:
    """peers.md row 21, at once."""
    shared = browser()
    await site.send(shared, viewed())
    emails = [f"p{number}@shop.example" for number in range(6)]
    told = await asyncio.gather(*(site.identify(shared, email=email) for email in emails * 2))
    people = {person["email"]: person["id"] for person in await site.people()}
    assert sorted(people) == emails
    assert told.count(shared) >= 1
    for email, visitor in zip(emails * 2, told, strict=True):
        await site.send(visitor, {"type": "who.am_i", "properties": {"email": email}})
    for email, person_id in people.items():
        acted = [item for item in await site.timeline(person_id) if item["type"] == "who.am_i"]
        assert [item["properties"]["email"] for item in acted] == [email] * 2


async def test_two_known_people_on_one_browser_stay_two(site: Website) -> None:
    """peers.md row 21: never merged, no refusal to the browser; the second gets a browser's id of his own."""
    shared = browser()
    for name in ("ann", "bob"):
        await site.api.post("/v1/people", json={"email": f"{name}@shop.example"})
    assert await site.identify(shared, email="ann@shop.example") == shared
    bobs = await site.identify(shared, email="bob@shop.example")
    assert bobs != shared
    carls = await site.identify(bobs, email="carl@shop.example")  # whom nobody knew
    assert carls not in {shared, bobs}
    for visitor, path in ((shared, "/ann"), (bobs, "/bob"), (carls, "/carl")):
        assert (await site.send(visitor, viewed(path))).json()["accepted"] == 1
    people = {person["email"]: person["id"] for person in await site.people()}
    assert set(people) == {"ann@shop.example", "bob@shop.example", "carl@shop.example"}
    for name in ("ann", "bob", "carl"):
        seen = [item for item in await site.timeline(people[f"{name}@shop.example"]) if item["type"] == "page.viewed"]
        assert len(seen) == 1


async def test_a_page_cannot_change_where_a_known_person_is_reached(site: Website) -> None:
    known = {"email": "ann@shop.example", "phone": "+493012345678", "external_id": "42"}
    ann = (await site.api.post("/v1/people", json=known)).json()
    bare = (await site.api.post("/v1/people", json={"external_id": "7"})).json()
    for traits in (
        {"external_id": "42", "email": "thief@evil.example"},
        {"external_id": "7", "email": "thief@evil.example"},
        {"email": "ann@shop.example", "phone": "+493087654321"},
        {"email": "ann@shop.example", "external_id": "666"},
    ):
        await site.identify(browser(), **traits)
    for person in (ann, bare):
        now = (await site.api.get(f"/v1/people/{person['id']}")).json()
        assert {name: now[name] for name in known} == {name: person[name] for name in known}
    await site.identify(browser(), phone="+493012345678", email="new@shop.example")
    emails = {person["email"] for person in await site.people()}
    assert emails == {"ann@shop.example", None, "new@shop.example"}


async def test_an_older_address_finds_a_person_who_still_shows_the_newer(site: Website) -> None:
    for known in ({"email": "old@shop.example", "phone": "+493012345678"}, {"email": "new@shop.example"}):
        await site.api.post("/v1/people", json={**known, "external_id": "42"})
    visitor = browser()
    assert await site.identify(visitor, email="old@shop.example", first_name="Ann") == visitor
    (person,) = await site.people()
    assert (person["email"], person["first_name"]) == ("new@shop.example", "Ann")


@pytest.mark.parametrize("address", [{"email": "evil@evil.example"}, {"phone": "+493012345678"}])
@pytest.mark.parametrize("known", [False, True])
async def test_nobody_can_claim_the_id_of_a_customer_to_come(
    site: Website, address: dict[str, str], *, known: bool
) -> None:
    if known:
        await site.identify(browser(), **address)
    await site.identify(browser(), **address, external_id="10432")
    customer = await site.api.post("/v1/people", json={"external_id": "10432"})
    assert customer.status_code == 201
    assert len(await site.people()) == 2


async def test_a_customers_id_alone_is_taken_and_then_gains_no_address(site: Website) -> None:
    visitor = browser()
    assert await site.identify(visitor, external_id="10432") == visitor
    await site.identify(visitor, external_id="10432", email="evil@evil.example", phone="+493012345678")
    await site.identify(visitor, email="evil@evil.example")
    people = {person["external_id"]: person["email"] for person in await site.people()}
    assert people == {"10432": None, None: "evil@evil.example"}


async def test_identifiers_of_two_people_are_no_conflict_for_a_browser(site: Website) -> None:
    await site.api.post("/v1/people", json={"email": "ann@shop.example"})
    bob = (await site.api.post("/v1/people", json={"external_id": "bob"})).json()
    visitor = browser()
    await site.identify(visitor, email="ann@shop.example", external_id="bob")
    await site.send(visitor, viewed())
    assert "page.viewed" in [item["type"] for item in await site.timeline(bob["id"])]


async def test_a_wrong_address_does_not_cost_the_events(site: Website) -> None:
    answer = await site.send(browser(), viewed(), identify={"email": "ann"})
    assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
    (refused,) = answer.json()["rejected"]
    assert (refused["index"], refused["errors"][0]["field"]) == (None, "identify.email")


async def test_the_document_of_the_api_says_what_may_be_sent(anonymous: AsyncClient) -> None:
    document = (await anonymous.get("/v1/openapi.json")).json()
    assert "#/$defs" not in json.dumps(document)
    content = document["paths"]["/t/e"]["post"]["requestBody"]["content"]["application/json"]
    assert "idempotency_key" in content["schema"]["properties"]["events"]["items"]["properties"]
    assert "external_id" in content["schema"]["properties"]["identify"]["properties"]


async def test_the_script_is_small_and_kept_by_browsers(anonymous: AsyncClient) -> None:
    answer = await anonymous.get("/t/throughline.js", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.content == SCRIPT
    assert int(answer.headers["content-length"]) < 4_000
    assert answer.headers["cache-control"] == "public, max-age=3600"
    again = await anonymous.get("/t/throughline.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await anonymous.get("/t/throughline.js", headers={"Accept-Encoding": "identity"})).content == SCRIPT
    assert (await anonymous.head("/t/throughline.js")).content == b""


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://Shop.Example", "https://shop.example"),
        ("https://shop.example:443", "https://shop.example"),
        ("https://shop.example:8443", "https://shop.example:8443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:5173", "http://[::1]:5173"),
    ],
)
async def test_a_website_is_kept_as_browsers_name_it(client: AsyncClient, given: str, kept: str) -> None:
    answer = await client.patch("/v1/tenant", json={"allowed_origins": [given, kept]})
    assert answer.json()["allowed_origins"] == [kept]


@pytest.mark.parametrize(
    "given",
    [
        "*",
        "https://*.shop.example",
        "shop.example",
        "https://shop.example/",
        "https://shop.example/shop",
        "https://shop.example?a",
        "https://ann@shop.example",
        "http://shop.example",
        "ftp://shop.example",
        "https://",
        "https://shop.example:port",
        "https://shop .example",
        "https://shop\n.example",
        "https://-shop.example",
        "null",
        "",
    ],
)
async def test_what_is_no_origin_is_named(client: AsyncClient, given: str) -> None:
    answer = await client.patch("/v1/tenant", json={"allowed_origins": [ORIGIN, given]})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "allowed_origins.1")
    assert (await client.get("/v1/tenant")).json()["allowed_origins"] == []


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/write-keys", "events:write"),
        ("GET", "/v1/write-keys", "events:read"),
        ("DELETE", f"/v1/write-keys/{UUID(int=1)}", "events:write"),
    ],
)
async def test_write_keys_ask_for_the_scope_of_events(
    app: FastAPI, database: Database, tenant_id: UUID, method: str, path: str, scope: str
) -> None:
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "test", ["people:write"], by=CLI))[1]
    async with serving(app, secret) as client:
        answer = await client.request(method, path, json={"name": "x"})
    assert (answer.status_code, answer.json()["required_scope"]) == (403, scope)
