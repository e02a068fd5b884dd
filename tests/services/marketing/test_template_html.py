import random

import pytest

from services.marketing import templating
from services.marketing.templates import Wording, variant_for
from services.marketing.templates.html import compiled
from services.marketing.templates.texts import Text
from services.marketing.templating import TemplateError


def _mjml(body: str, head: str = "") -> str:
    return f"<mjml><mj-head>{head}</mj-head><mj-body>{body}</mj-body></mjml>"


SECTION = "<mj-section><mj-column><mj-text>Hi</mj-text></mj-column></mj-section>"


def test_liquid_around_sections_rows_and_in_attributes_comes_through() -> None:
    source = _mjml(
        "{% for x in entry.items %}<mj-section><mj-column>{% if x.new %}<mj-text>{{ x.name | default: 'a>b' }}"
        '<a class="big" href="https://x.example/{{ x.id }}?a={% if x.b %}1{% else %}2{% endif %}">go</a>'
        "<table>{% for y in x.rows %}<tr><td>{{ y }}</td></tr>{% endfor %}</table></mj-text>{% endif %}"
        "<mj-button href='{{ x.url | append: \"?q\" }}'>b</mj-button></mj-column></mj-section>{% endfor %}",
        '<mj-style inline="inline">.big { color: red }</mj-style>',
    )
    made = compiled(source, "mjml")
    assert 'style="color: red;"' in made
    assert "mj-" not in made.replace("mj-column-per-100", "").replace("mj-outlook-group-fix", "").replace(
        "mj-full-width-mobile", ""
    )
    values = {"entry": {"items": [{"new": True, "name": "<A>", "id": 7, "rows": [1, 2], "url": "https://u.example"}]}}
    shown = templating.render(templating.parse(made, html=True), values)
    assert "&lt;A&gt;" in shown
    assert 'href="https://x.example/7?a=2"' in shown
    assert 'href="https://u.example?q"' in shown
    assert shown.count("<tr><td>1</td></tr>") == 1


PLACES = (
    "{}",
    "<mj-section>{}<mj-column><mj-text>a</mj-text></mj-column></mj-section>",
    "<mj-section><mj-column>{% if tenant.name %}<mj-text>{}</mj-text>{% endif %}</mj-column></mj-section>",
    "<mj-section><mj-column><mj-text><p>a {} b</p></mj-text></mj-column></mj-section>",
    "<mj-section><mj-column><mj-table><tr><td>a {}</td></tr></mj-table></mj-column></mj-section>",
    '<mj-section><mj-column><mj-image src="https://x.example/{}" alt="a"/></mj-column></mj-section>',
    "<mj-raw>{}</mj-raw>",
    '<mj-section background-color="{}"><mj-column><mj-text>a</mj-text></mj-column></mj-section>',
)
PIECES = (
    "{{ person.first_name }}",
    "{{- person.last_name | upcase -}}",
    "{% if person.email %}y{% endif %}",
    "{% raw %}<b>{{ no }}{% endraw %}",
    "{% unless tenant.name %}n{% else %}m{% endunless %}",
)


@pytest.mark.parametrize("seed", range(40))
def test_liquid_survives_wherever_it_stands(seed: int) -> None:
    chosen = random.Random(seed)
    pieces = [chosen.choice(PIECES) for _ in range(6)]
    body = "".join(chosen.choice(PLACES).replace("{}", piece) for piece in pieces)
    styled = _mjml(body, '<mj-style inline="inline">p { color: blue }</mj-style>' if seed % 2 else "")
    made = compiled(styled, "mjml")
    for piece in pieces:
        assert piece in made
    assert "lq" not in made


def test_styles_of_html_are_inlined_once_saved() -> None:
    made = compiled(
        "<style>.a{color:red} @media print{.a{color:blue}}</style><p class='a' title='{{ person.email }}'>x</p>", "html"
    )
    assert '<p class="a" title="{{ person.email }}" style="color: red;">x</p>' in made
    assert "@media print" in made
    assert compiled("<p>no style: {{ x }}", "html") == "<p>no style: {{ x }}"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (_mjml("\n<mj-section>\n<mj-foo></mj-foo></mj-section>"), "line 3: there is no element mj-foo"),
        (_mjml("\n<mj-section>\n"), "line 3: </mj-body> closes mj-section of line 2"),
        ("<mjml><mj-body>", "mj-body is never closed"),
        ("<p>Hi</p>", "is not MJML"),
        (_mjml("<mj-include path='/etc/passwd'/>"), "line 1: mj-include is not supported"),
        (
            _mjml("\n<mj-section><mj-column width='{{ entry.w }}'></mj-column></mj-section>"),
            "line 2: {{ entry.w }} would",
        ),
        (_mjml("<mj-text {% if a %}color='red'{% endif %}>a</mj-text>"), "must stand in a value in quotes"),
        (_mjml("<mj-text>lq1x</mj-text>"), "stands for Liquid"),
        (_mjml("<mj-wrapper>" * 5_000 + "</mj-wrapper>" * 5_000), "elements within each other"),
        (
            _mjml("<mj-section><mj-column>" + "<mj-carousel-image src='a'/>" * 5_000 + "</mj-column></mj-section>"),
            "many",
        ),
        (_mjml(SECTION * 900, f"<mj-attributes><mj-all title='{'x' * 50_000}'/></mj-attributes>"), "so many styles"),
        ("<mj-style inline='inline'>" * 7_000, ""),
    ],
    ids=range(12),
)
def test_what_cannot_be_compiled_is_refused_with_its_line(source: str, reason: str) -> None:
    with pytest.raises(TemplateError) as refused:
        compiled(source, "mjml")
    assert reason in str(refused.value)


def test_text_that_would_leave_its_place_is_refused_with_its_line() -> None:
    column = "<mj-section><mj-column>\n{% if entry.a %}{{ entry.a }}{% endif %}</mj-column></mj-section>"
    with pytest.raises(TemplateError, match=r"^line 2: text directly within <mj-column>"):
        compiled(_mjml(column), "mjml")
    style = "<style>b{color:red}</style>"
    row = style + "<table>\n<tr>\n{% if entry.a %}yes{% endif %}<td>a</td></tr></table>"
    with pytest.raises(TemplateError, match=r"^line 3: text directly within <tr>"):
        compiled(row, "html")
    chosen = "{% if entry.a %}<table>{% else %}<table class='a'>{% endif %}<tr><td>a</td></tr></table> after"
    assert compiled(style + chosen, "html").count("after") == 1
    cells = "<table>{% for x in entry.rows %}<tr>{% if x %}<td>{{ x }}</td>{% endif %}</tr>{% endfor %}</table>"
    assert "<td>{{ x }}</td>{% endif %}</tr>{% endfor %}" in compiled(style + cells, "html")


def test_deep_html_ends_no_process() -> None:
    with pytest.raises(TemplateError):
        compiled("<style>b{color:red}</style>" + "<b>" * 20_000, "html")


@pytest.mark.parametrize(
    ("locale", "subject", "body", "text"),
    [
        (None, "Hello", "<p>Hello</p>", "Hello"),
        ("fr", "Hello", "<p>Hello</p>", "Hello"),
        ("de", "Hallo", "<p>Hallo</p>", None),
        ("de_CH", "Hallo", "<p>Hallo</p>", None),
        ("DE-at-1996", "Servus", "<p>Hello</p>", "Hello"),
        ("de-u-co", "Hallo", "<p>Hallo</p>", None),
        ("den", "Hello", "<p>Hello</p>", "Hello"),
    ],
)
def test_a_person_gets_the_text_of_their_locale(locale: str | None, subject: str, body: str, text: str | None) -> None:
    class Version:
        subject = "Hello"
        body = "<p>Hello</p>"
        text_body = "Hello"
        locales = {"de": {"subject": "Hallo", "body": "<p>Hallo</p>"}, "de-AT": {"subject": "Servus"}}  # noqa: RUF012

    assert variant_for(Version(), locale) == Wording(subject, body, text)
    assert Text("a", "b").locales == {}
