import email
import email.policy
from dataclasses import replace
from datetime import UTC, datetime
from email.message import EmailMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_id
from integrations.email.mime import Letter, UnsendableError, compose

LETTER = Letter(
    id=new_id(),
    sender="Shop <shop@example.com>",
    recipient="ann@example.com",
    subject="Hello",
    html="<p>Hello</p>",
    text="Hello",
    date=datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC),
    unsubscribe_url="https://go.example/t/u/abc",
)
HEADERS = [
    "from", "to", "subject", "date", "message-id", "list-unsubscribe", "list-unsubscribe-post", "mime-version",
    "content-type",
]  # fmt: skip


def _read(letter: Letter) -> EmailMessage:
    return email.message_from_bytes(compose(letter).content, policy=email.policy.default)


@given(
    subject=st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(lambda text: " ".join(text.split())),
    text=st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
    ),
)
def test_any_text_arrives_as_it_was(subject: str, text: str) -> None:
    mail = _read(replace(LETTER, subject=subject, text=text, html=text))
    assert mail["subject"] == subject
    for part in mail.iter_parts():
        assert part.get_content().replace("\r\n", "\n").rstrip("\n") == text.rstrip("\n")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"\\')))
def test_no_subject_or_sender_adds_a_header(text: str) -> None:
    mail = _read(replace(LETTER, subject=text + "\r\nBcc: evil@example.com", sender=f'"{text}" <shop@example.com>'))
    assert [name.lower() for name in mail] == HEADERS


@given(st.text(max_size=3000))
def test_no_line_is_too_long_or_ends_the_mail(text: str) -> None:
    safe = text.encode("utf-8", "replace").decode()
    content = compose(replace(LETTER, subject=safe, html=safe, text="\r\n.\r\n" + safe)).content
    lines = content.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)


def test_the_same_letter_gives_the_same_bytes() -> None:
    assert compose(LETTER) == compose(LETTER)
    assert f"Message-ID: <{LETTER.id}@example.com>".encode() in compose(LETTER).content


def test_only_marketing_can_be_unsubscribed_from_with_one_click() -> None:
    mail = _read(LETTER)
    assert mail["list-unsubscribe"] == "<https://go.example/t/u/abc>"
    assert mail["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    assert _read(replace(LETTER, unsubscribe_url=None))["list-unsubscribe"] is None


def test_domains_beyond_ascii_are_put_into_ascii_and_local_parts_stay() -> None:
    assert compose(replace(LETTER, recipient="ann@käse.example")).recipient == "ann@xn--kse-qla.example"
    mail = compose(replace(LETTER, sender='"Jörg, Shop" <jörg@käse.example>', recipient="änn@käse.example"))
    assert (mail.sender, mail.recipient) == ("jörg@xn--kse-qla.example", "änn@xn--kse-qla.example")
    assert f"To: {mail.recipient}\r\n".encode() in mail.content
    read = _read(replace(LETTER, sender='"Jörg, Shop" <jörg@käse.example>'))
    assert read["from"].addresses[0].display_name == "Jörg, Shop"
    assert compose(replace(LETTER, sender="jörg@example.com")).content.startswith(
        "From: <jörg@example.com>\r\n".encode()
    )
    assert compose(LETTER).content.isascii()


@pytest.mark.parametrize(
    "address", ["änn", "ä nn@example.com", "änn@", "ä>nn@example.com", "ä\r\nnn@example.com", "a@ä..b"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UnsendableError):
        compose(replace(LETTER, recipient=address))
