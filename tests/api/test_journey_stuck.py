"""Runs that are stuck, over REST."""

from datetime import UTC, datetime

from httpx import AsyncClient

from core.ids import new_id
from tests.factories.marketing import Marketing, walk

WAIT = {"type": "wait", "for": "P1D", "next": "done"}


async def test_stuck_runs_are_listed_in_pages_and_mended_one_by_one_or_all(
    client: AsyncClient, marketing: Marketing
) -> None:
    version = await marketing.journey(walk(wait=WAIT))
    for size in (1, 2, 3):
        await marketing.enroll(version, await marketing.people(size))
    path = "/v1/journeys/journey/stuck"
    assert (await client.get(path)).json() == {"items": [], "next_cursor": None}
    first, second, third = [cohort.cohort_id for cohort in await marketing.cohorts(version)]
    since = datetime.now(UTC)
    async with marketing.superuser() as connection:
        await connection.execute(
            "UPDATE cohort SET stuck = 'still', stuck_since = $2 WHERE version_id = $1", version.id, since
        )
    page = (await client.get(path, params={"limit": 2})).json()
    assert [item["cohort_id"] for item in page["items"]] == [str(first), str(second)]
    rest = (await client.get(path, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert rest == {
        "items": [
            {
                "cohort_id": str(third),
                "version_id": str(version.id),
                "version": 1,
                "stuck": "still",
                "since": since.isoformat().replace("+00:00", "Z"),
                "workflow_id": f"journey/{marketing.tenant_id}/{version.journey_id}/{third}",
                "members": 3,
                "nodes": {"wait": 3},
            }
        ],
        "next_cursor": None,
    }
    answer = await client.post(f"{path}/mend", json={"cohort_id": str(second)})
    assert (answer.status_code, answer.json()) == (200, {"runs": 1, "members": 2, "left": 2})
    for gone in (second, new_id()):
        answer = await client.post(f"{path}/mend", json={"cohort_id": str(gone)})
        assert (answer.status_code, str(gone) in answer.json()["detail"]) == (404, True)
    assert (await client.post(f"{path}/mend")).json() == {"runs": 2, "members": 4, "left": 0}
    assert (await client.get(path)).json()["items"] == []
    assert {row.status for row in await marketing.enrollments(version)} == {"waiting"}
    assert len(await marketing.cohorts(version)) == 6
