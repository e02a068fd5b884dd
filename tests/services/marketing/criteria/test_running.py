"""What criteria find, as `tl_reader`, and what is said where they fail."""

from contextlib import aclosing
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from core.database import Database
from core.errors import InvalidError
from core.ids import new_id
from services.marketing import criteria
from services.marketing.criteria import running
from tests.services.marketing.criteria.store import Store

FOUND = {
    # a condition over people
    "lifecycle_stage = 'customer' AND order_count >= 3": "a",
    "WHERE is_lead OR is_customer": "ab",
    "not is_lead and NOT is_customer": "cd",
    "true": "abcd",
    "email is null": "c",
    "email IS NOT NULL;": "abd",
    "(score > 1 or score < -1) and lifecycle_stage <> 'customer'": "cd",
    "score between -3 and 0": "bc",
    "score not between -3 and 0": "ad",
    "score in (10, 5, null)": "ad",
    "score not in (10, 5)": "bc",
    "score % 2 = 0": "ab",
    "- score = 3": "c",
    "score * 2 + 1 = 21": "a",
    "score / 4 = 2": "a",
    "score / 4.0 = 2.5": "a",
    "score = '10'": "a",
    "\"score\" = 10": "a",
    "SCORE = 10": "a",
    "people.score = 10": "a",
    "last_name is distinct from 'Ace'": "bcd",
    "first_name like 'A%'": "a",
    "first_name ilike 'd_rte'": "d",
    "first_name not like '%n'": "d",
    "email like '100!%!_%' escape '!'": "d",
    "email like '100\\%%'": "d",
    "left(email, 3) = 'ann' and split_part(email, '@', 2) = 'shop.example'": "a",
    "upper(first_name) = 'DÖRTE' and length(last_name) = 1": "d",
    "substring(first_name from 2 for 1) = 'n' and strpos(email, '@') = 4 and starts_with(email, 'ann')": "a",
    "trim(both 'n' from first_name) = 'A' and position('n' in first_name) = 2": "a",
    "coalesce(last_name, first_name, 'none') in ('Ben', 'none')": "bc",
    "nullif(score, 10) is null and greatest(score, 3, 4) = 10 and least(score, 3) = 3": "a",
    "case when score > 7 then 'high' when score > 0 then 'some' else 'none' end = 'some'": "d",
    "case lifecycle_stage when 'lead' then true else false end": "b",
    "case lifecycle_stage when 'lead' then true end is true": "b",
    "round(total_spent / 3, 2) = 50.00 and floor(total_spent) = 150 and abs(score) = 10": "a",
    "total_spent = 150 and average_order = 75 and order_count = 3": "a",
    "last_order_at > now() - interval '1 hour'": "ab",
    "created_at < '2026-02-01'": "a",
    "created_at >= '2026-03-05' and created_at < date '2026-03-06'": "cd",
    "created_at > timestamptz '2026-03-05T12:00:00+00:00'": "d",
    "(created_at at time zone 'Europe/Berlin')::date = '2026-03-06'": "d",
    "created_at::date = '2026-03-05'": "cd",
    "date_trunc('month', created_at) = '2026-03-01'": "cd",
    "extract(month from created_at) = 2 and date_part('year', created_at) = 2026": "b",
    "created_at + interval '1 month' < '2026-02-06'": "a",
    "created_at::date + 27 = '2026-02-01'": "a",
    "created_at::date - date '2026-01-01' = 4": "a",
    "created_at - '2026-01-05T09:00Z' = '1 hour'": "a",
    "age(created_at) > interval '1 day' and age(created_at, created_at) = interval 'P0D'": "abcd",
    "current_date - 1 > created_at and current_timestamp > created_at": "abcd",
    "interval '2 days' * 2 = interval '4 days' and score = 10": "a",
    "attributes->>'plan' = 'pro'": "a",
    "attributes->'address'->>'city' = 'Bonn'": "a",
    "attributes #>> '{address,city}' = 'Bonn'": "a",
    "attributes->'tags'->>0 = 'a'": "a",
    "attributes ? 'plan'": "ab",
    "attributes @> '{\"plan\": \"free\"}'": "b",
    "attributes @> '{\"tags\": [\"b\"]}'::jsonb": "a",
    "attributes->'plan' = '\"pro\"'": "a",
    "jsonb_typeof(attributes->'age') = 'number' and (attributes->>'age')::int > 18": "a",
    "jsonb_typeof(attributes->'tags') = 'array' and jsonb_array_length(attributes->'tags') = 2": "a",
    "case when jsonb_typeof(attributes->'age') = 'number' then cast(attributes->>'age' as numeric) < 18.5 end": "b",
    "(attributes->>'born')::date < '2000-01-01'": "a",
    "is_customer::text = 'true'": "a",
    "score = any(select 10) and score >= all(select score from people p)": "a",
    "person_id in (select person_id from events where type = 'page.viewed' group by 1 having count(*) > 1)": None,
    "(select count(*) from events e where e.person_id = people.person_id and e.type = 'page.viewed') >= 2": "a",
    "exists (select 1 from consents c where c.person_id = people.person_id and c.status = 'opted_in')": "a",
    "not exists (select from orders)": None,
    # a SELECT
    "select person_id from people": "abcd",
    "SELECT p.person_id FROM people AS p WHERE p.score > 5": "a",
    "(select person_id from people where score > 5)": "a",
    "select person_id from orders where total > 60 and currency = 'EUR'": "a",
    "select person_id from orders where currency = 'JPY' and total = 700": "a",
    "select person_id from orders where not counts": "b",
    "select person_id from orders where refunded = 0.5": "a",
    "select person_id from orders group by person_id having sum(total) > 100 and count(distinct currency) = 2": "a",
    "select person_id from orders group by person_id having count(*) filter (where total > 60) = 1": None,
    "select distinct person_id from events where occurred_at > now() - interval '30 days' and type = 'page.viewed'": "a",
    "select person_id from events where (properties->>'n')::int = 3": "b",
    "select e.person_id from events e join consents c on c.person_id = e.person_id where c.status = 'opted_out'": "b",
    "select person_id from events join consents using (person_id) where status = 'opted_out' and type like 'form.%'": "b",
    "select p.person_id from people p left join orders o on o.person_id = p.person_id where o.order_key is null": "cd",
    "select person_id from orders o right join people p using (person_id) where o.order_key is null": "cd",
    "select person_id from orders full join people using (person_id)": "abcd",
    "select person_id from messages where opens > 0 and template_key = 'hello'": "a",
    "select person_id from enrollments where journey_key = 'welcome' and status = 'waiting'": "a",
    "select x.person_id from organization_people x join organizations o on o.organization_id = x.organization_id"
    " where o.domain = 'acme.example' and o.balance = 1.5 and x.is_primary": "a",
    "select a.person_id from associations a join records r using (record_id)"
    " where r.object_key = 'request' and r.properties->>'state' = 'open'": "a",
    "select person_id from associations where record_id is not null": "ab",
    "select other_person_id as person_id from associations where label = 'knows' and direction = 'from'": "b",
    "select person_id from segment_members where segment_key = 'vip'": "a",
    "select person_id from segment_members s where 'b' = s.segment_key or false": None,
    "select person_id from segment_members where segment_key in ('vip', 'b')": "ab",
    "select person_id from people where not exists (select 1 from segment_members m"
    " where m.person_id = people.person_id and m.segment_key = 'vip')": "bcd",
    "select person_id from people p left join segment_members m using (person_id)": None,
    "select p.person_id from people p left join segment_members m"
    " on m.person_id = p.person_id and m.segment_key = 'vip' where m.person_id is null": "bcd",
    "with big as (select person_id, sum(total) as spent from orders group by person_id)"
    " select person_id from big where spent > 100": "a",
    "with a(p, n) as materialized (select person_id, score from people), b as (select p from a where n > 0)"
    " select p as person_id from b": "ad",
    "with x as (select person_id from people where score > 5) select person_id from x union"
    " select person_id from people where is_lead": "ab",
    "select person_id from people except select person_id from orders": "cd",
    "select person_id from people intersect select person_id from orders union all select person_id from events": "ab",
    "select person_id from people order by score desc limit 2": "ad",
    "select person_id from people order by score offset 3": "a",
    "select person_id from (select person_id, row_number() over (partition by currency order by total desc) as n"
    " from orders) ranked where n = 1 and ranked.person_id is not null": "a",
    "select person_id from (select person_id, sum(total) over (order by placed_at rows between 1 preceding and"
    " current row) as s, lag(total, 1) over (order by placed_at) as before, first_value(total) over (order by placed_at"
    " range between unbounded preceding and current row) f from orders) w where s > 0 and before is null": "a",
    "select distinct on (person_id) person_id from orders order by person_id, placed_at desc": "ab",
    "select person_id from people p where p.score = (select max(score) from people)": "a",
    "select person_id from people group by person_id, date_trunc('day', created_at)"
    " having date_trunc('day', created_at) = '2026-01-05'": "a",
    "select person_id from people where exists (select 1 from events e where e.person_id = people.person_id"
    " and exists (select 1 from orders o where o.person_id = people.person_id and e.type = 'form.submitted'))": "b",
    "select person_id from orders group by person_id having bool_and(counts) and every(total > 1) and avg(total) > 1": "a",
    "select cast('{other}' as uuid) as person_id": "",
    "select event_id as person_id from events": "",
}


def runnable() -> list[tuple[str, str]]:
    return [(sql, found) for sql, found in FOUND.items() if found is not None]


@pytest.mark.parametrize(("sql", "found"), runnable())
async def test_criteria_find_their_people_and_no_other_tenants(
    sql: str, found: str, store: Store, other_store: Store
) -> None:
    assert await store.found(sql.replace("{other}", str(other_store.people["ann"]))) == found
