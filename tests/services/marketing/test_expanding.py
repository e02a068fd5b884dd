"""Partials put into texts."""

import time

import pytest

from services.marketing.templates import expanding
from services.marketing.templating import MAX_SOURCE, TemplateError

PARTIALS = {"foot": "Bye.\n{{ tenant.name }}", "page": "<{% render 'foot' %}>"}


@pytest.mark.parametrize(
    ("source", "text", "used"),
    [
        ("none", "none", set[str]()),
        ("a {% render 'foot' %} b", "a Bye.\n{{ tenant.name }} b", {"foot"}),
        ('a {%render "foot"%} b', "a Bye.\n{{ tenant.name }} b", {"foot"}),
        ("a {%- render 'foot' -%} b", "aBye.\n{{ tenant.name }}b", {"foot"}),
        ("a {%- render 'foot' %} b", "aBye.\n{{ tenant.name }} b", {"foot"}),
        ("{% render 'page' %}", "<Bye.\n{{ tenant.name }}>", {"foot", "page"}),
        ("{% render 'foot' %}{% render 'foot' %}", "Bye.\n{{ tenant.name }}" * 2, {"foot"}),
        ("{% raw %}{% render 'foot' %}{% endraw %}", "{% raw %}{% render 'foot' %}{% endraw %}", set[str]()),
        ("{% comment %}{% render 'x' %}{% endcomment %}", "{% comment %}{% render 'x' %}{% endcomment %}", set[str]()),
        ("{{ \"{% render 'foot' %}\" }}", "{{ \"{% render 'foot' %}\" }}", set[str]()),
    ],
)
def test_a_partial_stands_where_it_is_rendered(source: str, text: str, used: set[str]) -> None:
    expanded = expanding.expand(source, PARTIALS)
    assert expanded.text == text
    assert dict(expanded.partials) == {key: PARTIALS[key] for key in used}


@pytest.mark.parametrize(
    ("source", "partials", "line", "reason"),
    [
        ("a\n{% render 'nope' %}", {}, 2, "there is no partial nope"),
        ("{% render 'a' %}", {"a": "\n{% render 'nope' %}"}, 1, "there is no partial nope"),
        ("{% render 'a' %}", {"a": "{% render 'a' %}"}, 1, "the partial a renders itself: a > a"),
        (
            "{% render 'a' %}",
            {"a": "{% render 'b' %}", "b": "{% render 'a' %}"},
            1,
            "the partial a renders itself: a > b > a",
        ),
        ("{% render foot %}", PARTIALS, 1, "in quotes"),
        ("{% render 'foot', title: 'a' %}", PARTIALS, 1, "and nothing else"),
        ("{% render 'Foot' %}", PARTIALS, 1, "in quotes"),
    ],
)
def test_what_cannot_be_rendered_is_refused_by_name(
    source: str, partials: dict[str, str], line: int, reason: str
) -> None:
    with pytest.raises(TemplateError) as error:
        expanding.expand(source, partials)
    assert error.value.line == line
    assert reason in error.value.reason


def test_partials_stand_within_each_other_to_a_depth() -> None:
    chain = {f"p{number}": f"{{% render 'p{number + 1}' %}}" for number in range(1, 10)} | {"p10": "end"}
    deepest = 11 - expanding.MAX_DEPTH
    assert expanding.expand(f"{{% render 'p{deepest}' %}}", chain).text == "end"
    with pytest.raises(TemplateError, match=f"more than {expanding.MAX_DEPTH} partials"):
        expanding.expand(f"{{% render 'p{deepest}' %}}{{% render 'p{deepest - 1}' %}}", chain)


def test_a_partial_is_known_by_the_name_it_is_saved_under() -> None:
    with pytest.raises(TemplateError, match="renders itself: page > page"):
        expanding.expand("{% render 'page' %}", PARTIALS, within="page")


def test_lines_are_those_of_what_was_written() -> None:
    expanded = expanding.expand("one\n{% render 'foot' %} two\nthree", PARTIALS)
    lines = expanded.text.split("\n")
    where = {text: expanded.line(number) for number, text in enumerate(lines, 1)}
    assert where == {"one": 1, "Bye.": 2, "{{ tenant.name }} two": 2, "three": 3}
    stripped = expanding.expand("one\n\n{%- render 'foot' -%}\n\nfive\nsix", PARTIALS)
    assert stripped.text.endswith("five\nsix")
    assert stripped.line(3) == 6


def test_bombs_and_endless_openings_are_ended_quickly() -> None:
    layers = {f"p{number}": f"{{% render 'p{number + 1}' %}}" * 500 for number in range(1, 4)} | {"p4": "x" * 500}
    began = time.monotonic()
    with pytest.raises(TemplateError, match="is longer than"):
        expanding.expand("{% render 'p1' %}" * 500, layers)
    for source in ("{% raw %}" * 20_000, "{% render 'x" * 15_000, "{% comment %}" * 15_000):
        assert expanding.expand(source[:MAX_SOURCE], {}).text == source[:MAX_SOURCE]
    assert time.monotonic() - began < 2
