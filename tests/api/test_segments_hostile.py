"""Segments over the API, asked for what they cannot be: a clear refusal that names the field, never a fault."""

import json
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient, Response

from core.actor import CLI
from services.marketing.segments import definitions
from tests.factories.marketing import Marketing

PRO: dict[str, Any] = {"field": "person.attributes.plan", "op": "=", "value": "pro"}


def nested(depth: int, kind: str = "not") -> Any:  # noqa: ANN401 - JSON
    rules: Any = PRO
    for _ in range(depth):
        rules = {kind: rules if kind == "not" else [rules]}
    return rules


async def post(client: AsyncClient, **fields: Any) -> Response:  # noqa: ANN401 - JSON
    body = {"key": f"s{uuid4().hex}", "name": "S", "kind": "dynamic", **fields}
    return await send(client, "POST", "/v1/segments", body)


async def send(client: AsyncClient, method: str, path: str, body: object) -> Response:
    """Send JSON as its author may write it: half a character escaped is a text like another."""
    return await client.request(method, path, content=json.dumps(body), headers={"Content-Type": "application/json"})


async def refused(client: AsyncClient, field: str, **fields: Any) -> None:  # noqa: ANN401 - JSON
    """Check that neither a new segment nor a change of one nor a preview takes these."""
    answers = [await post(client, **fields)]
    if fields.keys() <= {"rules", "sql"}:
        answers.append(await send(client, "POST", "/v1/segments/preview", fields))
        made = await post(client, rules=PRO)
        if len(fields) == 1:
            answers.append(await send(client, "PATCH", f"/v1/segments/{made.json()['id']}", fields))
    for answer in answers:
        assert answer.status_code == 422, answer.text[:500]
        problem = answer.json()
        assert any(error["field"].split(".")[0] == field for error in problem["errors"]), problem["errors"][:3]
        assert all(error["reason"] for error in problem["errors"])
        assert len(answer.content) < 100_000, "a refusal is no echo"


@pytest.mark.parametrize("depth", [12, 100, 1_000])
@pytest.mark.parametrize("kind", ["not", "all", "any"])
async def test_a_tree_too_deep_is_refused(client: AsyncClient, depth: int, kind: str) -> None:
    # As text: a JSON library of ours may itself stop at such depths.
    opening, closing = ('{"not":', "}") if kind == "not" else (f'{{"{kind}":[', "]}")
    rules = opening * depth + json.dumps(PRO) + closing * depth
    body = f'{{"key": "deep", "name": "Deep", "kind": "dynamic", "rules": {rules}}}'
    headers = {"Content-Type": "application/json"}
    answer = await client.post("/v1/segments", content=body, headers=headers)
    assert answer.status_code in {400, 422}, answer.text[:500]
    assert answer.json()["errors"][0]["reason"]
    assert (await client.get("/v1/segments/deep")).status_code == 404


async def test_the_deepest_tree_is_taken(client: AsyncClient) -> None:
    answer = await post(client, rules=nested(11))
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param({"all": [PRO] * 10_000}, id="ten thousand conditions"),
        pytest.param({"any": list[str]()}, id="no condition"),
        pytest.param(PRO | {"op": "in", "value": list(range(1_001))}, id="a thousand and one choices"),
        pytest.param({**PRO, "op": "in", "value": list[str]()}, id="no choice"),
        pytest.param(PRO | {"value": "\x00"}, id="what cannot be stored"),
        pytest.param(PRO | {"value": "\ud800"}, id="half a character"),
        pytest.param(PRO | {"value": {"a": 1}}, id="an object for a value"),
        pytest.param(PRO | {"op": "~"}, id="no operator"),
        pytest.param(PRO | {"op": ">", "value": "many"}, id="no number"),
        pytest.param(PRO | {"op": "older_than", "value": "P20Y"}, id="too long ago"),
        pytest.param(PRO | {"op": "anniversary_in", "value": "PT1H"}, id="hours to a day"),
        pytest.param(PRO | {"field": "person.wealth"}, id="a field that nobody has"),
        pytest.param(PRO | {"field": "person.id.x"}, id="below a field"),
        pytest.param(PRO | {"field": "tenant.name"}, id="another root"),
        pytest.param(PRO | {"field": "event.properties.a"}, id="the event of none"),
        pytest.param(PRO | {"field": "record:none.a"}, id="an object that is not there"),
        pytest.param(PRO | {"field": f"person.attributes.{'a' * 400}"}, id="a long path"),
        pytest.param(PRO | {"also": 1}, id="one more key"),
        pytest.param({"event": "a b"}, id="no type"),
        pytest.param({"event": "a.b", "count": {"op": ">=", "value": -1}}, id="less than none"),
        pytest.param({"event": "a.b", "count": {"op": ">=", "value": 10**12}}, id="more than all"),
        pytest.param({"event": "a.b", "count": {"op": ">=", "value": 1.5}}, id="one and a half"),
        pytest.param({"in_segment": "nobody"}, id="a segment that is not there"),
        pytest.param({"in_segment": "Not A Key"}, id="no key"),
        pytest.param({"related": "deal:1"}, id="nothing to be related to"),
        pytest.param("plan = 'pro'", id="a text"),
        pytest.param([PRO], id="a list"),
        pytest.param(7, id="a number"),
        pytest.param({}, id="nothing"),
    ],
)
async def test_rules_that_mean_nothing_are_refused(client: AsyncClient, rules: Any) -> None:  # noqa: ANN401 - JSON
    await refused(client, "rules", rules=rules)


async def test_a_thousand_choices_and_two_hundred_conditions_are_computed(client: AsyncClient) -> None:
    choices = PRO | {"op": "in", "value": [f"plan {number}" for number in range(1_000)]}
    rules = {"any": [choices, *({"event": f"a.b{number}", "within": "P7D"} for number in range(198))]}
    answer = await client.post("/v1/segments/preview", json={"rules": rules})
    assert (answer.status_code, answer.json()) == (200, {"count": 0, "sample": []})


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("rules", {"rules": PRO, "sql": "true"}),
        ("rules", {}),
        ("rules", {"kind": "static", "rules": PRO}),
        ("sql", {"kind": "static", "sql": "true"}),
        ("refresh", {"kind": "static", "refresh": "realtime"}),
        ("refresh", {"kind": "static", "refresh": "0 9 * * *"}),
        ("refresh", {"sql": "true", "refresh": "realtime"}),
        ("kind", {"kind": "other", "rules": PRO}),
        ("key", {"key": "a b", "rules": PRO}),
        ("key", {"key": "a" * 65, "rules": PRO}),
        ("name", {"name": "", "rules": PRO}),
        ("name", {"name": "a\x00b", "rules": PRO}),
        ("description", {"description": "x" * 2_001, "rules": PRO}),
        ("owner", {"owner": "me", "rules": PRO}),
        ("sql", {"sql": "x" * 10_001}),
        ("sql", {"sql": "true; DROP TABLE person"}),
        ("sql", {"sql": "SELECT pg_sleep(10)"}),
        ("sql", {"sql": ""}),
        *(
            ("refresh", {"rules": PRO, "refresh": nonsense})
            for nonsense in (
                "often",
                "* * * *",
                "60 9 * * *",
                "0 9 * * * * *",
                "0 9 31 2 *",
                "*/0 * * * *",
                "0 9 * * MON#9",
                "@every 1s",
                "0 9 * * *\x00",
                "🕘 9 * * *",
                "0 9 * * * UTC",
                "CRON_TZ=UTC 0 9 * * *",
                "9" * 100,
                "9" * 101,
                "",
            )
        ),
    ],
)
async def test_what_does_not_fit_together_is_refused(client: AsyncClient, field: str, fields: dict[str, Any]) -> None:
    await refused(client, field, **fields)


async def test_segments_of_other_tenants_are_not_there(client: AsyncClient, other_tenant: Marketing) -> None:
    async with other_tenant.session() as session:
        theirs = await definitions.create(session, {"key": "theirs", "name": "T", "kind": "static"}, by=CLI)
    await refused(client, "rules", rules={"in_segment": "theirs"})
    for name in (theirs.id, "theirs"):
        path = f"/v1/segments/{name}"
        answers = [
            await client.get(path),
            await client.patch(path, json={"name": "Mine"}),
            await client.delete(path),
            await client.post(f"{path}/refresh"),
            await client.get(f"{path}/refreshes"),
            await client.get(f"{path}/members"),
            await client.post(f"{path}/members", json={"person_ids": [str(uuid4())]}),
            await client.post(f"{path}/snapshot", json={"key": "copy", "name": "Copy"}),
            await client.get(f"{path}/explain/{uuid4()}"),
        ]
        assert {answer.status_code for answer in answers} == {404}
    assert (await client.post("/v1/segments", json={"key": "theirs", "name": "M", "kind": "static"})).is_success


@pytest.mark.parametrize(
    "name", ["%00", "a%00b", "%F0%9F%98%80", "..%2F..", "%27%20OR%201=1", "x" * 101, "%C3%28", "0"]
)
async def test_a_name_that_is_none_finds_nothing(client: AsyncClient, name: str) -> None:
    for answer in (await client.get(f"/v1/segments/{name}"), await client.delete(f"/v1/segments/{name}")):
        assert answer.status_code in {400, 404, 422}, answer.text
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_circle_through_three_and_through_sql_is_refused_naming_the_way(client: AsyncClient) -> None:
    assert (await post(client, key="one", rules=PRO)).is_success
    assert (await post(client, key="two", rules={"in_segment": "one"})).is_success
    sql = "SELECT person_id FROM segment_members WHERE segment_key = 'two'"
    answer = await post(client, key="three", sql=sql)
    assert answer.is_success, answer.text
    for field, change in (
        ("rules", {"rules": {"not": {"in_segment": "three"}}}),
        ("sql", {"sql": sql.replace("two", "three")}),
        ("rules", {"rules": {"in_segment": "one"}}),
    ):
        answer = await client.patch("/v1/segments/one", json=change)
        assert answer.status_code == 422, answer.text
        [error] = answer.json()["errors"]
        assert error["field"] == field
        assert "asks about the segment itself: one -> " in error["reason"]
    for key in ("one", "two"):
        answer = await client.delete(f"/v1/segments/{key}")
        assert answer.status_code == 409
        assert len(answer.json()["used_by"]) == 1
    for key in ("three", "two", "one"):
        assert (await client.delete(f"/v1/segments/{key}")).status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        {"person_ids": []},
        {"person_ids": ["nobody"]},
        {"person_ids": [str(uuid4())] * 20_000},
        {"people": [str(uuid4())]},
        {},
        [],
    ],
)
async def test_lists_of_people_that_are_none_are_refused(client: AsyncClient, body: Any) -> None:  # noqa: ANN401 - JSON
    assert (await post(client, key="vip", kind="static")).is_success
    answer = await client.post("/v1/segments/vip/members", json=body)
    assert answer.status_code == 422, answer.text[:500]
    assert answer.json()["errors"]
