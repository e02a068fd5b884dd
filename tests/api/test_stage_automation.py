"""What stages do by themselves, as the API shows it."""

from typing import Any

from httpx import AsyncClient


async def test_what_a_stage_does_is_shown_and_changed_with_the_pipeline_alone(client: AsyncClient) -> None:
    rule: dict[str, Any] = {"key": "call", "on": "enter", "then": [{"type": "create_task", "title": "Call"}]}
    stages: list[dict[str, Any]] = [
        {"key": "new", "name": "New", "automation": [rule]},
        {"key": "won", "name": "Won", "kind": "won"},
    ]
    made = await client.post("/v1/pipelines", json={"key": "auto", "name": "Auto", "stages": stages})
    assert made.status_code == 201, made.text
    [shown] = made.json()["stages"][0]["automation"]
    assert {name: shown[name] for name in rule} == rule
    assert shown["status"] == "active"
    journey = f"/v1/journeys/{shown['journey_id']}"
    assert (await client.get(journey)).json()["domain"] == "crm"
    assert (await client.get("/v1/journeys")).json()["items"] == []
    assert [each["id"] for each in (await client.get("/v1/journeys?domain=crm")).json()["items"]] == [
        shown["journey_id"]
    ]
    for verb in ("publish", "cancel"):
        assert (await client.post(f"{journey}/{verb}", json={})).status_code == 409
    assert (await client.post(f"{journey}/pause")).json()["status"] == "paused"
    stages[0]["automation"] = [rule | {"then": [{"type": "notify", "to": "owner"}]}]
    refused = await client.put(f"/v1/pipelines/{made.json()['id']}", json={"name": "Auto", "stages": stages})
    assert refused.status_code == 422
    assert [error["field"] for error in refused.json()["errors"]] == ["stages.0.automation.0.then.0.title"]
    stages[0]["automation"] = []
    ended = await client.put(f"/v1/pipelines/{made.json()['id']}", json={"name": "Auto", "stages": stages})
    assert ended.json()["stages"][0]["automation"] == []
    assert (await client.get(journey)).json()["status"] == "cancelled"
