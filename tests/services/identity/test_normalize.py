"""One spelling for each identifier."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidError
from services.identity import normalize


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("Ann@Shop.Example", "ann@shop.example"),
        ("  ann@shop.example\n", "ann@shop.example"),
        ("ann+news@shop.example", "ann+news@shop.example"),
        ("ann@BÜCHER.example", "ann@bücher.example"),
        ("ann@xn--bcher-kva.example", "ann@bücher.example"),
        ("A\u0308nn@shop.example", "änn@shop.example"),
        ("demo@anything.test", "demo@anything.test"),
    ],
)
def test_one_address_has_one_spelling(given_text: str, kept: str) -> None:
    assert normalize.email(given_text) == kept
    assert normalize.email(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ann",
        "@shop.example",
        "ann@",
        "ann@localhost",
        "ann@shop..example",
        "Ann <ann@shop.example>",
        "a@[127.0.0.1]",
        '"a b"@shop.example',
        "ann@shop.example, bo@shop.example",
        "a" * 65 + "@shop.example",
        "a\0@shop.example",
        "\ud800@shop.example",
        "ann@shop.example\r\nBcc: bo@shop.example",
    ],
)
def test_what_is_no_address_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidError) as refusal:
        normalize.email(text, "person.email")
    assert [problem.field for problem in refusal.value.errors] == ["person.email"]


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("+49 (30) 123-4567", "+49301234567"),
        ("+49 (0)30 1234567", "+49301234567"),
        ("+1 650.253.0000", "+16502530000"),
        (" +39 06 698 1234 ", "+39066981234"),
    ],
)
def test_one_number_has_one_spelling(given_text: str, kept: str) -> None:
    assert normalize.phone(given_text) == kept
    assert normalize.phone(kept) == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "030 1234567",
        "0049 30 1234567",
        "+999 1234567",
        "+1",
        "+1 650 253 0000 x8",
        "+1-800-FLOWERS",
        "+4930" + "1" * 20,
        "tel:+49301234567",
        "+٤٩٣٠١٢٣٤٥٦٧",
    ],
)
def test_what_is_no_international_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        normalize.phone(text)


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("DE_at", "de-AT"),
        ("en", "en"),
        ("ZH-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("sl-rozaj-biske", "sl-rozaj-biske"),
    ],
)
def test_one_language_tag_has_one_spelling(given_text: str, kept: str) -> None:
    assert normalize.locale(given_text) == kept
    assert normalize.locale(kept) == kept


@given(st.text(max_size=300))
@pytest.mark.parametrize(
    "normal", [normalize.email, normalize.phone, normalize.external_id, normalize.anonymous_id, normalize.locale]
)
def test_any_text_is_kept_in_a_stable_spelling_or_refused(normal: Callable[[str], str], text: str) -> None:
    try:
        kept = normal(text)
    except InvalidError:
        return
    assert normal(kept) == kept
    assert kept.encode()
    assert "\0" not in kept


QUICK = normalize._plain_email  # pyright: ignore[reportPrivateUsage]  # the two ways are inside
THOROUGH = normalize._email  # pyright: ignore[reportPrivateUsage]  # as above
_LOCAL = st.from_regex(r"[A-Za-z0-9._+\-]{1,66}", fullmatch=True)
_DOMAIN = st.from_regex(r"([A-Za-z0-9\-]{1,64}\.){1,4}([A-Za-z0-9\-]{1,10}|test|local|onion)", fullmatch=True)


@given(st.one_of(st.builds("{}@{}".format, _LOCAL, _DOMAIN), st.emails(), st.text()))
def test_the_quick_way_for_plain_addresses_says_what_the_parser_says(text: str) -> None:
    quick = QUICK(text)
    try:
        thorough = THOROUGH(text)
    except ValueError:
        thorough = None
    assert quick in {None, thorough}


@pytest.mark.parametrize("text", ["ann.b+c-d_e@mail.shop.example", "ANN@SHOP.EXAMPLE", "a@b.test"])
def test_plain_addresses_go_the_quick_way(text: str) -> None:
    assert QUICK(text) == text.lower()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Jörg@Exämple.de", "jörg@exämple.de"),
        ("JO\N{COMBINING DIAERESIS}RG@example.de", "jörg@example.de"),
        (" 用户@例え.jp ", "用户@例え.jp"),
    ],
)
def test_addresses_with_letters_of_any_script_are_kept_in_one_form(given: str, kept: str) -> None:
    assert normalize.email(given) == kept
