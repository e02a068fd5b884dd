"""The definition of a journey as a document: YAML in and out, checked without saving, drawn; and simulated."""

from typing import Any

import pytest
import yaml
from httpx import AsyncClient

from tests.api.world import JOURNEY

TEXT = """
entry:
  api: true
start: nap
nodes:
  nap: {type: wait, until_time: 10:30, next: done}
  done: {type: exit, reason: finished}
"""
YAML = {"Content-Type": "application/yaml; charset=utf-8"}


@pytest.fixture
async def journey(client: AsyncClient) -> Any:  # noqa: ANN401 - JSON
    made = await client.post("/v1/journeys", json={"key": "nap", "name": "A <nap>", "definition": JOURNEY})
    return made.json()


@pytest.mark.usefixtures("journey")
async def test_a_draft_goes_in_and_out_as_yaml(client: AsyncClient) -> None:
    saved = await client.put("/v1/journeys/nap/draft", content=TEXT, headers=YAML)
    assert saved.status_code == 200, saved.text
    assert saved.json()["draft"] == yaml.safe_load(TEXT.replace("10:30", "'10:30'"))
    shown = await client.get("/v1/journeys/nap/draft", headers={"Accept": "application/yaml"})
    assert shown.headers["content-type"].startswith("application/yaml")
    assert (await client.put("/v1/journeys/nap/draft", content=shown.text, headers=YAML)).json()[
        "draft"
    ] == saved.json()["draft"]
    assert (await client.get("/v1/journeys/nap/draft")).json() == saved.json()["draft"]


@pytest.mark.usefixtures("journey")
async def test_bad_yaml_is_refused_with_its_line(client: AsyncClient) -> None:
    for text, status, reason in (
        ("a: *b", 400, "line 1: aliases (*name) are not taken"),
        ("a: [", 400, "line 1"),
        (b"\xff", 400, "is not UTF-8"),
        ("- 1", 422, "dictionary"),
        (TEXT.replace("next: done", "next: nowhere"), 422, "nodes.nap.next"),
        ("a: 1e999", 400, "cannot"),
        ('a: "\\0"', 422, "cannot be stored"),
    ):
        answer = await client.put("/v1/journeys/nap/draft", content=text, headers=YAML)
        assert answer.status_code == status, (text, answer.text)
        assert reason in answer.text


async def test_a_definition_is_checked_and_nothing_is_kept(client: AsyncClient) -> None:
    good = await client.post("/v1/journeys/check", content=TEXT, headers=YAML)
    assert (good.status_code, good.json()) == (200, {"problems": []})
    sends = {"type": "send", "channel": "email", "template": "missing", "next": "done"}
    bad = JOURNEY | {"nodes": JOURNEY["nodes"] | {"nap": sends}}
    found = (await client.post("/v1/journeys/check", json={"definition": bad})).json()["problems"]
    assert [each["field"] for each in found] == ["definition.nodes.nap.template"]
    assert (await client.get("/v1/journeys")).json()["items"] == []


@pytest.mark.usefixtures("journey")
async def test_a_journey_is_drawn_with_its_counts(client: AsyncClient) -> None:
    assert (await client.get("/v1/journeys/nap/graph.svg?version=active")).status_code == 422
    await client.post("/v1/journeys/nap/publish")
    people = [(await client.post("/v1/people", json={"email": f"{n}@shop.example"})).json()["id"] for n in range(2)]
    await client.post("/v1/journeys/nap/enrollments", json={"person_ids": people})
    drawn = await client.get("/v1/journeys/nap/graph.svg?version=active")
    assert drawn.headers["content-type"].startswith("image/svg+xml")
    assert drawn.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert "2 came · 2 there" in drawn.text
    assert "A &lt;nap&gt;" in drawn.text


@pytest.mark.usefixtures("journey")
async def test_a_simulation_is_asked_for_and_found_by_its_id(client: AsyncClient) -> None:
    person = (await client.post("/v1/people", json={"email": "one@shop.example"})).json()["id"]
    wanted = {"person_ids": [person], "wait_seconds": 0, "from": "2026-01-31T09:00:00Z"}
    asked = await client.post("/v1/journeys/nap/simulate", json=wanted)
    assert asked.status_code == 202, asked.text
    found = await client.get(f"/v1/journeys/nap/simulations/{asked.json()['id']}")
    assert (found.status_code, found.json()["status"], found.json()["report"]) == (200, "queued", None)
    for wrong, field in (
        ({}, "segment_id"),
        ({"segment_id": "none"}, "segment_id"),
        ({"person_ids": [person], "until": "2020-01-01T00:00:00Z"}, "until"),
        ({"person_ids": [person], "version": "active"}, "version"),
        ({"person_ids": [person], "enter": "by_events"}, "enter"),
        ({"person_ids": [person], "from": "2026-01-31"}, "from"),
        ({"person_ids": [person], "failing": {"nap": 5}}, "failing.nap"),
        ({"person_ids": [person], "failing": {"nap": 101}}, "failing.nap"),
        ({"person_ids": [person], "deal_ids": [person]}, "deal_ids"),
        ({"pipeline_id": "none"}, "pipeline_id"),
        ({"person_ids": [person], "stage_id": "new"}, "stage_id"),
    ):
        refused = await client.post("/v1/journeys/nap/simulate", json=wrong)
        assert refused.status_code == 422, (wrong, refused.text)
        assert [each["field"] for each in refused.json()["errors"]] == [field]


async def test_a_simulation_of_deals_names_deals(client: AsyncClient) -> None:
    made = await client.post("/v1/pipelines", json={"name": "Sales", "stages": [{"name": "New"}, {"name": "Offer"}]})
    pipeline = made.json()
    of_deals = JOURNEY | {"subject": "deal"}
    await client.post("/v1/journeys", json={"key": "late", "name": "Late", "definition": of_deals})
    for audience in (
        {"pipeline_id": "sales"},
        {"pipeline_id": pipeline["id"], "stage_id": pipeline["stages"][0]["id"]},
        {"pipeline_id": "sales", "stage_id": "offer"},
        {"deal_ids": [pipeline["id"]]},
    ):
        asked = await client.post("/v1/journeys/late/simulate", json={**audience, "wait_seconds": 0})
        assert asked.status_code == 202, asked.text
    for wrong, field in (
        ({"person_ids": [pipeline["id"]]}, "person_ids"),
        ({"pipeline_id": "sales", "stage_id": "won"}, "stage_id"),
    ):
        refused = await client.post("/v1/journeys/late/simulate", json=wrong)
        assert refused.status_code == 422, (wrong, refused.text)
        assert [each["field"] for each in refused.json()["errors"]] == [field]
