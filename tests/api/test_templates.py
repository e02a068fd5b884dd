from typing import Any

import pytest
from httpx import AsyncClient, Response

from core.ids import new_id

TEMPLATE: dict[str, Any] = {
    "key": "welcome",
    "channel": "email",
    "subject": "Hello {{ person.first_name }}",
    "body": "<p>Hi {{ person.first_name }}, {{ entry.cart.total }}</p>",
    "from": "Shop <shop@example.com>",
}


def _problems(answer: Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def test_a_template_is_created_read_and_listed(client: AsyncClient) -> None:
    created = await client.post("/v1/templates", json=TEMPLATE)
    assert created.status_code == 201, created.text
    template = created.json()
    assert template | TEMPLATE == template
    assert (template["version"], template["purpose"], template["topic"]) == (1, "marketing", "general")
    assert template["variables"] == ["entry.cart.total", "person.first_name"]
    assert (await client.get(f"/v1/templates/{template['id']}")).json() == template
    assert (await client.get("/v1/templates")).json() == {"items": [template], "next_cursor": None}


async def test_a_known_key_is_a_conflict(client: AsyncClient) -> None:
    await client.post("/v1/templates", json=TEMPLATE)
    again = await client.post("/v1/templates", json=TEMPLATE)
    assert again.status_code == 409
    assert _problems(again) == {"key": "is in use"}


async def test_put_makes_a_new_version_and_keeps_the_old_one(client: AsyncClient) -> None:
    template = (await client.post("/v1/templates", json=TEMPLATE)).json()
    text = {"subject": "New", "body": "<p>New</p>", "purpose": "transactional"}
    replaced = (await client.put(f"/v1/templates/{template['id']}", json=text)).json()
    assert (replaced["id"], replaced["version"], replaced["body"]) == (template["id"], 2, "<p>New</p>")
    assert replaced["version_id"] != template["version_id"]
    assert replaced["purpose"] == "transactional"


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"body": "a\nb {% if x %}"}, "body", "line 2"),
        ({"body": "{{ person.shoe_size }}"}, "body", "line 1: person.shoe_size is not known"),
        ({"body": "{{ person }}"}, "body", "person is not known"),
        ({"subject": "a\n{{ nobody.name }}"}, "subject", "line 2: nobody.name is not known"),
        ({"text_body": "{{ person.first_name | shout }}"}, "text_body", "line 1: there is no filter shout"),
        ({"body": "{% include 'other' %}"}, "body", "line 1: unexpected tag 'include'"),
        ({"body": "{{" * 50_000}, "body", "line 1: `{{` is never closed"),
        ({"subject": "  "}, "subject", "is empty"),
        ({"from": "no address"}, "from", "is not an address"),
        ({"from": "A <a@example.com>\r\nBcc: b@example.com"}, "from", "is not an address"),
        ({"channel": "pigeon"}, "channel", "email"),
        ({"topic": "No Topic"}, "topic", ""),
        ({"mjml": True}, "mjml", ""),
    ],
)
async def test_a_template_that_could_not_be_sent_is_refused(
    client: AsyncClient, change: dict[str, Any], field: str, reason: str
) -> None:
    refused = await client.post("/v1/templates", json=TEMPLATE | change)
    assert refused.status_code == 422, refused.text
    assert reason in _problems(refused)[field]
    assert (await client.get("/v1/templates")).json()["items"] == []


async def test_a_preview_shows_the_mail_of_one_person(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@example.com", "first_name": "<Ann>"})).json()
    text = "<p>Hi {{ person.first_name }}, {{ entry.n | plus: 1 }}</p><a href='https://x.example'>go</a>"
    body = f"<html><body>{text}</body></html>"
    template = (
        await client.post("/v1/templates", json=TEMPLATE | {"subject": "Hello {{ entry.who }}", "body": body})
    ).json()
    path = f"/v1/templates/{template['id']}/preview"
    shown = (
        await client.post(path, json={"person_id": person["id"], "entry": {"n": 1, "who": "<Ann>\r\nBcc: x"}})
    ).json()
    assert shown["subject"] == "Hello <Ann> Bcc: x"
    assert "<p>Hi &lt;Ann&gt;" in shown["html"]
    assert ", 2</p>" in shown["html"]
    assert "Unsubscribe</a></p></body></html>" in shown["html"]
    assert "https://x.example" in shown["text"]


async def test_a_preview_of_a_bomb_is_refused_and_quick(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@example.com"})).json()
    template = (await client.post("/v1/templates", json=TEMPLATE | {"body": "{{ (1..100000000) | join }}"})).json()
    refused = await client.post(f"/v1/templates/{template['id']}/preview", json={"person_id": person["id"]})
    assert refused.status_code == 422
    assert "more than 10000 items" in _problems(refused)["template"]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", ""), ("POST", "/preview")])
async def test_an_unknown_template_is_not_found(client: AsyncClient, method: str, path: str) -> None:
    body = {"GET": None, "PUT": {"subject": "a", "body": "b"}, "POST": {"person_id": str(new_id())}}[method]
    answer = await client.request(method, f"/v1/templates/{new_id()}{path}", json=body)
    assert answer.status_code == 404
