"""What text messages, push messages and posts say, and how text messages are cut."""

import pytest

from services.marketing import links, texts
from services.marketing.templating import TemplateError
from services.marketing.texts import Segments, TextChannel

VALUES = {"person": {"first_name": "Ann <&>"}, "tenant": {"name": "Shop", "postal_address": None}}


def rendered(channel: TextChannel, body: str, **parts: str) -> texts.Content:
    template = texts.compiled(channel, parts.get("subject"), body, parts.get("link"), parts.get("image"))
    return texts.render(template, VALUES, links.of_preview("https://t.example"), short=lambda target: f"<{target}>")


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a" * 160, Segments("GSM-7", 1, 160)),
        ("a" * 161, Segments("GSM-7", 2, 161)),
        ("a" * 306, Segments("GSM-7", 2, 306)),
        ("a" * 307, Segments("GSM-7", 3, 307)),
        ("€" * 80, Segments("GSM-7", 1, 160)),
        ("a" * 152 + "€" + "a" * 7, Segments("GSM-7", 2, 161)),
        # the pair of the euro sign does not fit into the first part's last place, nor what follows into the second
        ("a" * 152 + "€" + "a" * 152, Segments("GSM-7", 3, 306)),
        ("ł" * 70, Segments("UCS-2", 1, 70)),
        ("ł" * 71, Segments("UCS-2", 2, 71)),
        ("😀" * 35, Segments("UCS-2", 1, 70)),
        ("😀" * 36, Segments("UCS-2", 2, 72)),
        ("", Segments("GSM-7", 1, 0)),
    ],
)
def test_text_messages_are_cut_as_networks_cut_them(text: str, segments: Segments) -> None:
    assert texts.segments(text) == segments


def test_nothing_is_escaped_and_links_in_text_messages_are_short() -> None:
    assert rendered("sms", "Hi {{ person.first_name }}").body == "Hi Ann <&>"
    body = "See (https://a.example/x?y=1&z=2), http://b.example. Or https://t.example/t/u/preview"
    shortened = "See (<https://a.example/x?y=1&z=2>), <http://b.example>. Or https://t.example/t/u/preview"
    assert rendered("sms", body).body == shortened
    assert rendered("push", body).body == body
    marked = "See (<https://a.example/x?y=1&z=2>), <http://b.example>. Or <https://t.example/t/u/preview>"
    assert rendered("social", body).body == marked


def test_a_push_message_has_title_link_and_image() -> None:
    link = "shop://sale/{{ person.first_name | size }}"
    content = rendered("push", "Look", subject="{{ tenant.name }}\n!", link=link, image="https://a.example/a.png")
    assert content == texts.Content("Look", "Shop !", "shop://sale/7", "https://a.example/a.png")
    assert rendered("social", "Look", subject="Ignored").title is None


@pytest.mark.parametrize(
    ("channel", "body", "parts", "reason"),
    [
        ("sms", " {{ person.nothing }} ", {}, "the body is empty"),
        ("sms", "x" * 1601, {}, "more than 1600 characters"),
        ("push", "Hi", {"link": "{{ person.first_name }}"}, "the link is not an address"),
        ("push", "Hi", {"image": "nowhere"}, "the image is not an address"),
    ],
)
def test_what_cannot_go_says_why(channel: TextChannel, body: str, parts: dict[str, str], reason: str) -> None:
    with pytest.raises(TemplateError, match=reason):
        rendered(channel, body, **parts)


def test_authors_are_told_what_a_text_costs_and_lacks() -> None:
    assert texts.warnings("sms", "Hi. Reply STOP to end.", "marketing") == []
    odd, cut, stop = texts.warnings("sms", "ł" * 80, "marketing")
    assert odd.endswith(": ł")
    assert cut == "goes out as 2 segments"
    assert "opt_out_text" in stop
    assert texts.warnings("sms", "Your code is 1", "transactional") == []
    assert texts.warnings("social", "x" * 501, "marketing") == [
        "has more than 500 characters, which most Mastodon servers refuse"
    ]
