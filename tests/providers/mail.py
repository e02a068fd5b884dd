"""Mail providers as they document themselves: how each signs what it posts, and Amazon's own hosts."""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

SENDGRID_KEY = ec.generate_private_key(ec.SECP256R1())
MAILGUN_KEY = "key-of-webhooks"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
HOST = "sns.eu-west-1.amazonaws.com"


def public_key(key: ec.EllipticCurvePrivateKey = SENDGRID_KEY) -> str:
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def sendgrid(events: Any, key: ec.EllipticCurvePrivateKey = SENDGRID_KEY) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return what SendGrid posts: body and headers."""
    body, timestamp = json.dumps(events).encode(), str(int(time.time()))
    signature = base64.b64encode(key.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))).decode()
    return {
        "content": body,
        "headers": {
            "X-Twilio-Email-Event-Webhook-Signature": signature,
            "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        },
    }


def mailgun(event: Mapping[str, Any], *, key: str = MAILGUN_KEY, age: int = 0, token: str | None = None) -> bytes:
    """Return what Mailgun posts."""
    timestamp, token = str(int(time.time()) - age), token or uuid4().hex
    signature = hmac.new(key.encode(), f"{timestamp}{token}".encode(), hashlib.sha256).hexdigest()
    signed = {"timestamp": timestamp, "token": token, "signature": signature}
    return json.dumps({"signature": signed, "event-data": event}).encode()


def _certificate(name: str, key: rsa.RSAPrivateKey, issuer: "tuple[x509.Name, rsa.RSAPrivateKey] | None") -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0] if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return builder.sign(issuer[1] if issuer else key, SHA256()).public_bytes(Encoding.PEM)


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Amazon:
    """SNS on this machine, under a certificate of an authority of its own."""

    folder: Path
    signing: rsa.RSAPrivateKey = field(default_factory=_new_key)
    asked: list[str] = field(default_factory=list[str])
    """Hosts and paths."""
    down: bool = False
    port: int = 0
    ca: str = ""

    @property
    def certificate(self) -> bytes:
        return _certificate("sns.amazonaws.com", self.signing, None)

    def message(self, message: Any, *, version: str = "2", **more: str) -> bytes:  # noqa: ANN401 - JSON
        """Return what SNS posts."""
        text = message if isinstance(message, str) else json.dumps(message)
        envelope = {
            "Type": "Notification",
            "MessageId": str(uuid4()),
            "TopicArn": TOPIC,
            "Message": text,
            "Timestamp": "2026-01-01T00:00:00.000Z",
            "SignatureVersion": version,
            "SigningCertURL": f"https://{HOST}/SimpleNotificationService-1.pem",
        } | more
        confirming = ("SubscribeURL", "Timestamp", "Token")
        names = confirming if "SubscribeURL" in envelope else ("Subject", "Timestamp")
        signed = "".join(
            f"{name}\n{envelope[name]}\n"
            for name in ("Message", "MessageId", *names, "TopicArn", "Type")
            if name in envelope
        )
        algorithm = SHA1() if version == "1" else SHA256()
        signature = self.signing.sign(signed.encode(), PKCS1v15(), algorithm)
        return json.dumps({"Signature": base64.b64encode(signature).decode()} | envelope).encode()

    def client(self) -> httpx.AsyncClient:
        """Return a client that finds Amazon's hosts here, and trusts the authority alone."""
        context = ssl.create_default_context(cadata=self.ca)
        return httpx.AsyncClient(transport=_Here(self, httpx.AsyncHTTPTransport(verify=context)))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        path = request.split(" ")[1]
        self.asked.append(path)
        body = self.certificate if path.endswith(".pem") else b"<ok/>"
        status = "503 Down" if self.down else "200 OK"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        writer.close()


class _Here(httpx.AsyncBaseTransport):
    def __init__(self, amazon: Amazon, inner: httpx.AsyncHTTPTransport) -> None:
        self._amazon = amazon
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        extensions = {**request.extensions, "sni_hostname": request.url.host}
        here = request.url.copy_with(host="127.0.0.1", port=self._amazon.port)
        return await self._inner.handle_async_request(
            httpx.Request(request.method, here, headers=request.headers, extensions=extensions)
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


@asynccontextmanager
async def amazon(folder: Path) -> AsyncGenerator[Amazon]:
    """Have SNS listen while the block runs."""
    ca_key, key = _new_key(), _new_key()
    ca = _certificate("ca.test", ca_key, None)
    issuer = x509.load_pem_x509_certificate(ca).subject, ca_key
    pem = folder / "sns.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(private + _certificate(HOST, key, issuer))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = Amazon(folder, ca=ca.decode())
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
