"""Partials by the API: put into templates when those are saved, changed, and applied."""

from typing import Any
from uuid import UUID

import pytest
from httpx import AsyncClient, Response
from sqlalchemy import select

from core.database import Database
from models import TemplateVersion

FOOT = "<p>{{ tenant.name }}</p>"
MAIL: dict[str, Any] = {"channel": "email", "subject": "Hello", "purpose": "transactional"}
TEXT = "{% render 'foot' %}"


async def partial(client: AsyncClient, key: str = "foot", body: str = FOOT, channel: str = "email") -> str:
    made = await client.post("/v1/template-partials", json={"key": key, "channel": channel, "body": body})
    assert made.status_code == 201, made.text
    return made.json()["id"]


async def template(client: AsyncClient, key: str = "hello", body: str = f"Hi {TEXT}", **more: object) -> str:
    made = await client.post("/v1/templates", json=MAIL | {"key": key, "body": body} | more)
    assert made.status_code == 201, made.text
    return made.json()["id"]


def _problems(answer: Response) -> dict[str, str]:
    assert answer.status_code in {409, 422}, answer.text
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def sent(database: Database, tenant_id: UUID, template_id: str) -> TemplateVersion:
    """Return the newest version as a sender reads it."""
    async with database.tenant(tenant_id) as session:
        newest = select(TemplateVersion).where(
            TemplateVersion.tenant_id == tenant_id, TemplateVersion.template_id == UUID(template_id)
        )
        found = await session.scalar(newest.order_by(TemplateVersion.number.desc()).limit(1))
    assert found is not None
    return found


async def test_a_partial_is_made_read_listed_changed_and_deleted(client: AsyncClient) -> None:
    foot = await partial(client)
    path = f"/v1/template-partials/{foot}"
    shown = (await client.get(path)).json()
    assert (shown["key"], shown["channel"], shown["body"], shown["used_by"]) == ("foot", "email", FOOT, [])
    await partial(client, channel="sms", body="Bye")
    listed = (await client.get("/v1/template-partials?channel=email")).json()["items"]
    assert [each["id"] for each in listed] == [foot]
    first = (await client.get("/v1/template-partials?limit=1")).json()
    second = (await client.get(f"/v1/template-partials?limit=1&cursor={first['next_cursor']}")).json()
    assert [each["channel"] for each in (*first["items"], *second["items"])] == ["sms", "email"]
    assert _problems(
        await client.post("/v1/template-partials", json={"key": "foot", "channel": "email", "body": "x"})
    ) == {"key": "is in use"}
    changed = await client.put(path, json={"body": "<p>New</p>"})
    assert changed.json()["body"] == "<p>New</p>"
    assert changed.json()["updated_at"] > shown["updated_at"]
    assert (await client.delete(path)).status_code == 204
    assert (await client.get(path)).status_code == 404
    log = (await client.get(f"/v1/activities?subject_type=template_partial&subject_id={foot}")).json()["items"]
    assert [each["type"] for each in log] == [
        "template_partial.deleted",
        "template_partial.updated",
        "template_partial.created",
    ]


async def test_a_template_is_sent_with_its_partials_and_shown_as_written(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    await partial(client)
    await partial(client, "page", "<div>{% render 'foot' %}</div>")
    german = {"de": {"body": "Hallo {% render 'page' %}"}}
    made = await template(client, locales=german)
    shown = (await client.get(f"/v1/templates/{made}")).json()
    assert (shown["body"], shown["locales"]["de"]["body"]) == (f"Hi {TEXT}", german["de"]["body"])
    version = await sent(database, tenant_id, made)
    assert version.body == f"Hi {FOOT}"
    assert version.locales["de"]["body"] == f"Hallo <div>{FOOT}</div>"
    assert version.partials == {"foot": FOOT, "page": "<div>{% render 'foot' %}</div>"}
    person = (await client.post("/v1/people", json={"email": "ann@shop.example", "locale": "de"})).json()["id"]
    preview = (await client.post(f"/v1/templates/{made}/preview", json={"person_id": person})).json()
    assert preview["html"].startswith("Hallo <div><p>")
    unsaved = {"person_id": person, "channel": "email", "template": {"subject": "S", "body": TEXT}}
    assert (await client.post("/v1/templates/preview", json=unsaved)).json()["html"].startswith("<p>")


async def test_mjml_has_partials(client: AsyncClient, database: Database, tenant_id: UUID) -> None:
    await partial(client, body="<mj-section><mj-column><mj-text>{{ tenant.name }}</mj-text></mj-column></mj-section>")
    made = await template(client, body=f"<mjml><mj-body>{TEXT}</mj-body></mjml>", format="mjml")
    version = await sent(database, tenant_id, made)
    assert "{{ tenant.name }}" in version.body
    assert "mj-section" not in version.body
    wrong = await client.post(
        "/v1/templates",
        json=MAIL | {"key": "b", "format": "mjml", "body": f"<mjml><mj-body>\n{TEXT}\n<mj-nope/></mj-body></mjml>"},
    )
    assert _problems(wrong) == {"body": "line 3: there is no element mj-nope"}


@pytest.mark.parametrize("channel", ["sms", "social", "push"])
async def test_each_channel_has_its_own_partials(client: AsyncClient, channel: str) -> None:
    await partial(client)
    more = {"title": "New"} if channel == "push" else {}
    given = {"key": "short", "channel": channel, "body": f"Hi {TEXT}"} | more
    assert _problems(await client.post("/v1/templates", json=given)) == {"body": "line 1: there is no partial foot"}
    await partial(client, channel=channel, body="from {{ tenant.name }}")
    made = (await client.post("/v1/templates", json=given)).json()
    assert made["body"] == f"Hi {TEXT}"
    person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    shown = (await client.post(f"/v1/templates/{made['id']}/preview", json={"person_id": person})).json()
    assert shown["text"].startswith("Hi from ")


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"body": "a\n{% render 'nope' %}"}, "body", "line 2: there is no partial nope"),
        ({"locales": {"de": {"body": "{% render 'nope' %}"}}}, "locales.de.body", "line 1: there is no partial nope"),
        ({"body": "{% render 'foot', a: 1 %}"}, "body", "line 1: render takes the key of a partial"),
        ({"subject": "{% render 'foot' %}"}, "subject", "line 1: bodies alone render partials"),
        ({"text_body": "a\n{% render 'foot' %}"}, "text_body", "line 2: bodies alone render partials"),
        ({"body": "{% render 'foot' %}\n\n{{ person.shoe }}"}, "body", "line 3: person.shoe is not known"),
    ],
)
async def test_what_cannot_be_rendered_is_refused(
    client: AsyncClient, change: dict[str, Any], field: str, reason: str
) -> None:
    await partial(client, body=f"{FOOT}\n{FOOT}\n")
    refused = await client.post("/v1/templates", json=MAIL | {"key": "hello", "body": "Hi"} | change)
    assert _problems(refused)[field].startswith(reason)
    linted = (
        await client.post(
            "/v1/templates/lint",
            json={
                "channel": "email",
                "template": {"subject": "Hello", "purpose": "transactional", "body": "Hi"} | change,
            },
        )
    ).json()["findings"]
    assert (linted[0]["level"], linted[0]["field"]) == ("error", field)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{% render 'foot' %}", "line 1: the partial foot renders itself: foot > foot"),
        ("{% render 'page' %}", "line 1: the partial foot renders itself: foot > page > foot"),
        ("{% render 'nope' %}", "line 1: there is no partial nope"),
        ("a\n{{ person.shoe }}", "line 2: person.shoe is not known"),
        ("{{ person.email | shout }}", "line 1: there is no filter shout"),
        ("{% if person.email %}", ""),
        (" ", "is empty"),
    ],
)
async def test_a_partial_that_no_template_could_render_is_refused(client: AsyncClient, body: str, reason: str) -> None:
    foot = await partial(client)
    await partial(client, "page", "{% render 'foot' %}")
    refused = await client.put(f"/v1/template-partials/{foot}", json={"body": body})
    assert _problems(refused)["body"].startswith(reason)
    assert (await client.get(f"/v1/template-partials/{foot}")).json()["body"] == FOOT


async def test_a_changed_partial_changes_templates_when_it_is_applied(
    client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    foot, page = await partial(client), await partial(client, "page", "<div>{% render 'foot' %}</div>")
    hello = await template(client)
    paged = await template(client, "paged", "{% render 'page' %}", locales={"de": {"body": "{% render 'foot' %}"}})
    await template(client, "plain", "Hi")
    path = f"/v1/template-partials/{foot}"
    changed = (await client.put(path, json={"body": "<p>New</p>"})).json()
    await client.put(f"/v1/template-partials/{page}", json={"body": "<main>{% render 'foot' %}</main>"})
    assert [(use["key"], use["behind"]) for use in changed["used_by"]] == [("hello", True), ("paged", True)]
    assert (await sent(database, tenant_id, hello)).body == f"Hi {FOOT}"
    applied = (await client.post(f"{path}/apply")).json()
    assert [(each["template_id"], each["version"]) for each in applied["updated"]] == [(hello, 2), (paged, 2)]
    assert applied["refused"] == []
    assert (await client.get(f"/v1/templates/{hello}")).json()["version"] == 2
    assert (await sent(database, tenant_id, hello)).body == "Hi <p>New</p>"
    version = await sent(database, tenant_id, paged)
    # the other partial was not applied
    assert version.body == "<div><p>New</p></div>"
    assert version.locales["de"]["body"] == "<p>New</p>"
    assert [use["behind"] for use in (await client.get(path)).json()["used_by"]] == [False, False]
    assert [use["behind"] for use in (await client.get(f"/v1/template-partials/{page}")).json()["used_by"]] == [True]
    assert (await client.post(f"{path}/apply")).json() == {"updated": [], "refused": []}
    log = (await client.get(f"/v1/activities?subject_type=template&subject_id={hello}")).json()["items"]
    assert (log[0]["type"], log[0]["changes"]) == ("template.updated", {"version": [1, 2]})


async def test_a_template_that_could_not_take_a_partial_stays_whole(client: AsyncClient) -> None:
    foot = await partial(client, channel="sms", body="Bye")
    made = await client.post("/v1/templates", json={"key": "a", "channel": "sms", "body": TEXT})
    long = await client.post("/v1/templates", json={"key": "b", "channel": "sms", "body": "x" * 6_000 + TEXT})
    await client.put(f"/v1/template-partials/{foot}", json={"body": "y" * 6_000})
    applied = (await client.post(f"/v1/template-partials/{foot}/apply")).json()
    assert [each["template_id"] for each in applied["updated"]] == [made.json()["id"]]
    reason = "body: is longer than 10000 characters"
    assert applied["refused"] == [{"template_id": long.json()["id"], "key": "b", "reason": reason}]
    used = (await client.get(f"/v1/template-partials/{foot}")).json()["used_by"]
    assert [(use["key"], use["version"], use["behind"]) for use in used] == [("a", 2, False), ("b", 1, True)]


async def test_a_partial_that_is_rendered_is_not_deleted(client: AsyncClient) -> None:
    foot = await partial(client)
    page = await partial(client, "page", "{% render 'foot' %}")
    made = await template(client)
    path = f"/v1/template-partials/{foot}"
    refused = await client.delete(path)
    assert refused.status_code == 409
    assert [error["reason"] for error in refused.json()["errors"]] == [
        "is rendered by the template hello",
        "is rendered by the partial page",
    ]
    await client.put(f"/v1/templates/{made}", json={"subject": "a", "body": "b", "purpose": "transactional"})
    assert (await client.delete(path)).status_code == 409
    assert (await client.delete(f"/v1/template-partials/{page}")).status_code == 204
    assert (await client.delete(path)).status_code == 204
    restored = await client.post(f"/v1/templates/{made}/versions/1/restore")
    # as it was, with what is gone
    assert restored.json()["body"] == f"Hi {TEXT}"


async def test_a_deleted_template_uses_nothing(client: AsyncClient) -> None:
    foot = await partial(client)
    made = await template(client)
    await client.delete(f"/v1/templates/{made}")
    assert (await client.get(f"/v1/template-partials/{foot}")).json()["used_by"] == []
    assert (await client.delete(f"/v1/template-partials/{foot}")).status_code == 204


async def test_lint_looks_at_partials(client: AsyncClient) -> None:
    await partial(client, body='<a href="/nowhere">x</a>\n<a href="{{ unsubscribe_url }}">no more</a>')
    body = {"channel": "email", "template": {"subject": "Sale", "body": "Hi\n\n{% render 'foot' %}"}}
    found = (await client.post("/v1/templates/lint", json=body)).json()["findings"]
    links = [each for each in found if each["code"] == "relative_link"]
    assert [(each["field"], each["line"]) for each in links] == [("body", 3)]
    assert "unsubscribe_link" not in {each["code"] for each in found}
