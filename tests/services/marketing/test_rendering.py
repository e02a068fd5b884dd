import pytest

from core.ids import new_id
from core.tokens import ConsentRef, Tokens
from services.marketing import links, plain_text, rendering
from services.marketing.rendering import Rendered
from services.marketing.templating import TemplateError

TOKENS = Tokens("a secret that only tests know, long enough")
REF = ConsentRef(new_id(), new_id(), new_id(), "email", "general")
LINKS = links.Series(REF, tokens=TOKENS, public_url="https://go.example").of(REF.person_id, REF.message_id)
TENANT = {"name": "Shop & Co", "postal_address": "1 Main St\nTown"}


def _render(
    body: str, *, subject: str = "Hi", text: str | None = None, purpose: str = "marketing", **entry: object
) -> Rendered:
    template = rendering.compiled(subject, body, text, purpose)
    person = {"first_name": "Ann"}
    return rendering.render(template, rendering.values_of(person, entry, TENANT, LINKS), LINKS)


def test_marketing_mail_ends_with_a_way_out_and_an_address() -> None:
    mail = _render("<html><body><p>Hi</p></body></html>")
    assert mail.html.endswith("</body></html>")
    assert f'<a href="{LINKS.unsubscribe}">Unsubscribe</a>' in mail.html
    assert "1 Main St<br>Town" in mail.html
    assert f"Unsubscribe ({LINKS.unsubscribe})" in mail.text


def test_a_template_that_has_its_own_way_out_gets_no_second() -> None:
    mail = _render("<a href='{{ unsubscribe_url }}'>Out</a> {{ tenant.postal_address }}")
    assert mail.html.count(LINKS.unsubscribe) == 1
    assert mail.html.count("1 Main St") == 1


def test_transactional_mail_gets_no_way_out() -> None:
    mail = _render("<p>Receipt</p>", purpose="transactional", text="Receipt")
    assert LINKS.unsubscribe not in mail.html
    assert mail.text == "Receipt"


def test_links_lead_through_us_with_their_target_intact() -> None:
    mail = _render(
        """<a class="x" href="https://shop.example/?a=1&amp;b=2">a</a> <A HREF='http://b.example'>b</A>
        <a href="mailto:a@b.example">c</a> <a href="{{ unsubscribe_url }}">d</a> <a href="{{ entry.u }}">e</a>""",
        u='https://c.example/?q=x&y="<>',
    )
    targets = [TOKENS.read_click(part.split('"')[0].split("'")[0]).target for part in mail.html.split("/t/c/")[1:]]
    assert targets == ["https://shop.example/?a=1&b=2", "http://b.example", 'https://c.example/?q=x&y="<>']
    assert 'href="mailto:a@b.example"' in mail.html
    assert f'href="{LINKS.unsubscribe}"' in mail.html


def test_a_subject_is_one_line_whatever_the_values_hold() -> None:
    mail = _render("x", subject="Hi {{ entry.who }}", who="Ann\r\nBcc: evil@example.com\0\u2028!")
    assert mail.subject == "Hi Ann Bcc: evil@example.com !"


def test_an_empty_subject_is_an_error() -> None:
    with pytest.raises(TemplateError, match="subject is empty"):
        _render("x", subject="{{ entry.nothing }}")


def test_text_is_what_a_reader_sees() -> None:
    html = """<html><head><title>T</title><style>p{}</style></head><body>
      <h1>Hello&nbsp;&amp; welcome</h1><p>One
      two</p><ul><li>a</li><li>b</li></ul><a href="https://x.example/">Go</a><script>no()</script><br>end</body></html>"""
    assert plain_text.from_html(html) == ("Hello & welcome\n\nOne two\n\n- a\n- b\nGo (https://x.example/)\nend")


def test_text_of_any_input_comes_in_linear_time() -> None:
    for piece in ("<a", "<script", "<", "<a href='", "<!--", "&#"):
        plain_text.from_html(piece * 100_000)
