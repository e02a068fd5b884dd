"""How the store finds the next people of an audience, as the application's role under row-level security."""

import json
from uuid import UUID

from sqlalchemy import text

from services.marketing.campaigns import audience
from tests.factories.campaigning import Campaigning, campaigning
from tests.factories.marketing import Marketing
from tests.services.identity.statements import indexes, nodes

MEMBERS = 20_000
PAGE = 500
_HALF = UUID(int=1 << 127)
"""Of ids at random, half are below."""

_PEOPLE = "INSERT INTO person (tenant_id, id) SELECT $1, gen_random_uuid() FROM generate_series(1, $2::int)"
_FILL = (
    "INSERT INTO segment_member (tenant_id, segment_id, person_id) SELECT $1, $2, id FROM person WHERE tenant_id = $1"
)


async def _filled(desk: Campaigning) -> dict[str, list[str]]:
    segments = [await desk.segment([], key) for key in ("one", "two", "out")]
    async with desk.marketing.superuser() as connection:
        await connection.execute(_PEOPLE, desk.marketing.tenant_id, MEMBERS)
        for each in segments[:2]:
            await connection.execute(_FILL, desk.marketing.tenant_id, each)
        await connection.execute(f"{_FILL} AND id < $3", desk.marketing.tenant_id, segments[2], _HALF)
        await connection.execute("ANALYZE segment_member")
    return {"include": segments[:2], "exclude": segments[2:]}


async def test_a_page_of_an_audience_is_read_along_the_members_key(marketing: Marketing) -> None:
    desk = campaigning(marketing)
    wanted = await _filled(desk)
    async with marketing.session() as session:
        statement = audience.members(session.tenant_id, wanted, after=_HALF, size=PAGE)
        sql = statement.compile(dialect=session.get_bind().dialect, compile_kwargs={"literal_binds": True})
        plan = await session.scalar(text(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}"))
    found = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
    read = [node for node in nodes(found) if node.get("Relation Name") == "segment_member"]
    assert read
    assert indexes(found) == {"segment_member_pkey"}
    assert all("Index Name" in node for node in read)
    assert max(node["Actual Rows"] * node["Actual Loops"] for node in read) <= PAGE + 1, "no further than the page"
