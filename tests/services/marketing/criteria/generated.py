"""Criteria that are good by construction, as people write them: with no parenthesis that PostgreSQL does not need."""

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Text = SearchStrategy[str]

COLUMNS = {
    "number": ["score", "order_count", "total_spent"],
    "text": ["email", "first_name", "last_name", "lifecycle_stage", "locale", "attributes->>'plan'"],
    "boolean": ["is_customer", "is_lead", "attributes ? 'plan'"],
    "time": ["created_at", "last_order_at", "last_seen_at"],
}
_letters = st.text(st.sampled_from("abnAB%_'\\é "), max_size=4).map(lambda text: "'" + text.replace("'", "''") + "'")
_patterns = st.text(st.sampled_from("abnAB%_é"), max_size=4).map(lambda text: f"'{text}'")
_whole = st.integers(0, 20).map(str)


def conditions(qualifier: str = "", depth: int = 3) -> Text:
    """Conditions over people; columns are named with the qualifier."""
    return st.recursive(_simple(qualifier), _joined, max_leaves=2**depth)


def _column(kind: str, qualifier: str) -> Text:
    return st.sampled_from([qualifier + column for column in COLUMNS[kind]])


def _filled(template: str, **parts: Text) -> Text:
    return st.fixed_dictionaries(parts).map(lambda values: template.format(**values))


def _joined(inner: Text) -> Text:
    return st.one_of(
        _filled("{a} and {b}", a=inner, b=inner),
        _filled("{a} OR {b}", a=inner, b=inner),
        _filled("not {a}", a=inner),
        _filled("({a})", a=inner),
        _filled("({a}) is {b}", a=inner, b=st.sampled_from(["true", "not true", "false", "null", "not null"])),
        _filled("case when {a} then {b} else {c} end", a=inner, b=inner, c=inner),
        _filled("coalesce({a}, {b})", a=inner, b=inner),
    )


def numbers(qualifier: str) -> Text:
    leaves = st.one_of(_whole, _column("number", qualifier), st.just("1.5"))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            _filled("{a} + {b}", a=inner, b=inner),
            _filled("{a} - {b}", a=inner, b=inner),
            _filled("{a} * {b}", a=inner, b=_whole),
            _filled("- {a}", a=_column("number", qualifier)),
            _filled("abs({a})", a=inner),
            _filled("({a})", a=inner),
            _filled("greatest({a}, {b})", a=inner, b=inner),
            _filled("case when {a} > 3 then {a} else {b} end", a=inner, b=inner),
            _filled("{a}score % {b}", a=st.just(qualifier), b=st.sampled_from(["2", "3", "7"])),
            _filled("length({a})", a=_column("text", qualifier)),
            _filled("extract(month from {a})", a=_column("time", qualifier)),
        ),
        max_leaves=4,
    )


def texts(qualifier: str) -> Text:
    column = _column("text", qualifier)
    return st.one_of(
        column,
        _filled("lower({a})", a=column),
        _filled("left({a}, 2)", a=column),
        _filled("coalesce({a}, {b})", a=column, b=_letters),
        _filled("split_part({a}, 'n', 1)", a=column),
    )


def _simple(qualifier: str) -> Text:
    number, text, time = numbers(qualifier), texts(qualifier), _column("time", qualifier)
    compared = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">=", " is distinct from ", " is not distinct from "])
    person = (qualifier or "people.") + "person_id"
    options: list[Text] = [
        _filled("{a} {op} {b}", a=number, op=compared, b=number),
        _filled("{a} {op} {b}", a=text, op=compared, b=st.one_of(text, _letters)),
        _filled("{a}{n} between {b} and {c}", a=number, n=st.sampled_from(["", " not"]), b=_whole, c=number),
        _filled("{a}{n} in ({b}, {c})", a=number, n=st.sampled_from(["", " not"]), b=_whole, c=number),
        _filled("{a}{n} like {b}", a=text, n=st.sampled_from(["", " not"]), b=_patterns),
        _filled("{a} ilike {b}", a=text, b=_patterns),
        _filled("{a} is{n} null", a=st.one_of(number, text, time), n=st.sampled_from(["", " not"])),
        _filled("{a} > {b} - interval '{c} days'", a=time, b=st.just("now()"), c=_whole),
        _filled("{a}::date {op} '2026-02-0{b}'", a=time, op=compared, b=st.integers(1, 9).map(str)),
        _column("boolean", qualifier),
        _filled(
            "exists (select 1 from events e where e.person_id = {p} and e.type = '{t}' and {n})",
            p=st.just(person),
            t=st.sampled_from(["page.viewed", "form.submitted"]),
            n=st.sampled_from(["true", "(e.properties->>'n')::int > 1", 'e.properties @> \'{"path": "/a"}\'']),
        ),
        _filled(
            "(select {f} from orders o where o.person_id = {p}) {op} {n}",
            f=st.sampled_from(["count(*)", "sum(o.total)", "max(total - refunded)", "count(distinct currency)"]),
            p=st.just(person),
            op=compared,
            n=_whole,
        ),
        _filled("{p} in (select person_id from consents where status = 'opted_in')", p=st.just(person)),
    ]
    return st.one_of(options)


def selects() -> Text:
    """Queries of `person_id`."""
    own, alias = conditions(depth=1), conditions("p.", depth=1)
    plain: list[Text] = [
        _filled("select person_id from people where {a}", a=own),
        _filled("select p.person_id from people p join orders o on o.person_id = p.person_id where {a}", a=alias),
        _filled("select distinct p.person_id from people as p left join events e using (person_id) where {a}", a=alias),
        _filled("select person_id from events group by person_id having count(*) >= {a}", a=_whole),
        _filled("with w as (select person_id, score from people where {a}) select person_id from w where score > {b}",
                a=own, b=_whole),
        _filled("select person_id from (select person_id, row_number() over (partition by lifecycle_stage"
                " order by score desc, person_id) as n from people where {a}) ranked where n <= {b}", a=own, b=_whole),
        _filled("select person_id from people where {a} order by score desc, person_id limit {b}", a=own, b=_whole),
    ]  # fmt: skip
    each = st.one_of(plain)
    combined: Callable[[str], Text] = lambda word: _filled(  # noqa: E731 - named for the list below
        "({a}) " + word + " ({b})", a=each, b=each
    )
    return st.one_of(each, *(combined(word) for word in ("union", "union all", "intersect", "except")))
