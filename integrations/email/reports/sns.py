"""Amazon SNS: who signed a message, and the subscription that it asks to confirm.

A signature shows that SNS handed a message over, not for whom: anybody may have a topic. So the topic is compared too.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.x509 import Certificate, load_pem_x509_certificate

from integrations.email.reports.port import ForgedReportError, MalformedReportError, mapping, parsed, text

_HOST: Final = re.compile(r"sns\.[a-z0-9-]{3,30}\.amazonaws\.com(\.cn)?")
_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    "UnsubscribeConfirmation": ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
}
_HASHES: Final = {"1": SHA1, "2": SHA256}
_MAX_CERTIFICATES: Final = 20
_MAX_BYTES: Final = 64 * 1024
_FOUND: Final = 200


class UnreachableAmazonError(Exception):
    """Amazon does not answer now; the same message may be taken in a moment."""


class Certificates:
    """The certificates that messages were signed with, fetched once each."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        """Take what fetches them."""
        self._client = client
        self._known: dict[str, Certificate] = {}

    async def get(self, url: str) -> Certificate:
        """Return the certificate at an address of Amazon's.

        Raises:
            ForgedReportError: it is none of Amazon's, or holds no certificate of now.
            UnreachableAmazonError: it cannot be fetched.
        """
        found = self._known.get(url)
        if found is None:
            if not _is_amazons(url) or not urlsplit(url).path.endswith(".pem"):
                raise ForgedReportError("SigningCertURL is not an address of SNS.")
            try:
                found = load_pem_x509_certificate(await self.fetch(url))
            except ValueError as error:
                raise ForgedReportError("SigningCertURL holds no certificate.") from error
            while len(self._known) >= _MAX_CERTIFICATES:
                del self._known[next(iter(self._known))]
            self._known[url] = found
        if not found.not_valid_before_utc <= datetime.now(UTC) <= found.not_valid_after_utc:
            raise ForgedReportError("The certificate is not valid now.")
        return found

    async def fetch(self, url: str) -> bytes:
        """Return what stands at an address of Amazon's.

        Raises:
            ForgedReportError: it is none of Amazon's.
            UnreachableAmazonError: there is no answer, or another one.
        """
        if not _is_amazons(url):
            raise ForgedReportError("The address is not one of SNS.")
        try:
            answer = await self._client.get(url)
        except httpx.HTTPError as error:
            raise UnreachableAmazonError(f"SNS does not answer: {type(error).__name__}") from error
        if answer.status_code != _FOUND or len(answer.content) > _MAX_BYTES:
            raise UnreachableAmazonError(f"SNS answers {answer.status_code}")
        return answer.content


async def verified(body: bytes, topic_arn: str, certificates: Certificates) -> Mapping[str, Any]:
    """Return a message that SNS signed, of this topic.

    Raises:
        MalformedReportError: it is no message of SNS.
        ForgedReportError: SNS did not sign it, or it is of another topic.
        UnreachableAmazonError: the certificate cannot be fetched.
    """
    message = mapping(parsed(body), "body")
    names = _SIGNED.get(text(message, "Type"))
    if names is None:
        raise MalformedReportError("Type is none of SNS")
    if text(message, "TopicArn") != topic_arn:
        raise ForgedReportError("TopicArn is not the account's.")
    algorithm = _HASHES.get(text(message, "SignatureVersion"))
    if algorithm is None:
        raise MalformedReportError("SignatureVersion must be 1 or 2")
    signed = "".join(f"{name}\n{text(message, name)}\n" for name in names if message.get(name) is not None)
    key = (await certificates.get(text(message, "SigningCertURL"))).public_key()
    if not isinstance(key, RSAPublicKey):
        raise ForgedReportError("The certificate is of another kind.")
    try:
        signature = base64.b64decode(text(message, "Signature"), validate=True)
        key.verify(signature, signed.encode(), PKCS1v15(), algorithm())
    except (binascii.Error, ValueError, InvalidSignature) as error:
        raise ForgedReportError("Signature does not fit.") from error
    return message


def _is_amazons(url: str) -> bool:
    try:
        parts = urlsplit(url)
        plain = parts.port is None and parts.username is None
    except ValueError:
        return False
    return plain and parts.scheme == "https" and _HOST.fullmatch(parts.hostname or "") is not None
