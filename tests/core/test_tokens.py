from collections.abc import Callable

import pytest

from core.ids import new_id
from core.tokens import BadTokenError, Click, ConsentRef, MessageRef, Tokens

TOKENS = Tokens("a secret of this deployment, long enough")
REF = MessageRef(new_id(), new_id())
CLICK = Click(new_id(), new_id(), "https://example.com/shop?ä=1&b=2")
CONSENT = ConsentRef(new_id(), new_id(), new_id(), "email", "news & offers")


def test_a_token_reads_as_what_was_signed() -> None:
    assert TOKENS.read_open(TOKENS.open(REF)) == REF
    assert TOKENS.read_click(TOKENS.click(CLICK)) == CLICK
    assert TOKENS.read_unsubscribe(TOKENS.unsubscribe(CONSENT)) == CONSENT
    assert TOKENS.read_preferences(TOKENS.preferences(CONSENT)) == CONSENT


def test_what_signs_for_many_messages_signs_as_for_one() -> None:
    ours = TOKENS.of_messages(CONSENT.tenant_id, CONSENT.channel, CONSENT.topic)
    message = CONSENT.message_id
    for _ in range(2):
        assert ours.open(message.bytes) == TOKENS.open(MessageRef(CONSENT.tenant_id, message))
        assert ours.click(message.bytes, CLICK.target) == TOKENS.click(Click(CONSENT.tenant_id, message, CLICK.target))
        assert ours.unsubscribe(CONSENT.person_id.bytes, message.bytes) == TOKENS.unsubscribe(CONSENT)


@pytest.mark.parametrize("position", [0, 5, 30, -1])
def test_a_changed_token_is_refused(position: int) -> None:
    token = TOKENS.unsubscribe(CONSENT)
    changed = "A" if token[position] != "A" else "g"
    forged = token[:position] + changed + (token[position:][1:] if position != -1 else "")
    with pytest.raises(BadTokenError):
        TOKENS.read_unsubscribe(forged)


@pytest.mark.parametrize("text", ["", "A", "AQ", "not base64!", "é", "A" * 5000])
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(BadTokenError):
        TOKENS.read_open(text)


SIGN: dict[str, Callable[[], str]] = {
    "open": lambda: TOKENS.open(REF),
    "click": lambda: TOKENS.click(CLICK),
    "unsubscribe": lambda: TOKENS.unsubscribe(CONSENT),
    "preferences": lambda: TOKENS.preferences(CONSENT),
}
READ: dict[str, Callable[[str], object]] = {
    "open": TOKENS.read_open,
    "click": TOKENS.read_click,
    "unsubscribe": TOKENS.read_unsubscribe,
    "preferences": TOKENS.read_preferences,
}


@pytest.mark.parametrize(("signed", "read"), [(a, b) for a in SIGN for b in READ if a != b])
def test_a_token_of_one_kind_is_not_taken_for_another(signed: str, read: str) -> None:
    with pytest.raises(BadTokenError):
        READ[read](SIGN[signed]())


def test_another_deployments_token_is_refused() -> None:
    with pytest.raises(BadTokenError):
        TOKENS.read_open(Tokens("another secret, just as long as ours").open(REF))
