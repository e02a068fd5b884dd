"""Versions of journeys over REST: publishing under people's feet, previews, what differs, and the way back."""

from typing import Any
from uuid import UUID

from httpx import AsyncClient, Response

from tests.factories.marketing import Marketing, walk
from tests.factories.publishing import migrate

DAYS: dict[str, Any] = {"type": "wait", "for": "P30D", "next": "done"}
HOUR: dict[str, Any] = {**DAYS, "for": "PT1H"}
FORK = {
    "type": "branch",
    "branches": [{"when": {"field": "person.locale", "op": "=", "value": "de"}, "next": "left"}],
    "otherwise": "right",
}
TABLES = (
    "journey",
    "journey_version",
    "journey_migration",
    "journey_listener",
    "cohort",
    "cohort_signal",
    "enrollment",
    "enrollment_step",
    "activity",
    "event",
    "workflow_start",
)


def problems(answer: Response) -> dict[str, str]:
    assert answer.status_code == 422, answer.text
    return {error["field"]: error["reason"] for error in answer.json()["errors"]}


async def begin(client: AsyncClient, marketing: Marketing) -> tuple[dict[str, Any], list[str]]:
    """Publish a journey with one who waits at `left` and two who wait at `right`; the version and whose these are."""
    definition = walk(fork=FORK, left=DAYS, right=DAYS)
    await client.post("/v1/journeys", json={"key": "walk", "name": "Walk", "definition": definition})
    version = (await client.post("/v1/journeys/walk/publish")).json()
    people = [await marketing.person(locale=locale) for locale in ("de", "en", "en")]
    loaded = await marketing.version(UUID(version["id"]))
    await marketing.enroll(loaded, people)
    (cohort,) = await marketing.cohorts(loaded)
    await cohort.run("act", "fork")
    return version, [str(row.id) for row in await cohort.rows()]


async def draft(client: AsyncClient, definition: dict[str, Any]) -> None:
    assert (await client.put("/v1/journeys/walk/draft", json={"definition": definition})).status_code == 200


async def rows(marketing: Marketing) -> dict[str, list[Any]]:
    async with marketing.superuser() as connection:
        return {
            table: await connection.fetch(
                f"SELECT t::text FROM {table} t WHERE tenant_id = $1 ORDER BY 1",
                marketing.tenant_id,
            )
            for table in TABLES
        }


async def inside(client: AsyncClient) -> dict[int, int]:
    listed = (await client.get("/v1/journeys/walk/versions")).json()["items"]
    return {version["number"]: version["inside"] for version in listed}


async def test_people_are_moved_by_map_and_plan_once_every_removed_node_is_named(
    client: AsyncClient, marketing: Marketing
) -> None:
    first, ids = await begin(client, marketing)
    await draft(client, walk(early={**HOUR, "next": "late"}, late=HOUR))
    move = {"in_flight": "move", "node_map": {"left": "early"}}
    refused = await client.post("/v1/journeys/walk/publish", json=move)
    assert list(problems(refused)) == ["plan.right"]
    assert (await client.get("/v1/journeys/walk")).json()["active_version_id"] == first["id"]
    wrong = {**move, "plan": {"right": {"do": "move", "to": "gone"}, "fork": {"do": "finish", "to": "late"}}}
    assert any(field.startswith("plan.fork") for field in problems(await _publish(client, wrong)))
    wrong["plan"] = {"right": {"do": "move", "to": "gone"}, "never": {"do": "eject"}}
    assert set(problems(await _publish(client, wrong))) == {"plan.right.to", "plan.never"}
    twice = {**move, "plan": {"left": {"do": "eject"}}}
    assert set(problems(await _publish(client, twice))) == {"plan.left"}
    assert set(problems(await _publish(client, {"node_map": {"left": "early"}}))) == {"node_map"}

    done = await _publish(client, {**move, "plan": {"right": {"do": "move", "to": "late"}}})
    assert done.status_code == 200, done.text
    (begun,) = (await client.get("/v1/journeys/walk/migrations")).json()["items"]
    assert (begun["id"], begun["version_id"], begun["status"]) == (
        done.json()["migration_id"],
        done.json()["id"],
        "running",
    )
    assert begun["plan"] == {"left": {"do": "retime", "to": "early"}, "right": {"do": "move", "to": "late"}}
    await migrate(marketing, UUID(begun["id"]))
    (over,) = (await client.get("/v1/journeys/walk/migrations")).json()["items"]
    assert (over["status"], over["inside"], over["counts"]) == ("done", 3, {"retime": 1, "move": 2})
    assert await inside(client) == {2: 3, 1: 0}
    shown = [(await client.get(f"/v1/enrollments/{each}")).json() for each in ids]
    assert [(each["node"], each["version_id"]) for each in shown] == [
        (node, done.json()["id"]) for node in ("early", "late", "late")
    ]


async def _publish(client: AsyncClient, body: dict[str, Any]) -> Response:
    return await client.post("/v1/journeys/walk/publish", json=body)


async def test_previews_count_and_write_nothing(client: AsyncClient, marketing: Marketing) -> None:
    first, _ = await begin(client, marketing)
    await draft(client, walk(left={**DAYS, "for": "P1D", "next": "other"}, other=DAYS))
    before = await rows(marketing)
    answer = await client.post("/v1/journeys/walk/publish/preview", json={"in_flight": "move"})
    seen = answer.json()
    assert seen["unnamed"] == ["right"]
    assert [
        (node["version"], node["node"], node["kind"], node["inside"], node["do"], node["to"]) for node in seen["nodes"]
    ] == [
        (1, "left", "wait", 1, "retime", "left"),
        (1, "right", "wait", 2, "finish", None),
    ]
    assert seen["nodes"][0]["wakes_first"] is not None
    planned = {"in_flight": "move", "plan": {"right": {"do": "eject"}}}
    seen = (await client.post("/v1/journeys/walk/publish/preview", json=planned)).json()
    assert (seen["unnamed"], seen["counts"]) == ([], {"retime": 1, "eject": 2, "released": 0})
    everybody = (await client.post("/v1/journeys/walk/publish/preview")).json()
    assert everybody["counts"] == {"finish": 3}
    wrong = {"in_flight": "move", "plan": {"right": {"do": "move", "to": "gone"}}}
    refused = await client.post("/v1/journeys/walk/publish/preview", json=wrong)
    assert set(problems(refused)) == {"plan.right.to"}
    back = {"version_id": first["id"], "in_flight": "move"}
    seen = (await client.post("/v1/journeys/walk/rollback/preview", json=back)).json()
    assert seen["counts"] == {"retime": 3, "released": 0}
    assert await rows(marketing) == before


async def test_versions_are_listed_in_pages_and_what_differs_is_said(client: AsyncClient, marketing: Marketing) -> None:
    first, _ = await begin(client, marketing)
    for hours in (1, 2):
        await draft(
            client, walk(fork=FORK, left={**DAYS, "for": f"PT{hours}H"}, right={**DAYS, "next": "rest"}, rest=DAYS)
        )
        await _publish(client, {})
    found: list[Any] = []
    cursor = ""
    while True:
        page = (await client.get(f"/v1/journeys/walk/versions?limit=2{cursor}")).json()
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert [(each["number"], each["active"], each["inside"]) for each in found] == [
        (3, True, 0),
        (2, False, 0),
        (1, False, 3),
    ]
    read = await client.get(f"/v1/journeys/walk/versions/{found[1]['id']}")
    assert (read.json()["number"], read.json()["definition"]["nodes"]["left"]["for"]) == (2, "PT1H")
    path = f"/v1/journeys/walk/versions/{first['id']}/diff"
    between = (await client.get(path, params={"to": found[1]["id"]})).json()
    assert between == {
        "added": ["rest"],
        "removed": [],
        "changed": {
            "left": {"for": {"before": "P30D", "after": "PT1H"}},
            "right": {"next": {"before": "done", "after": "rest"}},
        },
        "rules": {},
    }
    await draft(client, walk(right=DAYS))
    to_draft = (await client.get(path)).json()
    assert (to_draft["removed"], to_draft["rules"]) == (
        ["fork", "left"],
        {"start": {"before": "fork", "after": "right"}},
    )
    assert (await client.get(path, params={"to": str(UUID(int=1))})).status_code == 404


async def test_going_back_takes_people_where_they_came_from(client: AsyncClient, marketing: Marketing) -> None:
    first, ids = await begin(client, marketing)
    await draft(client, walk(early=HOUR))
    body = {"in_flight": "move", "node_map": {"left": "early"}, "plan": {"right": {"do": "finish"}}}
    await migrate(marketing, UUID((await _publish(client, body)).json()["migration_id"]))
    unknown = {"version_id": str(UUID(int=1)), "in_flight": "move"}
    assert (await client.post("/v1/journeys/walk/rollback", json=unknown)).status_code == 404
    back = {"version_id": first["id"], "in_flight": "move"}
    done = (await client.post("/v1/journeys/walk/rollback", json=back)).json()
    assert (done["number"], done["definition"]) == (3, first["definition"])
    await migrate(marketing, UUID(done["migration_id"]))
    assert await inside(client) == {3: 3, 2: 0, 1: 0}
    shown = [(await client.get(f"/v1/enrollments/{each}")).json()["node"] for each in ids]
    assert shown == ["left", "right", "right"]
    listed = (await client.get("/v1/journeys/walk/migrations?limit=1")).json()
    assert listed["items"][0]["id"] == done["migration_id"]
    older = (await client.get(f"/v1/journeys/walk/migrations?limit=1&cursor={listed['next_cursor']}")).json()
    assert (older["items"][0]["counts"], older["next_cursor"]) == ({"retime": 1, "finish": 2}, None)
    assert (await client.get("/v1/journeys/walk")).json()["draft"] == walk(early=HOUR)
