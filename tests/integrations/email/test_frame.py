import email
import email.policy
from datetime import UTC, datetime
from email.message import EmailMessage

from hypothesis import given
from hypothesis import strategies as st

from core.ids import new_id
from integrations.email.frame import Filling, Frame
from integrations.email.mime import Letter, compose

MOMENT = datetime(2026, 11, 23, 1, 2, 3, 456, tzinfo=UTC)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")),
    st.text("ab =\n.%-é", max_size=200),
    st.integers(1, 1500).map(lambda count: "x" * count),
    st.sampled_from([".", "\n.\n", "From ", " ", "=", "", "=\n"]),
)


def _read(content: bytes) -> EmailMessage:
    return email.message_from_bytes(content, policy=email.policy.default)


@given(
    html=st.lists(st.one_of(TEXT, st.integers(0, 2)), max_size=6),
    text=st.lists(st.one_of(TEXT, st.integers(0, 2)), max_size=6),
    values=st.tuples(TEXT, TEXT, TEXT),
    subject=st.text(st.characters(exclude_categories=["Cs", "Cc"])).map(lambda text: " ".join(text.split())),
    one_click=st.booleans(),
)
def test_a_frame_says_what_a_composed_mail_says(
    html: list[str | int], text: list[str | int], values: tuple[str, ...], subject: str, one_click: bool
) -> None:
    frame = Frame(sender="Shöp <shop@example.com>", html=html, text=text, values=3, one_click=one_click)
    unsubscribe = "https://go.example/t/u/x"
    filling = Filling(new_id(), "ann@example.com", subject, MOMENT, unsubscribe)
    mail = frame.compose(values, filling)
    whole = ["".join(piece if isinstance(piece, str) else values[piece] for piece in pieces) for pieces in (html, text)]
    letter = Letter(
        id=filling.id,
        sender="Shöp <shop@example.com>",
        recipient="ann@example.com",
        subject=subject,
        html=whole[0],
        text=whole[1],
        date=MOMENT,
        unsubscribe_url=unsubscribe if one_click else None,
    )
    expected = compose(letter)
    assert (mail.id, mail.sender, mail.recipient) == (expected.id, expected.sender, expected.recipient)
    got, wanted = _read(mail.content), _read(expected.content)
    assert got.items() == wanted.items()
    for one, other, source in zip(got.iter_parts(), wanted.iter_parts(), (whole[1], whole[0]), strict=True):
        assert one.get_content_type() == other.get_content_type()
        assert one.get_payload(decode=True) == source.replace("\n", "\r\n").encode()
    lines = mail.content.split(b"\r\n")
    assert max(map(len, lines)) <= 998
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)


@given(subject=ANY, value=ANY)
def test_nothing_adds_a_header_or_a_line_ending_of_its_own(subject: str, value: str) -> None:
    frame = Frame(sender="shop@example.com", html=["<p>", 0, "</p>"], text=[0], values=1, one_click=True)
    filling = Filling(new_id(), "ann@example.com", subject + "\r\nBcc: x@example.com", MOMENT, "https://go.example/")
    content = frame.compose([value + "\r\n.\r\n"], filling).content
    assert _read(content)["bcc"] is None
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert b"\n" not in content.replace(b"\r\n", b"")


def test_plain_mail_goes_as_it_is_and_all_else_encoded() -> None:
    frame = Frame(sender="shop@example.com", html=["<p>100% ", 0], text=["Hi ", 0], values=1, one_click=False)
    filling = Filling(new_id(), "ann@example.com", "Hi", MOMENT, None)
    assert b"7bit" in frame.compose(["Ann"], filling).content
    for value in ("Ännchen", "x" * 991, "two\nlines"):
        assert b"7bit" not in frame.compose([value], filling).content
    twice = Frame(sender="shop@example.com", html=[0, 0], text=[], values=1, one_click=False)
    assert b"7bit" not in twice.compose(["x" * 500], filling).content
