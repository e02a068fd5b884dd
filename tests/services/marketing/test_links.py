"""Parameters of campaigns in the links of their messages."""

import pytest

from services.marketing import links

MARKS = links.marks_of({"source": "news letter", "campaign": "frühling&sale", "unknown": "x"})
ADDED = "utm_source=news%20letter&utm_campaign=fr%C3%BChling%26sale"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("https://shop.example", f"https://shop.example?{ADDED}"),
        ("https://shop.example/a/", f"https://shop.example/a/?{ADDED}"),
        ("https://shop.example/?", f"https://shop.example/?{ADDED}"),
        ("https://shop.example/?a=1&b=%26", f"https://shop.example/?a=1&b=%26&{ADDED}"),
        ("https://shop.example/?a=1&", f"https://shop.example/?a=1&{ADDED}"),
        ("https://shop.example/x#top?y", f"https://shop.example/x?{ADDED}#top?y"),
        ("HTTPS://shop.example/x?a=1#top", f"HTTPS://shop.example/x?a=1&{ADDED}#top"),
        (
            "https://shop.example/?utm_source=own",
            "https://shop.example/?utm_source=own&utm_campaign=fr%C3%BChling%26sale",
        ),
        (
            "https://shop.example/?UTM%5Fsource=&utm_campaign=x#a",
            "https://shop.example/?UTM%5Fsource=&utm_campaign=x#a",
        ),
        ("mailto:shop@example.com", "mailto:shop@example.com"),
    ],
)
def test_an_address_gets_the_parameters_that_it_lacks(target: str, expected: str) -> None:
    assert links.marked(target, MARKS) == expected


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("https://shop.example/?utm_source=a", "https://shop.example/"),
        ("https://shop.example/?a=1&UTM_Medium=x&b=%20&utm_id=7#c?d", "https://shop.example/?a=1&b=%20&utm_id=7#c?d"),
        ("https://shop.example/#utm_source=a", "https://shop.example/#utm_source=a"),
    ],
)
def test_an_address_is_known_without_its_marks(target: str, seen: str) -> None:
    assert links.unmarked(target) == seen
