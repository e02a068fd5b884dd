"""Random conditions, definitions and JSON, as the API would receive them."""

import itertools
import json
from functools import partial
from typing import Any

from hypothesis import strategies as st

KEYS = st.sampled_from(["a", "b", "cart", "vip-2", "x_1"])
SCALARS = st.one_of(
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(-1e20, 1e20),
    st.sampled_from(["", "pro", "100.00", "2026-03-15", "2026-03-15T10:00:00+02:00", "2026-02-30", "0000-01-01"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8),
)
DURATIONS = st.sampled_from(["PT1H", "P3D", "P1M", "P1Y", "P1W", "P1M2DT0.5S"])
FIELDS = st.builds(
    "{}.{}".format,
    st.sampled_from(["person.attributes", "event.properties", "entry.cart", "deal", "record:vehicle"]),
    st.sampled_from(["a", "b", "cart.id", "it's"]),
)
NODE_IDS = list("abcdef")
EVENTS = st.sampled_from(["order.placed", "page.viewed", "Some:Event"])


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON, keys that the conditions ask for among them."""
    return st.recursive(
        st.none() | SCALARS,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(KEYS | st.sampled_from(["id", "it's", "type", "op", "field", "all"]), inner, max_size=4)
        ),
        max_leaves=8,
    )


def field_conditions() -> st.SearchStrategy[dict[str, Any]]:
    def of(ops: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({"field": FIELDS, "op": st.sampled_from(ops), "value": values})

    numbers = st.integers(-100, 100) | st.floats(-100, 100)
    return st.one_of(
        of(["=", "!="], SCALARS),
        of([">", ">=", "<", "<="], numbers | st.just("2026-03-15T10:00:00Z")),
        of(["in", "not_in"], st.lists(SCALARS, min_size=1, max_size=3)),
        of(["contains", "starts_with"], st.sampled_from(["pro", "1"])),
        of(["older_than", "newer_than"], DURATIONS),
        of(["anniversary_in"], st.sampled_from(["P1D", "P7D", "P1M", "P2Y"])),
        st.fixed_dictionaries({"field": FIELDS, "op": st.sampled_from(["exists", "missing"])}),
    )


def conditions() -> st.SearchStrategy[dict[str, Any]]:
    """Conditions that are well formed."""
    count: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
        {"op": st.sampled_from(["=", ">=", "<"]), "value": st.integers(0, 5)}
    )
    return st.recursive(
        field_conditions() | st.fixed_dictionaries({"in_segment": KEYS}), partial(_compound, count), max_leaves=4
    )


def _compound(
    count: st.SearchStrategy[dict[str, Any]], inner: st.SearchStrategy[dict[str, Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    related: dict[str, st.SearchStrategy[Any]] = {"related": st.sampled_from(["deal", "record:vehicle"])}
    some = st.lists(inner, min_size=1, max_size=3)
    counted: dict[str, st.SearchStrategy[Any]] = {"count": count, "within": DURATIONS, "where": inner}
    return st.one_of(
        st.fixed_dictionaries({"all": some}),
        st.fixed_dictionaries({"any": some}),
        st.fixed_dictionaries({"not": inner}),
        st.fixed_dictionaries({"event": EVENTS}, optional=counted),
        st.fixed_dictionaries(related, optional={"where": inner}),
    )


def nodes() -> st.SearchStrategy[dict[str, Any]]:
    """Nodes of every type that lead anywhere."""
    target = st.sampled_from(NODE_IDS)
    match = st.just({"event.properties.cart_id": "entry.cart_id"})
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("wait"), "for": DURATIONS, "next": target}),
        st.fixed_dictionaries(
            {"type": st.just("wait"), "until_time": st.sampled_from(["09:00", "23:59"]), "next": target},
            optional={"for": DURATIONS, "zone": st.sampled_from(["person", "tenant", "Europe/Berlin"])},
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("wait_for_event"),
                "event": EVENTS,
                "timeout": DURATIONS,
                "matched": target,
                "timed_out": target,
            },
            optional={"match": match, "where": conditions()},
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("branch"),
                "branches": st.lists(
                    st.fixed_dictionaries({"when": conditions(), "next": target}), min_size=1, max_size=3
                ),
                "otherwise": target,
            },
        ),
        st.fixed_dictionaries({"type": st.just("split"), "arms": arms(target)}),
        st.fixed_dictionaries({"type": st.just("send"), "channel": st.just("email"), "template": KEYS, "next": target}),
        tested_sends(target),
        *other_waits(target),
        st.fixed_dictionaries(
            {"type": st.just("update_person"), "set": st.dictionaries(KEYS, json_values(), min_size=1), "next": target},
        ),
        st.fixed_dictionaries({"type": st.just("goal")}, optional={"name": st.sampled_from(["bought", "signed up"])}),
        st.fixed_dictionaries({"type": st.just("exit"), "reason": st.sampled_from(["finished", "gave up"])}),
        commands(target),
    )


def other_waits(target: st.SearchStrategy[str]) -> list[st.SearchStrategy[dict[str, Any]]]:
    """Waits until a date, until certain hours, and until something is so."""
    zone = st.sampled_from(["person", "tenant", "Europe/Berlin"])
    event: dict[str, st.SearchStrategy[Any]] = {"event": EVENTS, "next": target}
    way: st.SearchStrategy[dict[str, Any]] = st.one_of(
        st.fixed_dictionaries(event, optional={"where": conditions()}),
        st.fixed_dictionaries({"when": conditions(), "next": target}),
        st.fixed_dictionaries({"segment": KEYS, "next": target}),
    )
    return [
        st.fixed_dictionaries(
            {
                "type": st.just("wait"),
                "until": st.sampled_from(["person.attributes.a", "entry.at"]),
                "next": target,
                "past": target,
            },
            optional={
                "offset": DURATIONS | DURATIONS.map("-{}".format),
                "yearly": st.booleans(),
                "until_time": st.just("09:00"),
                "zone": zone,
            },
        ),
        st.fixed_dictionaries(
            {"type": st.just("time_window"), "next": target, "from": st.just("09:00"), "to": st.just("08:00")},
            optional={"days": st.lists(st.sampled_from(["mon", "sat"]), min_size=1, unique=True), "zone": zone},
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("wait_until"),
                "any": st.lists(way, min_size=1, max_size=3),
                "timeout": DURATIONS,
                "timed_out": target,
            }
        ),
    ]


@st.composite
def tested_sends(draw: st.DrawFn, target: st.SearchStrategy[str]) -> dict[str, Any]:
    """Sends that try several messages, with a winner or without."""
    drawn = draw(arms(target).filter(lambda parts: len(parts) > 1))
    variants: list[dict[str, Any]] = [
        {"key": arm["key"], "share": arm["share"], "template": draw(KEYS)} for arm in drawn
    ]
    send: dict[str, Any] = {"type": "send", "channel": "email", "variants": variants, "next": draw(target)}
    if sum(variant["share"] > 0 for variant in variants) > 1 and draw(st.booleans()):
        metric = draw(st.sampled_from(["opens", "clicks", "goal"]))
        send["winner"] = {"metric": metric, "window": draw(DURATIONS)}
    return send


@st.composite
def arms(draw: st.DrawFn, target: st.SearchStrategy[str]) -> list[dict[str, Any]]:
    """Arms of a split, which have it all between them."""
    cuts = sorted(draw(st.lists(st.integers(0, 100), min_size=1, max_size=3)))
    shares = [end - start for start, end in itertools.pairwise([0, *cuts, 100])]
    held = draw(st.none() | st.integers(0, len(shares) - 1))
    return [
        {"key": f"a{index}", "share": share, "next": draw(target), **({"holdout": True} if index == held else {})}
        for index, share in enumerate(shares)
    ]


def commands(target: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Nodes of every type that commands sales, keeps segments or records, or lets into another journey."""
    texts = st.sampled_from(["Call", "For {{ person.first_name }}", "{{ deal.title }}: {{ deal.amount }}"])
    teammate = st.sampled_from(["ann@example.com", "bob@example.com"])
    owner = st.just("owner") | teammate
    filled = st.dictionaries(
        KEYS, json_values().filter(_without_braces) | texts | st.lists(texts, max_size=2), min_size=1, max_size=3
    )
    sets = st.dictionaries(st.sampled_from(["title", "source", "attributes.a"]), SCALARS, min_size=1)

    def of(
        kind: str, needed: dict[str, st.SearchStrategy[Any]], /, **optional: st.SearchStrategy[Any]
    ) -> st.SearchStrategy[dict[str, Any]]:
        always: dict[str, st.SearchStrategy[Any]] = {"type": st.just(kind), "next": target}
        return st.fixed_dictionaries(always | needed, optional=optional)

    return st.one_of(
        of(
            "create_deal",
            {"pipeline": KEYS, "title": texts},
            stage=KEYS,
            amount=st.sampled_from(["0", "1200.00"]),
            currency=st.sampled_from(["EUR", "JPY"]),
            owner=owner,
            close_in=DURATIONS,
        ),
        of("move_deal", {"stage": KEYS}, pipeline=KEYS, lost_reason=st.just("price")),
        of("update_deal", {"set": sets}),
        of(
            "create_task",
            {"title": texts},
            kind=st.sampled_from(["todo", "call"]),
            note=texts,
            due_in=DURATIONS,
            owner=owner,
        ),
        of("notify", {"title": texts}, to=st.just("owner") | st.lists(teammate, min_size=1, max_size=20), body=texts),
        of("assign_owner", {"among": st.lists(teammate, min_size=1, max_size=20)}, only_without=st.booleans()),
        of(
            "webhook",
            {"url": st.sampled_from(["https://shop.example/hook", "https://a.example:8443"])},
            body=st.dictionaries(KEYS, json_values(), max_size=3),
            failed=target,
        ),
        of("enroll", {"journey": KEYS}),
        of("add_to_segment", {"segment": KEYS}),
        of("rate_limit", {"per_minute": st.integers(1, 9)}),
        of("rate_limit", {"count": st.integers(1, 9), "per": st.sampled_from(["PT1S", "P1D"])}),
        of("remove_from_segment", {"segment": KEYS}),
        of("create_record", {"object": KEYS, "label": KEYS, "set": filled}, match=KEYS),
        of("update_record", {"object": KEYS, "set": filled}, made_by=target),
        of("update_record", {"object": KEYS, "set": filled}, label=KEYS, of=st.sampled_from(["person", "deal"])),
        of("update_record", {"object": KEYS, "set": filled, "match": st.just({"vin": "{{ entry.vin }}"})}),
    )


def _without_braces(value: object) -> bool:
    return not any(brace in json.dumps(value) for brace in ("{{", "}}", "{%"))


def entries() -> st.SearchStrategy[dict[str, Any]]:
    """Entries of every kind."""
    again = st.fixed_dictionaries(
        {"mode": st.sampled_from(["never", "when_not_active", "always"])}, optional={"min_gap": DURATIONS}
    )
    key = st.sampled_from(["event.properties.cart_id", "entry.cart_id"])
    return st.one_of(
        st.fixed_dictionaries({"event": EVENTS}, optional={"where": conditions(), "key": key, "again": again}),
        st.fixed_dictionaries({"api": st.just(value=True)}, optional={"key": key, "again": again}),
        st.fixed_dictionaries({"manual": st.just(value=True)}, optional={"again": again}),
        st.fixed_dictionaries({"segment": KEYS}, optional={"on": st.sampled_from(["entered", "left"])}),
        st.fixed_dictionaries(
            {"date": st.just("person.attributes.birthday")}, optional={"yearly": st.booleans(), "at": st.just("08:30")}
        ),
        st.fixed_dictionaries({"cron": st.just("0 9 * * 1"), "segment": KEYS}),
    )


def definitions() -> st.SearchStrategy[dict[str, Any]]:
    """Definitions of good form, whatever their graph."""
    goal = st.fixed_dictionaries({"event": EVENTS}, optional={"where": field_conditions(), "within": DURATIONS})
    exit_rule = st.fixed_dictionaries({"event": EVENTS}, optional={"where": field_conditions()})
    return st.fixed_dictionaries(
        {
            "entry": entries() | st.lists(entries(), min_size=1, max_size=2),
            "start": st.sampled_from(NODE_IDS),
            "nodes": st.dictionaries(st.sampled_from(NODE_IDS), nodes(), min_size=1, max_size=5),
        },
        optional={
            "subject": st.sampled_from(["person", "deal"]),
            "goal": goal,
            "exit_when": st.lists(exit_rule, max_size=2),
        },
    )
