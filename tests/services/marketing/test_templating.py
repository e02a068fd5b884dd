"""Whatever a tenant writes, parsing and rendering take bounded time and memory."""

import time
import tracemalloc
from contextlib import suppress
from itertools import product

import pytest

from services.marketing import templating
from services.marketing.templating import TemplateError

DOUBLED = "{% assign a = 'xxxxxxxxxxxxxxxx' %}{% for i in (1..13) %}{% assign a = a | append: a %}{% endfor %}"


def _render(source: str, *, html: bool = True, **values: object) -> str:
    return templating.render(templating.parse(source, html=html), values)


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ (1..100000000) | join }}",
        "{{ (1..100000000) | size }}",
        "{% assign r = (1..100000000) %}{{ r | reverse | first }}",
        "{% for i in (1..100000000) %}{% endfor %}",
        "{% for i in (1..100000000) reversed %}{% endfor %}",
        "{% for i in (1..n) reversed %}{% endfor %}",
        "{% tablerow i in (1..100000000) %}{% endtablerow %}",
        "{% for i in (1..100) %}{% for j in (1..100) %}{% for k in (1..100) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% for i in (1..9000) %}{% endfor %}" * 2,
        "{% for i in (1..9000) %}" + "{% if false %}{% endif %}" * 5_000 + "{% endfor %}",
        DOUBLED + "{{ a | append: a | append: a }}",
        DOUBLED + "{{ a | replace: 'x', a }}",
        DOUBLED + "{{ (1..9999) | join: a }}",
        "{% assign a = (1..1000) | reverse %}{% for i in (1..9) %}{% assign a = a | concat: a %}{% endfor %}{{ a }}",
        "{% assign a = (1..9999) | reverse | uniq %}",
        "{% assign a = 12345 %}{% for i in (1..99) %}{% assign a = a | times: a %}{% endfor %}{{ a }}",
        "{% assign a = 'x' %}{% for i in (1..99) %}{% capture a %}{{ a }}{{ a }}{% endcapture %}{% endfor %}",
        "{% for i in (1..9000) %}" + "x" * 1_000 + "{% endfor %}",
        "{{ '2026-01-01' | date: f }}",
        "{% for i in (1..2) %}" * 25 + "{% endfor %}" * 25,
    ],
)
def test_a_bomb_is_refused_soon_and_in_little_memory(bomb: str) -> None:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(TemplateError):
            _render(bomb, n=100_000_000, f="%Y" * 1_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The library alone takes minutes and gigabytes; tracing makes ours slower by several times.
    assert time.process_time() - began < 20
    assert peak < 50_000_000


@pytest.mark.parametrize(
    "source",
    [
        "{{" * 90_000,
        "{{" + "a" * 150_000,
        "{%" * 90_000,
        "{% raw %}" * 20_000,
        "{% comment %}" * 15_000,
        ("{{" + " " * 450 + "}}") * 400,
        ("{% if" + " " * 450 + "%}") * 400,
        ("{{" + "(" * 450 + "}}") * 400,
        "{{ a }}" * 40_000,
    ],
)
def test_a_source_that_the_lexer_would_take_minutes_over_is_refused(source: str) -> None:
    began = time.process_time()
    with pytest.raises(TemplateError):
        templating.parse(source, html=True)
    assert time.process_time() - began < 10


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a\n{% if %}", 2),
        ("a\nb\n{{ x", 3),
        ("{% if x %}\n\na", 3),
        ("\n{% include 'x' %}", 2),
        ("{% nope %}", 1),
    ],
)
def test_a_mistake_is_named_with_its_line(source: str, line: int) -> None:
    with pytest.raises(TemplateError) as caught:
        templating.parse(source, html=True)
    assert caught.value.line == line


def test_values_are_escaped_in_html_and_nowhere_else() -> None:
    assert _render("{{ x }}{{ x | upcase }}", x="<i>") == "&lt;i&gt;&lt;I&gt;"
    assert _render("{{ '<b>X</b>' | replace: 'X', x }}", x="<i>") == "<b>&lt;i&gt;</b>"
    assert _render("{{ x }}", html=False, x="<i>") == "<i>"
    with pytest.raises(TemplateError, match="safe"):
        _render("{{ x | safe }}", x="<i>")


DECODERS = ("url_decode", "base64_decode", "strip_html", "escape_once", "newline_to_br", "append: y", "replace: 'a', y")


@pytest.mark.parametrize("chain", list(product(DECODERS, repeat=2)))
def test_no_chain_of_filters_lets_a_value_become_markup(chain: tuple[str, ...]) -> None:
    for value in ("<i>a", "%3Ci%3Ea", "PGk+YQ==", "&lt;i&gt;a"):
        with suppress(TemplateError):
            assert "<i>" not in _render("{{ x | " + " | ".join(chain) + " }}", x=value, y="<i>")


def test_what_is_missing_is_empty() -> None:
    assert _render("[{{ a.b.c }}{% for i in a.b %}x{% endfor %}]", a={}) == "[]"


def test_a_python_error_in_a_filter_is_the_templates_error() -> None:
    for source in ("{{ 'inf' | ceil }}", "{{ '1e400' | times: 2 | round }}", "{{ 1 | divided_by: 0 }}"):
        with pytest.raises(TemplateError):
            _render(source)


def test_the_variables_of_a_template_are_found_with_their_lines() -> None:
    source = """{{ person.first_name }}{% assign own = entry["Total Sum"].eur %}
    {% for item in entry.items %}{{ item.name }}{{ forloop.index }}{{ own }}{% endfor %}
    {{ person.attributes[entry.key] }}"""
    found = templating.variables(source, templating.parse(source, html=True))
    assert {(str(variable), variable.line) for variable in found} == {
        ("person.first_name", 1),
        ("entry.Total Sum.eur", 1),
        ("entry.items", 2),
        ("person.attributes.[...]", 3),
        ("entry.key", 3),
    }
