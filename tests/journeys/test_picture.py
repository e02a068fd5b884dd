"""A journey drawn: every node and way is there, nothing lies upon another, and no text of a tenant's is markup."""

from itertools import combinations
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from journeys.definition import JourneyDefinition
from journeys.layout import layout
from journeys.nodes import successors
from journeys.picture import Counts, svg
from tests.journeys.random_journeys import LoosePlan, plans
from tests.journeys.strategies import definitions

SVG = "{http://www.w3.org/2000/svg}"


def drawn(definition: JourneyDefinition, counts: dict[str, Counts] | None = None) -> ET.Element:
    return ET.fromstring(svg(definition, counts, title="<b>&"))


@given(definitions())
@settings(max_examples=100)
def test_any_definition_of_good_form_is_drawn(raw: dict[str, object]) -> None:
    definition = JourneyDefinition.model_validate(raw)
    if definition.start not in definition.nodes:
        return
    picture = drawn(definition)
    ways = [target for node in definition.nodes.values() for target in successors(node).values()]
    assert len(picture.findall(f"{SVG}g")) == len(definition.nodes)
    assert len(picture.findall(f"{SVG}path")) == sum(target in definition.nodes for target in ways) + 1


@given(plans())
@settings(max_examples=100)
def test_no_two_nodes_overlap_and_edges_lead_down(plan: LoosePlan) -> None:
    targets = {name: [*successors(node).values()] for name, node in plan.nodes.items()}
    found = layout(plan.start, targets, dict.fromkeys(targets, 200.0))
    for one, other in combinations(targets, 2):
        if found.rows[one] == found.rows[other]:
            assert abs(found.middles[one] - found.middles[other]) > 200
    for (source, target), path in found.paths.items():
        assert found.rows[source] < found.rows[target]
        assert len(path) == found.rows[target] - found.rows[source] + 1
    assert all(0 <= middle <= found.width for middle in found.middles.values())


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
@settings(max_examples=50)
def test_texts_are_no_markup(text: str) -> None:
    node = {"type": "update_person", "set": {f"attributes.{text}": 1}, "next": "end"}
    nodes = {"a": node, "end": {"type": "exit", "reason": "over"}}
    definition = JourneyDefinition.model_validate({"entry": {"api": True}, "start": "a", "nodes": nodes})
    title = drawn(definition).find(f"{SVG}g/{SVG}title")
    assert title is not None
    assert title.text == f"a: update person. {text}"


def test_counts_stand_at_nodes_and_ways() -> None:
    when = {"all": [{"field": "person.attributes.vip", "op": "=", "value": True}, {"in_segment": "loyal"}]}
    nodes = {
        "which": {"type": "branch", "branches": [{"when": when, "next": "greet"}], "otherwise": "end"},
        "greet": {"type": "send", "channel": "email", "template": "hello", "next": "end"},
        "end": {"type": "exit", "reason": "over"},
    }
    definition = JourneyDefinition.model_validate({"entry": {"api": True}, "start": "which", "nodes": nodes})
    counts = {"which": Counts(entered=1234, waiting=5, failed=2, left={"branch_0": 1000, "otherwise": 227})}
    texts = ["".join(each.itertext()) for each in drawn(definition, counts).iter(f"{SVG}text")]
    assert {"1,234 came · 5 there · 2 failed", "1,000", "227", "otherwiseotherwise", "send: email hello"} <= set(texts)
    # Cut to its room, and whole where a mouse rests on it.
    assert any(text.startswith("vip = true and in loyalvip = true") and text.endswith("…") for text in texts)
