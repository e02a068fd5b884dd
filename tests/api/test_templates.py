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


async def test_mjml_is_sent_as_html_and_shown_as_written(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@example.com", "first_name": "Ann"})).json()
    section = "<mj-section><mj-column><mj-text>Hi {{ person.first_name }}</mj-text></mj-column></mj-section>"
    body = f"<mjml><mj-body>{section}</mj-body></mjml>"
    template = (await client.post("/v1/templates", json=TEMPLATE | {"body": body, "format": "mjml"})).json()
    assert (template["body"], template["format"]) == (body, "mjml")
    shown = (await client.post(f"/v1/templates/{template['id']}/preview", json={"person_id": person["id"]})).json()
    assert "<mj-" not in shown["html"]
    assert "Hi Ann" in shown["html"]
    refused = await client.post("/v1/templates", json=TEMPLATE | {"key": "b", "body": "<mjml>\n", "format": "mjml"})
    assert _problems(refused) == {"body": "line 1: mjml is never closed"}


SHORT: dict[str, Any] = {"key": "short", "body": "Hi {{ person.first_name }}"}
PUSH: dict[str, Any] = {"title": "New", "link": "https://x.example/{{ person.id }}", "image": "https://x.example/a.png"}


@pytest.mark.parametrize(("channel", "more"), [("sms", {}), ("social", {}), ("push", PUSH)])
async def test_each_channel_has_templates(client: AsyncClient, channel: str, more: dict[str, Any]) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@example.com", "first_name": "<Ann>"})).json()
    given = SHORT | more | {"channel": channel}
    created = await client.post("/v1/templates", json=given)
    assert created.status_code == 201, created.text
    template = created.json()
    assert template | given == template
    shown = (await client.post(f"/v1/templates/{template['id']}/preview", json={"person_id": person["id"]})).json()
    assert shown["text"] == "Hi <Ann>"
    assert shown["title"] == more.get("title")
    assert shown["link"] == (f"https://x.example/{person['id']}" if more else None)


@pytest.mark.parametrize(
    ("channel", "change", "field", "reason"),
    [
        ("sms", {"subject": "a"}, "subject", "sms has no subject"),
        ("sms", {"from": "a@example.com"}, "from", "sms has no from"),
        ("sms", {"format": "mjml"}, "format", "sms has no format"),
        ("sms", {"title": "a"}, "title", "sms has no title"),
        ("sms", {"body": "a" * 10_001}, "body", "is longer than"),
        ("social", {"text_body": "a"}, "text_body", "social has no text_body"),
        ("social", {"link": "https://x.example"}, "link", "social has no link"),
        ("push", {"title": None}, "title", "is missing"),
        ("push", {"title": "a", "subject": "a"}, "subject", "push has no subject"),
        (
            "push",
            {"title": "a", "locales": {"de": {"text_body": "a"}}},
            "locales.de.text_body",
            "push has no text_body",
        ),
        ("push", {"title": "a", "link": "{{ x.y }}"}, "link", "x.y is not known"),
        ("email", {"link": "https://x.example", "subject": "a"}, "link", "email has no link"),
        ("email", {}, "subject", "is missing"),
    ],
)
async def test_what_a_channel_does_not_have_is_refused_by_name(
    client: AsyncClient, channel: str, change: dict[str, Any], field: str, reason: str
) -> None:
    refused = await client.post("/v1/templates", json=SHORT | {"channel": channel} | change)
    assert refused.status_code == 422, refused.text
    assert reason in _problems(refused)[field]


async def test_locales_are_checked_kept_and_shown(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@example.com", "locale": "de-AT"})).json()
    german = {"subject": "Hallo", "title": None, "body": "<p>Hallo {{ entry.who }}</p>", "text_body": None}
    template = (await client.post("/v1/templates", json=TEMPLATE | {"locales": {"de": german}})).json()
    assert template["locales"] == {"de": german}
    assert "entry.who" in template["variables"]
    path = f"/v1/templates/{template['id']}/preview"
    shown = (await client.post(path, json={"person_id": person["id"], "entry": {"who": "Welt"}})).json()
    assert (shown["subject"], "Hallo Welt" in shown["text"]) == ("Hallo", True)
    shown = (await client.post(path, json={"person_id": person["id"], "locale": "fr"})).json()
    assert shown["subject"] == "Hello"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"de": {"body": "{{ x"}}, "locales.de.body"),
        ({"not a locale": {"body": "a"}}, "locales.not a locale"),
        ({"de": {}}, "locales.de"),
        ({"de": {"body": "a"}, "DE": {"body": "a"}}, "locales.DE"),
    ]
    for locales, field in wrong:
        text = {"subject": "a", "body": "a", "locales": locales}
        assert field in _problems(await client.put(f"/v1/templates/{template['id']}", json=text))


async def test_an_older_version_is_listed_and_restored(client: AsyncClient) -> None:
    first = TEMPLATE | {"body": "<style>p{color:red}</style><p>One</p>", "locales": {"de": {"body": "<p>Eins</p>"}}}
    template = (await client.post("/v1/templates", json=first)).json()
    path = f"/v1/templates/{template['id']}"
    await client.put(path, json={"subject": "Two", "body": "<p>Two</p>"})
    restored = (await client.post(f"{path}/versions/1/restore")).json()
    told = ("version", "version_id", "version_created_at")
    assert {k: v for k, v in restored.items() if k not in told} == {k: v for k, v in template.items() if k not in told}
    listed = (await client.get(f"{path}/versions?limit=2")).json()
    assert [each["version"] for each in listed["items"]] == [3, 2]
    more = (await client.get(f"{path}/versions", params={"cursor": listed["next_cursor"]})).json()
    assert [each["version"] for each in more["items"]] == [1]
    assert (await client.post(f"{path}/versions/9/restore")).status_code == 404


async def test_a_text_is_previewed_before_it_is_saved(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@example.com", "first_name": "Ann"})).json()
    body = {"person_id": person["id"], "channel": "sms", "template": {"body": "Hi {{ person.first_name }}"}}
    assert (await client.post("/v1/templates/preview", json=body)).json()["text"] == "Hi Ann"
    refused = await client.post("/v1/templates/preview", json=body | {"template": {"body": "{{ x.y }}"}})
    assert "x.y is not known" in _problems(refused)["body"]
    assert (await client.get("/v1/templates")).json()["items"] == []


@pytest.mark.parametrize(
    ("channel", "template", "expected"),
    [
        (
            "email",
            {
                "subject": "a" * 61,
                "body": "<p>\n<a href='/sale'>a</a><a href='http://x.example'>b</a><a href=''>c</a>"
                "<a href='{{ unsubscribe_url }}'>d</a>\n<a href='javascript:alert(1)'>e</a>"
                "<a href='http://localhost/'>f</a><img src='a.png'><a href='https://x.example'>g</a>"
                "<!-- <img src='b.png'> --><img src='https://x.example/{{ person.id }}' alt=''>",
            },
            [
                ("error", "postal_address", "body", None),
                ("error", "relative_link", "body", 2),
                ("error", "unsafe_link", "body", 3),
                ("error", "relative_image", "body", 3),
                ("warning", "http_link", "body", 2),
                ("warning", "empty_link", "body", 2),
                ("warning", "local_link", "body", 3),
                ("warning", "no_alt", "body", 3),
                ("warning", "long_subject", "subject", None),
            ],
        ),
        (
            "email",
            {"subject": "a", "body": "a\n{{ person.shoe }}", "purpose": "transactional"},
            [("error", "invalid", "body", 2)],
        ),
        (
            "email",
            {
                "subject": "a",
                "body": "{{ person.attributes.sise }}",
                "purpose": "transactional",
                "locales": {"de": {"body": "<p>" + "a" * 102_400}},
            },
            [("warning", "unknown_attribute", "body", None), ("warning", "clipped", "locales.de.body", None)],
        ),
        (
            "sms",
            {"body": "\u4f60 {{ person.first_name }}" + "a" * 70, "purpose": "transactional"},
            [("warning", "text", "body", None)] * 2,
        ),
        ("sms", {"body": "a" * 1_601, "purpose": "transactional"}, [("error", "too_long", "body", None)]),
        ("push", {"title": "a", "body": "\U0001f600" * 999 + "a" * 200}, [("error", "too_large", "body", None)]),
        ("social", {"body": "a" * 501}, [("warning", "text", "body", None)]),
        ("social", {"body": "a" * 500}, []),
    ],
    ids=range(8),
)
async def test_a_text_is_looked_at_before_it_goes_to_many(
    client: AsyncClient, channel: str, template: dict[str, Any], expected: list[tuple[Any, ...]]
) -> None:
    answer = await client.post("/v1/templates/lint", json={"channel": channel, "template": template})
    assert answer.status_code == 200, answer.text
    found = [(each["level"], each["code"], each["field"], each["line"]) for each in answer.json()["findings"]]
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) or channel in {"sms", "push"}


async def test_a_saved_template_is_looked_at(client: AsyncClient) -> None:
    template = (await client.post("/v1/templates", json=TEMPLATE)).json()
    found = (await client.post(f"/v1/templates/{template['id']}/lint")).json()["findings"]
    assert [(each["level"], each["code"]) for each in found] == [
        ("error", "postal_address"),
        ("info", "unsubscribe_link"),
    ]
    assert (await client.post(f"/v1/templates/{new_id()}/lint")).status_code == 404


async def test_copies_go_to_few_and_are_logged(client: AsyncClient) -> None:
    template = (await client.post("/v1/templates", json=TEMPLATE)).json()
    path = f"/v1/templates/{template['id']}/test"
    answer = await client.post(path, json={"to": ["tester@shop.example"]})
    assert answer.status_code == 200, answer.text
    assert [each["status"] for each in answer.json()["messages"]] == ["queued"]
    shown = {"to": ["tester@shop.example"], "entry": {"total": "5.00"}, "locale": "de"}
    assert (await client.post(path, json=shown)).status_code == 200
    for wrong in ({"locale": "d" * 36}, {"entry": 1}, {"entry": {"total": "\0"}}):
        assert (await client.post(path, json=shown | wrong)).status_code == 422
    refused = await client.post(path, json={"to": [f"t{number}@shop.example" for number in range(11)]})
    assert "at most 10" in _problems(refused)["to"]
    assert (await client.post(f"/v1/templates/{new_id()}/test", json={"to": ["a@shop.example"]})).status_code == 404
