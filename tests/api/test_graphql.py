"""GraphQL: every field answers, costs a known number of statements, and shows nothing of other tenants."""

from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from graphql import get_named_type, is_leaf_type
from httpx import AsyncClient, Response
from sqlalchemy import text

from api.graphql.schema import platform
from core.actor import CLI
from core.database import Database, TenantSession
from services.tenancy import api_keys
from tests.api.conftest import serving
from tests.api.world import MARK, World
from tests.services.identity.statements import recorded

ROOT = Path(__file__).parents[2]
PIPELINE = {"name": "Sales", "stages": [{"key": "new", "name": "New"}, {"key": "won", "name": "Won", "kind": "won"}]}
PAGE = """
query($a: String) { people(first: 2, after: $a) {
  edges { cursor node { id } } pageInfo { hasNextPage endCursor }
} }
"""
NESTED = """
query($first: Int!) { people(first: $first) { nodes {
  email
  customer { orderCount totalSpent { amount } }
  emailEngagement { sent }
  organizations { nodes { title organization { name } } }
  segments { key memberCount }
  deals(first: 5) { nodes { title stage { name } pipeline { key } organization { name } products { name }
    contacts { personId } stays { nodes { name } } tasks(first: 2) { nodes { id } } primaryPerson { email } } }
  orders(first: 5) { nodes { number lines { sku } payments { nodes { id } } } }
  carts(first: 2) { nodes { id } }
  tasks(first: 2) { nodes { title } }
  messages(first: 2) { nodes { id enrollment { id } } }
  enrollments(first: 2) { nodes { id steps { node } journey { key } } }
  timeline(first: 5) { nodes { type detail } }
  events(first: 5) { nodes { type properties } }
  associations(first: 5) { nodes { called } }
} } }
"""

ROOTS = {
    "person": "person_id",
    "organization": "organization_id",
    "pipeline": "pipeline_id",
    "deal": "deal_id",
    "task": "task_id",
    "enrollment": "enrollment_id",
    "campaign": "campaign_id",
    "message": "message_id",
    "product": "product_id",
    "variant": "variant_id",
    "cart": "cart_id",
    "order": "order_id",
    "payment": "payment_id",
    "record": "record_id",
}
"""Root fields that take an id, and what makes a thing of theirs."""
KEYED = {"segment": ("key", "segment"), "journey": ("key", "journey"), "campaignReport": ("campaignId", "campaign_id")}
LISTS = sorted(platform().core.query_type.fields.keys() - ROOTS.keys() - KEYED.keys() - {"enrollments"})  # pyright: ignore[reportOptionalMemberAccess]
DEPTH = 3


async def ask(client: AsyncClient, query: str, **variables: object) -> Response:
    return await client.post("/graphql", json={"query": query, "variables": variables})


async def answered(client: AsyncClient, query: str, **variables: object) -> Any:  # noqa: ANN401 - JSON
    answer = await ask(client, query, **variables)
    body = answer.json()
    assert answer.status_code == 200, body
    assert "errors" not in body, body["errors"]
    return body["data"]


def selection(kind: Any, depth: int) -> str:  # noqa: ANN401 - a type of graphql-core
    """Everything of a type, down to a depth."""
    named = cast("Any", get_named_type(kind))
    if is_leaf_type(named):
        return ""
    fields: Mapping[str, Any] = named.fields
    parts = [
        f"{name}{'(first: 2)' if 'first' in field.args else ''} {selection(field.type, depth - 1)}"
        for name, field in fields.items()
        if name != "edges" and (depth > 1 or is_leaf_type(cast("Any", get_named_type(field.type))))
    ]
    return f"{{ {' '.join(parts) or '__typename'} }}"


def of_root(name: str, depth: int = DEPTH) -> str:
    field = platform().core.query_type.fields[name]  # pyright: ignore[reportOptionalMemberAccess]
    return selection(field.type, depth)


@pytest.fixture
def world(client: AsyncClient, database: Database, tenant_id: UUID) -> World:
    return World(client, database, tenant_id)


@pytest.fixture(scope="module")
async def settled(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    async with World.of_its_own(app, database) as world:
        for name in (*ROOTS.values(), "segment", "journey", "object_key", "association_id", "link_id"):
            await world.get(name)
        yield world


@pytest.fixture(scope="module")
async def stranger(app: FastAPI, database: Database) -> AsyncGenerator[World]:
    async with World.of_its_own(app, database) as world:
        yield world


def whole(made: Mapping[str, str]) -> list[str]:
    """Queries for all there is, at least once."""
    singles = [f'{name}(id: "{made[maker]}") {of_root(name)}' for name, maker in ROOTS.items()]
    keyed = [f'{name}({key}: "{made[maker]}") {of_root(name)}' for name, (key, maker) in KEYED.items()]
    lists = [f"{name} {of_root(name)}" for name in LISTS]
    lists.append(f'enrollments(journey: "{made["journey"]}") {of_root("enrollments")}')
    return [f"{{ {each} }}" for each in [*singles, *keyed, *lists]]


async def test_every_field_answers(settled: World) -> None:
    for query in whole(settled.made):
        data = await answered(settled.client, query)
        (value,) = data.values()
        assert value not in (None, []), query[:200]
        assert "nodes" not in value or value["nodes"], query[:200]


async def test_another_tenants_things_are_not_there(settled: World, stranger: World) -> None:
    for query in whole(settled.made):
        answer = await ask(stranger.client, query)
        assert MARK not in answer.text
        (value,) = answer.json()["data"].values()
        assert value in (None, []) or value["nodes"] == [], query[:200]


async def people(client: AsyncClient, count: int) -> list[str]:
    """People with a deal, an organization, a task and a segment each."""
    pipeline = (await client.post("/v1/pipelines", json=PIPELINE)).json()
    made: list[str] = []
    for number in range(count):
        person = (await client.post("/v1/people", json={"email": f"p{number}@shop.example"})).json()["id"]
        organization = (await client.post("/v1/organizations", json={"name": f"Company {number}"})).json()["id"]
        link = {"person_id": person, "kind": "contact", "is_primary": True}
        await client.post(f"/v1/organizations/{organization}/people", json=link)
        deal = {"title": f"Deal {number}", "pipeline_id": pipeline["id"], "primary_person_id": person}
        deal |= {"organization_id": organization, "amount": {"amount": "10.00", "currency": "EUR"}}
        answer = await client.post("/v1/deals", json=deal)
        assert answer.is_success, answer.text
        made.append(person)
    segment = await client.post("/v1/segments", json={"key": "all", "name": "All", "kind": "static"})
    assert segment.is_success, segment.text
    await client.post("/v1/segments/all/members", json={"person_ids": made})
    return made


async def test_a_nested_query_takes_as_many_statements_for_many_people_as_for_one(client: AsyncClient) -> None:
    await people(client, 6)
    counts: list[int] = []
    for first in (1, 6):
        with recorded() as statements:
            data = await answered(client, NESTED, first=first)
        counts.append(len(statements))
        nodes = data["people"]["nodes"]
        assert len(nodes) == first
        assert all(node["deals"]["nodes"][0]["organization"]["name"].startswith("Company") for node in nodes)
        assert all(node["segments"][0]["key"] == "all" for node in nodes)
    assert counts[0] == counts[1] <= 50, counts


async def test_pages_follow_one_another(client: AsyncClient) -> None:
    made = await people(client, 5)
    seen: list[str] = []
    after: str | None = None
    while True:
        page = (
            await answered(
                client,
                PAGE,
                a=after,
            )
        )["people"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        assert page["pageInfo"]["endCursor"] == page["edges"][-1]["cursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == made[::-1]
    of_segment = 'query($a: String) { segment(key: "all") { memberCount members(first: 4, after: $a) { nodes { personId person { id } } pageInfo { hasNextPage endCursor } } } }'  # noqa: E501 - a query
    first = (await answered(client, of_segment))["segment"]
    rest = (await answered(client, of_segment, a=first["members"]["pageInfo"]["endCursor"]))["segment"]
    assert first["memberCount"] == 5
    nodes = [*first["members"]["nodes"], *rest["members"]["nodes"]]
    assert [node["person"]["id"] for node in nodes] == sorted(made)
    assert not rest["members"]["pageInfo"]["hasNextPage"]


async def test_the_id_of_somebody_merged_away_means_the_winner(client: AsyncClient) -> None:
    winner, loser = [
        (await client.post("/v1/people", json={"email": f"{name}@shop.example"})).json()["id"] for name in ("a", "b")
    ]
    answer = await client.post("/v1/people/merge", json={"winner_id": winner, "loser_id": loser})
    assert answer.is_success, answer.text
    data = await answered(
        client, "query($l: UUID!, $w: UUID!) { l: person(id: $l) { id } w: person(id: $w) { id } }", l=loser, w=winner
    )
    assert data == {"l": {"id": winner}, "w": {"id": winner}}


async def test_a_field_that_the_key_may_not_read_is_null_and_the_scope_is_named(
    app: FastAPI, client: AsyncClient, database: Database, tenant_id: UUID
) -> None:
    await people(client, 1)
    async with database.tenant(tenant_id) as session:
        secret = (await api_keys.create(session, "reader", ["people:read"], by=CLI))[1]
    async with serving(app, secret) as reader:
        answer = await ask(reader, "{ people { nodes { email deals { nodes { id } } } } orders { nodes { id } } }")
    body = answer.json()
    assert answer.status_code == 200
    assert body["data"] == {"people": {"nodes": [{"email": "p0@shop.example", "deals": None}]}, "orders": None}
    told = {tuple(error["path"]): error for error in body["errors"]}
    assert told.keys() == {("people", "nodes", 0, "deals"), ("orders",)}
    refused = told["people", "nodes", 0, "deals"]
    assert refused["message"] == "This key lacks the scope deals:read."
    assert refused["extensions"]["required_scope"] == "deals:read"
    assert refused["extensions"]["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("{ people(first: 200) { nodes { deals(first: 200) { nodes { title tasks { nodes { id } } } } } } }", "costs"),
        ("query($n: Int!) { people(first: $n) { nodes { deals(first: $n) { nodes { title id } } } } }", "costs"),
        ("{ " + " ".join(f"a{number}: __schema {{ queryType {{ name }} }}" for number in range(21)) + " }", "costs"),
        (
            '{ task(id: "' + str(uuid4()) + '") ' + "{ deal { tasks { nodes " * 6 + "{ id }" + " } } }" * 6 + " }",
            "levels deep",
        ),
        ("{ people { nodes { nothing } } }", "Cannot query field 'nothing'"),
        ("{ people { ", "Syntax Error"),
        (
            "{ a: tasks { nodes { id } } "
            + " ".join(f"t{number}: tasks {{ nodes {{ id }} }}" for number in range(1000))
            + "}",
            "tokens",
        ),
        ("query A { tasks { nodes { id } } } query B { tasks { nodes { id } } }", "operationName"),
        ("mutation { tasks { nodes { id } } }", "mutation"),
        ("fragment A on Person { id ...B } fragment B on Person { id ...A } { people { nodes { ...A } } }", "itself"),
    ],
)
async def test_what_is_too_much_or_means_nothing_is_refused_before_anything_is_read(
    client: AsyncClient, query: str, part: str
) -> None:
    with recorded() as statements:
        answer = await ask(client, query, **({"n": 200} if "$n" in query else {}))
    body = answer.json()
    assert answer.status_code == 400, body
    assert "data" not in body
    assert part in body["errors"][0]["message"], body
    assert len(statements) <= 3  # whose key it is, which objects the tenant has, and that nothing is to be changed


async def test_fragments_and_variables_are_counted(client: AsyncClient) -> None:
    query = """
        query($n: Int! = 10) { people(first: $n) { nodes { ...Known ...Selling } } }
        fragment Selling on Person { ... on Person { deals(first: $n) { nodes { id } } } }
        fragment Known on Person { id firstName __typename }
    """
    assert (await answered(client, query))["people"] == {"nodes": []}
    body = (await ask(client, query, n=200)).json()
    assert body["errors"][0]["extensions"]["cost"] == 1 + 200 * (1 + 2 + 1 + 200 * 2) + 0


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("{ people(first: 0) { nodes { id } } }", "first"),
        ("{ people(first: 201) { nodes { id } } }", "first"),
        ('{ people(after: "x") { nodes { id } } }', "after"),
        ('{ people(q: " ") { nodes { id } } }', "q"),
        ('{ people(email: "no address") { nodes { id } } }', "email"),
        ("{ messages(status: sent) { nodes { id } } }", "status"),
        ("{ orders(number: 0) { nodes { id } } }", "number"),
        ('{ person(id: "{id}") { timeline(after: "x") { nodes { id } } } }', "after"),
    ],
)
async def test_an_argument_that_is_not_acceptable_is_named(client: AsyncClient, query: str, field: str) -> None:
    person = (await client.post("/v1/people", json={"email": "ann@shop.example"})).json()["id"]
    body = (await ask(client, query.replace("{id}", person))).json()
    (error,) = body["errors"]
    assert error["extensions"]["code"] == "invalid", error
    assert error["extensions"]["errors"][0]["field"] == field, error


async def test_requests_are_read_strictly(client: AsyncClient, anonymous: AsyncClient) -> None:
    assert (await ask(anonymous, "{ __typename }")).status_code == 401
    for body in ([{"query": "{ __typename }"}], {}, {"query": 1}, {"query": "{ a }", "variables": 1}, "x"):
        answer = await client.post("/graphql", json=body)
        assert answer.status_code == 422, answer.text
    assert (
        await client.post("/graphql", content=b"{", headers={"Content-Type": "application/json"})
    ).status_code == 400
    by_get = await client.get(
        "/graphql", params={"query": "query($n: Int!) { tasks(first: $n) { nodes { id } } }", "variables": '{"n": 1}'}
    )
    assert by_get.json() == {"data": {"tasks": {"nodes": []}}}
    assert (await client.get("/graphql", params={"query": "{ __typename }", "variables": "{"})).status_code == 400
    assert (await client.get("/graphql")).status_code == 422


async def test_an_error_of_our_own_tells_nothing_of_our_inside(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("SELECT secret")

    monkeypatch.setattr("services.crm.pipelines.list_all", broken)
    answer = await ask(client, "{ pipelines { key } tasks { nodes { id } } }")
    body = answer.json()
    assert body["data"] == {"pipelines": None, "tasks": {"nodes": []}}
    assert body["errors"][0]["extensions"]["code"] == "internal"
    assert "secret" not in answer.text


async def test_a_statement_that_fails_spoils_its_own_field_alone(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(session: TenantSession) -> None:
        await session.execute(text("SELECT 1/0"))

    monkeypatch.setattr("services.crm.pipelines.list_all", broken)
    body = (await ask(client, "{ pipelines { key } tasks { nodes { id } } people { nodes { id } } }")).json()
    assert body["data"] == {"pipelines": None, "tasks": {"nodes": []}, "people": {"nodes": []}}


async def test_records_have_the_types_that_their_object_defines(client: AsyncClient) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "vin": {"type": "string", "description": "Its number"},
            "doors": {"type": ["integer", "null"]},
            "owner-name": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "engine": {"$ref": "#/$defs/engine"},
            "any": {},
        },
        "$defs": {"engine": {"type": "object", "properties": {"power": {"type": "number"}}}},
    }
    await client.post("/v1/objects", json={"key": "my-car", "name": "Car", "schema": schema, "indexed": ["doors"]})
    values = {"vin": "A1", "doors": 4, "owner-name": "Ann", "tags": ["x"], "engine": {"power": 1.5}, "any": {"a": 1}}
    record = (await client.post("/v1/objects/my-car/records", json={"properties": values})).json()
    await client.post("/v1/objects/my-car/records", json={"properties": {"vin": "B2", "doors": 2}})
    query = """query($filter: JSON) { records { my_car(filter: $filter, sort: "-doors", first: 1) {
        nodes { __typename id data properties { vin doors owner_name tags engine { power } any } }
        edges { node { id } } pageInfo { hasNextPage endCursor } } } }"""
    page = (await answered(client, query))["records"]["my_car"]
    (node,) = page["nodes"]
    assert node["properties"] == {name.replace("-", "_"): value for name, value in values.items()}
    assert (node["__typename"], node["id"], node["data"]) == ("MyCarRecord", record["id"], values)
    assert page["pageInfo"]["hasNextPage"]
    few = {"field": "record:my-car.doors", "op": "<", "value": 3}
    (other,) = (await answered(client, query, filter=few))["records"]["my_car"]["nodes"]
    assert other["properties"]["vin"] == "B2"
    assert other["properties"]["engine"] is None
    bad = (await ask(client, query, filter={"field": "record:my-car.nothing", "op": "=", "value": 3})).json()
    assert bad["errors"][0]["extensions"]["code"] == "invalid"

    one = "query($id: UUID!) { record(id: $id) { object ... on MyCarRecord { properties { vin } } } }"
    assert (await answered(client, one, id=record["id"]))["record"] == {"object": "my-car", "properties": {"vin": "A1"}}

    # another definition is another schema, at once
    del schema["properties"]["vin"]
    schema["properties"]["doors"] = {"type": "string"}
    changed = {"name": "Car", "schema": schema, "force": True}
    assert (await client.put("/v1/objects/my-car", json=changed)).is_success
    assert "Cannot query field 'vin'" in (await ask(client, one, id=record["id"])).text
    unfit = "query($id: UUID!) { record(id: $id) { data ... on MyCarRecord { properties { doors } } } }"
    found = (await answered(client, unfit, id=record["id"]))["record"]
    assert found == {"data": values, "properties": {"doors": None}}
    kinds = await answered(client, '{ __type(name: "MyCarProperties") { fields { name } } }')
    assert {field["name"] for field in kinds["__type"]["fields"]} == {"doors", "owner_name", "tags", "engine", "any"}


async def test_objects_whose_names_are_alike_are_kept_apart(client: AsyncClient) -> None:
    for key in ("a-b", "a_b", "1st", "deal"):
        answer = await client.post("/v1/objects", json={"key": key, "name": key, "schema": {"type": "object"}})
        assert answer.is_success, answer.text
    query = "{ records { a_b { nodes { id } } a_b_2 { nodes { id } } _1st { nodes { id } } deal { nodes { id } } } }"
    assert (await answered(client, query))["records"].keys() == {"a_b", "a_b_2", "_1st", "deal"}
    names = await answered(client, "{ __schema { types { name } } }")
    assert {"ABRecord", "ABRecord_2", "_1stRecord", "DealRecord"} <= {
        kind["name"] for kind in names["__schema"]["types"]
    }


def test_the_schema_in_the_docs_is_the_one_there_is() -> None:
    """After a change run `make schema`, and look at what clients will notice."""
    assert (ROOT / "docs" / "schema.graphql").read_text() == platform().as_str() + "\n"
