"""Signed tokens in the links of messages: whoever holds one may do just what it says, for ever.

A token is `version | payload | MAC` in URL-safe base64 without padding. The MAC is keyed BLAKE2 under the deployment's
`SECRET_KEY`, personalised by the kind, so that a token of one kind is never taken for another. Unsubscribe links must
work as long as the mail is kept, so tokens do not expire.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_VERSION: Final = b"\x01"
_MAC_BYTES: Final = 16
_SHORT_BYTES: Final = 9
"""72 bits, 12 letters: what a short link leads to is looked up, not signed."""
_ID_BYTES: Final = 16
_CHANNELS: Final = ("email", "sms", "push", "social")
"""A channel travels as its number here: append only."""

_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")

_FORM_VIEW: Final = b"tl-form-view"
_OPEN: Final = b"tl-open"
_CLICK: Final = b"tl-click"
_UNSUBSCRIBE: Final = b"tl-unsubscribe"
_PREFERENCES: Final = b"tl-preferences"
_CONFIRM: Final = b"tl-confirm"
_BOUNCE: Final = b"tl-bounce"
_BOUNCE_MAC_BYTES: Final = 5
"""A local part of an address has 64 characters at most (RFC 5321), and two ids take 52 of them. Whoever has a message
knows its address anyway; of other messages, they would have to guess two ids too."""
_ACCOUNT: Final = b"tl-account"
_STREAM: Final = b"tl-stream"

NO_MESSAGE: Final = UUID(int=0)
"""Stands in a `ConsentRef` for the message where the link was not given out by one."""


class BadTokenError(ValueError):
    """The text is not a token that this deployment signed for this purpose."""


@dataclass(frozen=True, slots=True)
class FormView:
    """A form that was shown: what its page carries, so that a program's haste shows."""

    form_id: UUID
    shown_at: int
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class MessageRef:
    """Names a message: what the open pixel carries."""

    tenant_id: UUID
    message_id: UUID


@dataclass(frozen=True, slots=True)
class Click:
    """Names a message and where its link leads: signed, so that nobody can have us redirect elsewhere."""

    tenant_id: UUID
    message_id: UUID
    target: str


@dataclass(frozen=True, slots=True)
class ConsentRef:
    """Whose consent a link may change, and the channel and topic of the message it stood in."""

    tenant_id: UUID
    person_id: UUID
    message_id: UUID
    channel: str
    topic: str


@dataclass(frozen=True, slots=True)
class ConfirmRef:
    """Names the opt-in, an entry of the consent ledger, that a link confirms."""

    tenant_id: UUID
    change_id: UUID


@dataclass(frozen=True, slots=True)
class AccountRef:
    """Names an account with a provider: what the address holds that the provider reports to."""

    tenant_id: UUID
    account_id: UUID


def short_code(key: bytes, message_id: UUID, target: str) -> str:
    """Return the code of a short link: the same for the same link of a message, and nobody else's guess.

    Args:
        key: `Tokens.short_key`.
        message_id: the message that it stands in.
        target: where it leads.
    """
    digest = hashlib.blake2b(message_id.bytes + target.encode(), digest_size=_SHORT_BYTES, key=key).digest()
    return base64.urlsafe_b64encode(digest).decode()


class Tokens:
    """Signs and reads tokens under one secret."""

    def __init__(self, secret: str) -> None:
        """Derive the key; `secret` is the deployment's `SECRET_KEY`, of any length."""
        self._key = hashlib.blake2b(secret.encode(), digest_size=32, person=b"tl-tokens").digest()
        self._keyed: dict[bytes, hashlib.blake2b] = {}
        self.short_key: Final = hashlib.blake2b(secret.encode(), digest_size=32, person=b"tl-short").digest()
        """Makes the codes of short links."""

    def form_view(self, view: FormView) -> str:
        """Return the token of a form's page."""
        return self._sign(_FORM_VIEW, view.form_id.bytes + view.shown_at.to_bytes(8))

    def read_form_view(self, token: str) -> FormView:
        """Return which form was shown, and when."""
        payload = self._verify(_FORM_VIEW, token)
        return FormView(_id(payload, 0), int.from_bytes(payload[_ID_BYTES:]))

    def open(self, ref: MessageRef) -> str:
        """Return the token of the open pixel."""
        return self._sign(_OPEN, ref.tenant_id.bytes + ref.message_id.bytes)

    def read_open(self, token: str) -> MessageRef:
        """Return what an open pixel names.

        Raises:
            BadTokenError: as for every `read_`.
        """
        payload = self._verify(_OPEN, token)
        return MessageRef(_id(payload, 0), _id(payload, 1))

    def click(self, click: Click) -> str:
        """Return the token of a tracked link."""
        return self._sign(_CLICK, click.tenant_id.bytes + click.message_id.bytes + click.target.encode())

    def read_click(self, token: str) -> Click:
        """Return the message and target of a tracked link."""
        payload = self._verify(_CLICK, token)
        return Click(_id(payload, 0), _id(payload, 1), payload[2 * _ID_BYTES :].decode())

    def unsubscribe(self, ref: ConsentRef) -> str:
        """Return the token of an unsubscribe link."""
        return self._sign(_UNSUBSCRIBE, _consent_payload(ref))

    def read_unsubscribe(self, token: str) -> ConsentRef:
        """Return whom an unsubscribe link concerns."""
        return _consent_ref(self._verify(_UNSUBSCRIBE, token))

    def preferences(self, ref: ConsentRef) -> str:
        """Return the token of a preferences link."""
        return self._sign(_PREFERENCES, _consent_payload(ref))

    def read_preferences(self, token: str) -> ConsentRef:
        """Return whom a preferences link concerns."""
        return _consent_ref(self._verify(_PREFERENCES, token))

    def confirm(self, ref: ConfirmRef) -> str:
        """Return the token of a confirmation link; how long it may be used is for the ledger's entry to say."""
        return self._sign(_CONFIRM, ref.tenant_id.bytes + ref.change_id.bytes)

    def read_confirm(self, token: str) -> ConfirmRef:
        """Return which opt-in a confirmation link concerns."""
        payload = self._verify(_CONFIRM, token)
        return ConfirmRef(_id(payload, 0), _id(payload, 1))

    def account(self, ref: AccountRef) -> str:
        """Return the token of the address that a provider reports to."""
        return self._sign(_ACCOUNT, ref.tenant_id.bytes + ref.account_id.bytes)

    def read_account(self, token: str) -> AccountRef:
        """Return which account a report concerns; the provider's own signature is still to be checked."""
        payload = self._verify(_ACCOUNT, token)
        return AccountRef(_id(payload, 0), _id(payload, 1))

    def stream(self, cursor: bytes) -> str:
        """Return the token of a place on the bus, as events of a stream carry it."""
        return self._sign(_STREAM, cursor)

    def read_stream(self, token: str) -> bytes:
        """Return the place on the bus that a reader of a stream had reached."""
        return self._verify(_STREAM, token)

    def bounce(self, ref: MessageRef) -> str:
        """Return the token of the address that a message's bounces go to: 60 letters and digits of one case.

        It has no version: servers may change the case of an address, and there is no room for one.
        """
        payload = ref.tenant_id.bytes + ref.message_id.bytes
        mac = self._mac(_BOUNCE, payload)[:_BOUNCE_MAC_BYTES]
        return base64.b32encode(payload + mac).rstrip(b"=").decode().lower()

    def read_bounce(self, token: str) -> MessageRef:
        """Return which message a bounce is of."""
        try:
            raw = base64.b32decode(token + "=" * (-len(token) % 8), casefold=True)
        except (binascii.Error, ValueError) as error:
            raise BadTokenError from error
        payload, mac = raw[: 2 * _ID_BYTES], raw[2 * _ID_BYTES :]
        if not hmac.compare_digest(mac, self._mac(_BOUNCE, payload)[:_BOUNCE_MAC_BYTES]):
            raise BadTokenError
        return MessageRef(_id(payload, 0), _id(payload, 1))

    def of_messages(self, tenant_id: UUID, channel: str, topic: str) -> "MessageTokens":
        """Return what signs for many messages of a tenant that share channel and topic."""
        begun = [self._begun(kind) for kind in (_OPEN, _CLICK, _UNSUBSCRIBE)]
        for each in begun:
            each.update(tenant_id.bytes)
        return MessageTokens(tenant_id, bytes([_CHANNELS.index(channel)]) + topic.encode(), *begun)

    def _sign(self, kind: bytes, payload: bytes) -> str:
        return _encoded(_VERSION + payload + self._mac(kind, payload))

    def _verify(self, kind: bytes, token: str) -> bytes:
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise BadTokenError from error
        version, payload, mac = raw[:1], raw[1:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if version != _VERSION or not hmac.compare_digest(mac, self._mac(kind, payload)):
            raise BadTokenError
        return payload

    def _mac(self, kind: bytes, payload: bytes) -> bytes:
        hashed = self._begun(kind)
        hashed.update(payload)
        return hashed.digest()

    def _begun(self, kind: bytes) -> hashlib.blake2b:
        keyed = self._keyed.get(kind)
        if keyed is None:
            keyed = hashlib.blake2b(_VERSION, digest_size=_MAC_BYTES, key=self._key, person=kind)
            self._keyed[kind] = keyed
        return keyed.copy()  # half the work of one that is given the key


class MessageTokens:
    """Signs as `Tokens` does, for messages that share tenant, channel and topic: what they share is hashed once.

    Ids are given as their bytes.
    """

    __slots__ = ("_click", "_open", "_shown", "_topic", "_unsubscribe")

    def __init__(
        self,
        tenant_id: UUID,
        topic: bytes,
        opening: hashlib.blake2b,
        click: hashlib.blake2b,
        unsubscribe: hashlib.blake2b,
    ) -> None:
        """Take the hashes of each kind with the tenant in them, and the end that consent's payloads share."""
        self._shown = _VERSION + tenant_id.bytes
        self._topic = topic
        self._open = opening
        self._click = click
        self._unsubscribe = unsubscribe

    def open(self, message_id: bytes) -> str:
        """As `Tokens.open`."""
        return self._signed(self._open, message_id)

    def click(self, message_id: bytes, target: str) -> str:
        """As `Tokens.click`."""
        return self._signed(self._click, message_id + target.encode())

    def unsubscribe(self, person_id: bytes, message_id: bytes) -> str:
        """As `Tokens.unsubscribe`."""
        return self._signed(self._unsubscribe, person_id + message_id + self._topic)

    def _signed(self, begun: hashlib.blake2b, payload: bytes) -> str:
        hashed = begun.copy()
        hashed.update(payload)
        return _encoded(self._shown + payload + hashed.digest())


def _encoded(raw: bytes) -> str:
    """Return URL-safe base64 without padding, in half the time of `base64.urlsafe_b64encode`."""
    return binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


def _id(payload: bytes, number: int) -> UUID:
    """Return an id of a payload whose signature held, so that its length can be trusted."""
    return UUID(bytes=payload[number * _ID_BYTES : (number + 1) * _ID_BYTES])


def _consent_payload(ref: ConsentRef) -> bytes:
    ids = ref.tenant_id.bytes + ref.person_id.bytes + ref.message_id.bytes
    return ids + bytes([_CHANNELS.index(ref.channel)]) + ref.topic.encode()


def _consent_ref(payload: bytes) -> ConsentRef:
    channel, topic = payload[3 * _ID_BYTES], payload[3 * _ID_BYTES + 1 :].decode()
    return ConsentRef(_id(payload, 0), _id(payload, 1), _id(payload, 2), _CHANNELS[channel], topic)
