"""Forms as visitors use them: with and without a script, twice, wrongly, and by machines."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response
from sqlalchemy import text

from api.tracking import forms as public_forms
from core.database import Database
from services.identity import lifecycle
from tests.api.conftest import serving
from tests.api.websites import CHROME, LEAD, ORIGIN, Website, browser, viewed, website

PAGE = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Mode": "navigate", "User-Agent": CHROME}
"""What a browser sends that shows a page."""
SCRIPT = {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "User-Agent": CHROME, "Origin": ORIGIN}
SERVER = {"Accept": "application/json", "User-Agent": CHROME}
ANN = {
    "email": "Ann@shop.example",
    "name": "Ann",
    "size": "12",
    "plan": "Pro",
    "news": "true",
    "message": "Hello\r\nyou",
}


@pytest.fixture
async def site(client: AsyncClient, anonymous: AsyncClient) -> Website:
    return await website(client, anonymous)


@pytest.fixture
async def form(site: Website) -> dict[str, Any]:
    return (await site.api.post("/v1/forms", json=LEAD)).json()


@pytest.fixture
async def visitor(app: FastAPI) -> AsyncGenerator[AsyncClient]:
    async with serving(app) as client:
        yield client


async def submitted(database: Database, tenant_id: UUID) -> list[Any]:
    async with database.tenant(tenant_id) as session:
        statement = "SELECT * FROM event WHERE tenant_id = :tenant AND type = 'form.submitted' ORDER BY position"
        return list((await session.execute(text(statement), {"tenant": tenant_id})).all())


def path(form: dict[str, Any]) -> str:
    return f"/forms/{form['public_key']}"


async def test_a_submission_makes_the_lead(
    site: Website, form: dict[str, Any], visitor: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    answer = await visitor.post(path(form), data={**ANN, "utm_source": "ad", "unknown": "x"}, headers=PAGE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "We will write to you." in answer.text
    (person,) = await site.people()
    assert (person["email"], person["first_name"], person["source"]) == ("ann@shop.example", "Ann", "form:lead")
    assert person["attributes"] == {"seats": 12, "plan": "Pro", "utm_source": "ad"}
    (consent,) = person["consent"]
    assert (consent["channel"], consent["topic"], consent["status"]) == ("email", "news", "opted_in")
    (event,) = await submitted(database, tenant_id)
    assert event.person_id == UUID(person["id"])
    assert event.properties["form"] == "lead"
    assert event.properties["form_id"] == form["id"]
    assert event.properties["fields"] == {
        "email": "ann@shop.example",
        "name": "Ann",
        "size": 12,
        "plan": "Pro",
        "news": True,
        "message": "Hello\nyou",
        "utm_source": "ad",
    }
    async with database.tenant(tenant_id) as session:
        await lifecycle.recompute(session, [event.person_id])
    person = (await site.api.get(f"/v1/people/{person['id']}")).json()
    assert (person["is_lead"], person["lifecycle_stage"]) == (True, "lead")
    counted = (await site.api.get(f"/v1/forms/{form['id']}")).json()["submissions"]
    assert counted["count"] == 1
    assert counted["last_at"] is not None


@pytest.mark.parametrize("kind", ["form", "multipart", "json"])
async def test_each_kind_of_body_is_read(site: Website, form: dict[str, Any], visitor: AsyncClient, kind: str) -> None:
    if kind == "form":
        answer = await visitor.post(path(form), data=ANN, headers=SERVER)
    elif kind == "multipart":
        answer = await visitor.post(path(form), files={n: (None, v) for n, v in ANN.items()}, headers=SERVER)
    else:
        answer = await visitor.post(path(form), json={**ANN, "size": 12, "news": True}, headers=SERVER)
    assert answer.json() == {"ok": True, "message": "We will write to you.", "redirect_url": None}
    (person,) = await site.people()
    assert person["attributes"] == {"seats": 12, "plan": "Pro"}


async def test_what_is_no_form_is_refused(form: dict[str, Any], visitor: AsyncClient) -> None:
    for content, kind, status in (
        ("a", "text/plain", 415),
        ("{", "application/json", 400),
        ("[]", "application/json", 422),
        ("a" * 70_000, "application/x-www-form-urlencoded", 413),
        ("&".join(f"f{n}=1" for n in range(300)), "application/x-www-form-urlencoded", 400),
    ):
        answer = await visitor.post(path(form), content=content, headers={**SERVER, "Content-Type": kind})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    for charset in ("undefined", '"unicode_escape"', "utf-16"):
        kind = f"multipart/form-data; Charset={charset}; boundary=x"
        content = b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n\\ud800\r\n--x--\r\n'
        answer = await visitor.post(path(form), content=content, headers={**SERVER, "Content-Type": kind})
        assert (answer.status_code, answer.json()["detail"]) == (415, "Send form fields in UTF-8.")
    files = {"file": ("a.txt", b"a")}
    assert (await visitor.post(path(form), files=files, headers=SERVER)).status_code == 400


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"email": ""}, "email", "is needed"),
    ({"email": "ann"}, "email", "is not an email address"),
    ({"phone": "030 123"}, "phone", "international form"),
    ({"size": "many"}, "size", "must be a number"),
    ({"size": "1" * 30}, "size", "must be a number"),
    ({"plan": "Gold"}, "plan", "one of the choices"),
    ({"name": "A" * 300}, "name", "at most 200"),
    ({"name": "A\x00nn"}, "name", "control characters"),
    ({"message": "x" * 6_000}, "message", "at most 5000"),
    ({"message": "a\x00b"}, "message", "control characters"),
]


@pytest.mark.parametrize(("change", "field", "reason"), WRONG)
async def test_a_wrong_answer_is_named(
    site: Website, form: dict[str, Any], visitor: AsyncClient, change: dict[str, Any], field: str, reason: str
) -> None:
    answer = await visitor.post(path(form), data={**ANN, **change}, headers=SERVER)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert reason in error["reason"]
    assert await site.people() == []


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 7, True])
async def test_json_of_another_type_is_named(form: dict[str, Any], visitor: AsyncClient, value: object) -> None:
    answer = await visitor.post(path(form), json={**ANN, "email": value}, headers=SERVER)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "email")


@pytest.mark.parametrize("number", [10**400, -(10**400), 10**15, 1e300])
async def test_a_number_that_is_too_large_is_named(form: dict[str, Any], visitor: AsyncClient, number: float) -> None:
    answer = await visitor.post(path(form), json={**ANN, "size": number}, headers=SERVER)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "size")


async def test_a_wrong_answer_leads_back_to_the_form_as_it_was_filled_in(
    form: dict[str, Any], visitor: AsyncClient
) -> None:
    answer = await visitor.post(path(form), data={**ANN, "email": '"><b>', "tl_submission": str(uuid4())}, headers=PAGE)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "text/html; charset=utf-8")
    page = answer.text
    assert "<title>Please check: Talk to us</title>" in page
    assert 'role="alert"' in page
    assert '<a href="#tl-lead-email">Email</a>' in page
    assert re.search(r'id="tl-lead-email"[^>]* aria-invalid="true" aria-describedby="tl-lead-email-error"', page)
    assert 'value="&quot;&gt;&lt;b&gt;"' in page
    assert 'value="Ann"' in page
    assert "<option selected>Pro</option>" in page
    assert re.search(r'id="tl-lead-news"[^>]* checked', page)
    assert "Hello\r\nyou</textarea>" in page


async def test_people_are_led_on_where_the_form_says_so(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    target = "https://shop.example/thanks?a=b"
    await site.api.patch(f"/v1/forms/{form['id']}", json={"redirect_url": target})
    answer = await visitor.post(path(form), data=ANN, headers=PAGE)
    assert (answer.status_code, answer.headers["location"]) == (303, target)
    assert (await visitor.post(path(form), data=ANN, headers=SERVER)).json()["redirect_url"] == target
    shown = await visitor.get(path(form))
    assert "form-action 'self' https://shop.example;" in shown.headers["content-security-policy"]


async def test_a_double_click_is_one_submission(
    site: Website, form: dict[str, Any], visitor: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    async def send(submission: str) -> Response:
        return await visitor.post(path(form), data={**ANN, "tl_submission": submission}, headers=PAGE)

    once = str(uuid4())
    answers = await asyncio.gather(*(send(once) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(await submitted(database, tenant_id)) == 1
    await send(str(uuid4()))
    assert len(await submitted(database, tenant_id)) == 2
    assert len(await site.people()) == 1


async def test_the_visitor_keeps_what_he_did_before(site: Website, form: dict[str, Any], visitor: AsyncClient) -> None:
    mine = browser()
    await site.send(mine, viewed("/pricing"))
    answer = await visitor.post(path(form), data={**ANN, "tl_anonymous_id": mine}, headers=SCRIPT)
    assert answer.json()["anonymous_id"] == mine
    (person,) = await site.people()
    types = [item["type"] for item in await site.timeline(person["id"])]
    assert {"page.viewed", "form.submitted"} <= set(types)


async def test_a_visitor_who_turns_out_to_be_known_is_the_known_one(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    ann = (await site.api.post("/v1/people", json={"email": "ann@shop.example"})).json()
    mine = browser()
    await site.send(mine, viewed("/pricing"))
    answer = await visitor.post(path(form), data={**ANN, "tl_anonymous_id": mine}, headers=SCRIPT)
    assert answer.json()["anonymous_id"] == mine
    (person,) = await site.people()
    assert person["id"] == ann["id"]
    assert {"page.viewed", "form.submitted"} <= {item["type"] for item in await site.timeline(ann["id"])}


async def test_somebody_else_on_the_same_browser_stays_somebody_else(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    shared = browser()
    await site.identify(shared, email="bob@shop.example")
    answer = await visitor.post(path(form), data={**ANN, "tl_anonymous_id": shared}, headers=SCRIPT)
    assert answer.json()["anonymous_id"] != shared
    assert {person["email"] for person in await site.people()} == {"ann@shop.example", "bob@shop.example"}


async def test_identifiers_of_two_people_go_to_the_owner_of_the_email(
    site: Website, form: dict[str, Any], visitor: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    ann = (await site.api.post("/v1/people", json={"email": "ann@shop.example"})).json()
    bob = (await site.api.post("/v1/people", json={"phone": "+493012345678"})).json()
    answer = await visitor.post(path(form), data={**ANN, "phone": "+49 30 12345678"}, headers=SERVER)
    assert answer.status_code == 200
    (event,) = await submitted(database, tenant_id)
    assert event.person_id == UUID(ann["id"])
    assert event.properties["fields"]["phone"] == "+493012345678"
    assert (await site.api.get(f"/v1/people/{bob['id']}")).json()["phone"] == "+493012345678"


async def test_a_form_fills_in_a_phone_number_that_was_unknown(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    for phone in ("+493012345678", "+493087654321"):
        await visitor.post(path(form), data={**ANN, "phone": phone}, headers=SERVER)
    (person,) = await site.people()
    assert person["phone"] == "+493012345678"


async def test_an_older_address_leads_to_the_person_but_is_not_shown_again(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    for email in ("ann@shop.example", "new@shop.example"):
        await site.api.post("/v1/people", json={"email": email, "external_id": "42"})
    await visitor.post(path(form), data=ANN, headers=SERVER)
    (person,) = await site.people()
    assert (person["email"], person["first_name"]) == ("new@shop.example", "Ann")
    assert person["consent"] == []  # it was not given for the address that is written to


async def test_an_unticked_box_takes_nothing_back(site: Website, form: dict[str, Any], visitor: AsyncClient) -> None:
    for news in ("true", ""):
        await visitor.post(path(form), data={**ANN, "news": news}, headers=SERVER)
    (person,) = await site.people()
    assert [consent["status"] for consent in person["consent"]] == ["opted_in"]


async def test_a_consent_keeps_its_words_and_how_it_came(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    sent = {**ANN, "tl_url": "https://shop.example/contact"}
    assert (await visitor.post(path(form), data=sent, headers=SCRIPT)).is_success
    (person,) = await site.people()
    (entry,) = (await site.api.get(f"/v1/people/{person['id']}/consent")).json()["history"]["items"]
    assert (entry["status"], entry["wording"], entry["source"]) == ("opted_in", "Yes, send me news.", "form:lead")
    assert entry["actor"] == f"form:{form['id']}"
    assert entry["evidence"] == {
        "form_id": form["id"],
        "ip": "127.0.0.1",
        "user_agent": CHROME,
        "url": "https://shop.example/contact",
    }


async def test_a_topic_with_double_opt_in_waits_for_the_person(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    topic = {"key": "news", "name": "News", "channels": ["email"], "double_opt_in": True}
    assert (await site.api.post("/v1/topics", json=topic)).status_code == 201
    await visitor.post(path(form), data=ANN, headers=SERVER)
    (person,) = await site.people()
    assert [consent["status"] for consent in person["consent"]] == ["pending"]


async def test_nobody_agrees_for_an_address_the_form_was_not_given(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    texts = {"channel": "sms", "topic": "news", "wording": "By sending this you agree to texts."}
    await site.api.patch(f"/v1/forms/{form['id']}", json={"consent": [texts]})
    await site.api.post("/v1/people", json={"email": "ann@shop.example", "phone": "+493012345678"})
    for phone in ("", "+493087654321"):  # the first agrees to nothing, the second for a number that is not hers
        await visitor.post(path(form), data={**ANN, "phone": phone}, headers=SERVER)
    (person,) = await site.people()
    assert person["consent"] == []
    await visitor.post(path(form), data={**ANN, "phone": "+493012345678"}, headers=SERVER)
    (person,) = await site.people()
    assert [(consent["channel"], consent["status"]) for consent in person["consent"]] == [("sms", "opted_in")]


@pytest.mark.parametrize(
    ("answers", "headers"),
    [
        ({"tl_website": "https://spam.example"}, {}),
        ({}, {"User-Agent": "python-requests/2.32"}),
        ({}, {"User-Agent": ""}),
    ],
)
async def test_machines_are_thanked_and_forgotten(
    site: Website, form: dict[str, Any], visitor: AsyncClient, answers: dict[str, str], headers: dict[str, str]
) -> None:
    answer = await visitor.post(path(form), data={**ANN, **answers}, headers={**PAGE, **headers})
    assert "We will write to you." in answer.text
    assert await site.people() == []


async def test_a_shops_own_server_may_pass_a_form_on(site: Website, form: dict[str, Any], visitor: AsyncClient) -> None:
    await visitor.post(path(form), json=ANN, headers={"User-Agent": "python-requests/2.32"})
    assert len(await site.people()) == 1


async def test_haste_is_asked_to_send_again(
    site: Website, form: dict[str, Any], visitor: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = (await visitor.get(path(form), headers=PAGE)).text
    own = dict(re.findall(r'type="hidden" name="(tl_\w+)" value="([^"]+)"', shown))
    assert set(own) == {"tl_submission", "tl_token"}
    hasty = await visitor.post(path(form), data={**ANN, **own}, headers=PAGE)
    assert hasty.status_code == 422
    assert "send it once more" in hasty.text
    forged = await visitor.post(path(form), data={**ANN, "tl_token": own["tl_token"][:-2] + "AA"}, headers=PAGE)
    assert forged.status_code == 422
    assert await site.people() == []
    monkeypatch.setattr(public_forms, "LEAST_SECONDS", 0)
    assert (await visitor.post(path(form), data={**ANN, **own}, headers=PAGE)).status_code == 200
    assert len(await site.people()) == 1


async def test_a_script_posts_from_the_tenants_websites_alone(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    good = await visitor.post(path(form), data=ANN, headers=SCRIPT)
    assert good.headers["access-control-allow-origin"] == ORIGIN
    wrong = await visitor.post(path(form), data={"email": "ann"}, headers=SCRIPT)
    assert (wrong.status_code, wrong.headers["access-control-allow-origin"]) == (422, ORIGIN)
    for mode in ("cors", "no-cors"):
        headers = {**SCRIPT, "Origin": "https://evil.example", "Sec-Fetch-Mode": mode}
        bad = await visitor.post(path(form), data={**ANN, "email": "bob@shop.example"}, headers=headers)
        assert bad.status_code == 403
        assert "access-control-allow-origin" not in bad.headers
    assert [person["email"] for person in await site.people()] == ["ann@shop.example"]
    asked = {"Access-Control-Request-Method": "POST"}
    assert (await visitor.options(path(form), headers={"Origin": ORIGIN, **asked})).status_code == 204
    assert (await visitor.options(path(form), headers={"Origin": "https://evil.example", **asked})).status_code == 403
    assert (await visitor.options("/forms/none", headers={"Origin": ORIGIN, **asked})).status_code == 404


async def test_a_plain_post_is_taken_from_any_page(site: Website, form: dict[str, Any], visitor: AsyncClient) -> None:
    answer = await visitor.post(path(form), data=ANN, headers={**PAGE, "Origin": "https://partner.example"})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers
    assert len(await site.people()) == 1


async def test_a_form_that_is_not_enabled_is_not_there(
    site: Website, form: dict[str, Any], visitor: AsyncClient
) -> None:
    await site.api.patch(f"/v1/forms/{form['id']}", json={"enabled": False})
    for address in (path(form), "/forms/none", "/forms/%F0%9F%98%80"):
        assert (await visitor.get(address, headers=PAGE)).status_code == 404
        assert (await visitor.post(address, data=ANN, headers=PAGE)).status_code == 404
        problem = await visitor.post(address, data=ANN, headers=SERVER)
        assert (problem.status_code, problem.headers["content-type"]) == (404, "application/problem+json")
    assert await site.people() == []


async def test_the_form_shows_as_a_page(form: dict[str, Any], visitor: AsyncClient) -> None:
    shown = await visitor.get(path(form), params={"email": "ann@shop.example", "utm_source": "ad"}, headers=PAGE)
    assert shown.status_code == 200
    assert 'value="ann@shop.example"' in shown.text
    assert 'name="utm_source" value="ad"' in shown.text
    assert "<script" not in shown.text
    assert shown.headers["cache-control"] == "no-store"
    assert f"frame-ancestors {ORIGIN};" in shown.headers["content-security-policy"]
    assert (await visitor.head(path(form))).status_code == 200


async def test_an_optional_address_may_be_left_out_by_a_visitor_who_has_an_id(
    site: Website, visitor: AsyncClient
) -> None:
    fields = [{"name": "email", "label": "Email", "type": "email", "maps_to": "email"}]
    form = (await site.api.post("/v1/forms", json={"key": "survey", "name": "Survey", "fields": fields})).json()
    nobody = await visitor.post(path(form), data={"email": ""}, headers=SERVER)
    assert (nobody.status_code, nobody.json()["errors"]) == (422, [{"field": "email", "reason": "is needed"}])
    assert (await visitor.post(path(form), data={"tl_anonymous_id": browser()}, headers=SERVER)).status_code == 200
    assert len(await site.people()) == 1


async def test_who_submits_too_much_is_told_to_wait(
    app: FastAPI, form: dict[str, Any], visitor: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    buckets = app.state.resources.submissions
    monkeypatch.setattr(buckets, "_burst", 1)
    monkeypatch.setattr(buckets, "_rate", 0.001)
    assert [(await visitor.post(path(form), data=ANN, headers=SERVER)).status_code for _ in range(2)] == [200, 429]
    assert (await visitor.post(path(form), data=ANN, headers=PAGE)).status_code == 429
    for host, status in (("2001:db8::1", 200), ("2001:db8::2", 429)):
        async with serving(app, host=host) as elsewhere:
            assert (await elsewhere.post(path(form), data=ANN, headers=SERVER)).status_code == status
