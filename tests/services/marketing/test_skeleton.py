"""The fast path says byte for byte what Liquid says, or nothing."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_id
from core.tokens import ConsentRef, Tokens
from services.marketing import links, rendering
from services.marketing.rendering import Compiled, Rendered
from services.marketing.skeleton import filled
from services.marketing.templating import TemplateError

TOKENS = Tokens("a secret for tests")
REF = ConsentRef(new_id(), new_id(), new_id(), "email", "news")
OWN = links.Series(REF, tokens=TOKENS, public_url="https://go.example").of(REF.person_id, REF.message_id)
ADDRESS = "Main Street 1\n12345 Town & Country"
BODY = (
    '<html><body class="x"><h1>Hello {{ person.first_name }},</h1>\r\n<p>100% of {{ person.attributes.plan }}: '
    '<a class="b" href="https://shop.example/?a=1&amp;b={{ person.attributes.plan }}&c=3">Shop</a> '
    "<a href='https://shop.example/static?x=%20'>Static</a> <a href=\"{{ preferences_url }}\">Preferences</a>"
    "{{ tenant.name }}</p></body></html>"
)


def _values(**person: object) -> dict[str, Any]:
    attributes = {"plan": person.pop("plan", "pro")}
    given = {"first_name": "Ann", "id": REF.person_id, "created_at": datetime(2026, 1, 2, tzinfo=UTC)} | person
    tenant = {"name": "Shop", "postal_address": ADDRESS}
    return rendering.values_of(given | {"attributes": attributes}, {"n": 3, "ok": True}, tenant, OWN)


def _fast(template: Compiled, values: dict[str, Any]) -> Rendered | None:
    skeleton = rendering.skeleton(template, OWN.base, ADDRESS)
    found = None if skeleton is None else skeleton.values(values, OWN)
    if skeleton is None or found is None:
        return None
    subject = rendering.subject_of(filled(skeleton.subject, found))
    return Rendered(subject, filled(skeleton.html, found), filled(skeleton.text, found))


def _same(template: Compiled, values: dict[str, Any]) -> Rendered | None:
    try:
        fast = _fast(template, values)
    except TemplateError:
        return None
    if fast is not None:
        assert fast == rendering.render(template, values, OWN)
    return fast


def test_a_straight_template_takes_the_fast_path() -> None:
    template = rendering.compiled("Hi {{ person.first_name | upcase | default: 'friend' }}", BODY, None, "marketing")
    found = _same(template, _values())
    assert found is not None
    assert found.subject == "Hi ANN"
    assert _same(template, _values(first_name=None)) is None  # the text would collapse around it: Liquid's
    of_two = rendering.compiled("Hi", BODY, "Hello {{ person.first_name | default: 'you' }}", "transactional")
    found = _same(of_two, _values(first_name=""))
    assert found is not None
    assert found.text == "Hello you"


NAMES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.text("ab <>&;\"'= \n\t\r%{}$\\1#xhref:/", max_size=12),
    st.sampled_from(["amp;", "lt", "&lt;", "https://go.example/t/x", "javascript:x", "#38;", "a  b", " a", "\xa0"]),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(["x", "size"]), st.text(max_size=3), max_size=2),
)


@given(first=NAMES, plan=NAMES)
def test_any_values_give_what_liquid_gives(first: object, plan: object) -> None:
    values = _values(first_name=first, plan=plan)
    _same(rendering.compiled("Hi {{ person.first_name }}!", BODY, None, "marketing"), values)
    text = "{{ person.first_name | capitalize | default: 'you' }} {{ entry.n }} {{ entry.ok }}\n{{ unsubscribe_url }}"
    _same(rendering.compiled("{{ person.first_name | strip | downcase }}", BODY, text, "marketing"), values)


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "<p>", "</p>", "<br>", "<", ">", "&", "&am", "&#", ";", "\n", " ", "  ", "=", '"', "'", "</body>",
                "<a href=", '<a href="', "<a href='", "<a  class='x' href=\"https://x.example/?a=", '">', "'>", "</a>",
                "<style>", "</style>", "<title>", "</title>", "<li>", "<!--", "-->", "https://", "http://x.example/",
                "https://go.example/t/", "é", "%s", "%", "<img src='", "<td>", "{{ person.first_name }}",
                "{{ person.attributes.plan }}", "{{ person.attributes.plan.x }}", "{{ unsubscribe_url }}",
                "{{ person.nothing }}", "{{ person.attributes.plan | default: 'x y' }}", "{{ person.first_name.size }}",
                "{{ 'lit' }}", "{% if person.first_name %}a{% endif %}", "{{- person.first_name -}}",
                "{{ person.first_name | strip | upcase }}", "{{ person.id }}", "{{ person.created_at }}",
            ]
        ),
        st.text("abc xyz", max_size=5),
    ),
    max_size=14,
)  # fmt: skip


@given(pieces=PIECES, first=NAMES, plan=NAMES, own_text=st.booleans())
def test_any_template_gives_what_liquid_gives(pieces: list[str], first: object, plan: object, own_text: bool) -> None:
    source = "".join(pieces)
    try:
        template = rendering.compiled(f"S {source}", source, source if own_text else None, "marketing")
    except TemplateError:
        return
    _same(template, _values(first_name=first, plan=plan))


def test_a_value_for_another_deployment_or_a_preview_is_left_to_liquid() -> None:
    template = rendering.compiled("Hi", BODY, None, "marketing")
    skeleton = rendering.skeleton(template, OWN.base, ADDRESS)
    assert skeleton is not None
    assert skeleton.values(_values(), links.of_preview("https://go.example")) is None
