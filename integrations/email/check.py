"""Tries a mail server's credentials: connects, says hello, logs in, and goes."""

from contextlib import suppress
from typing import Final

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException

from integrations.email.port import UnreachableError
from integrations.email.smtp import SmtpServer
from integrations.texts.port import RefusedError

_TIMEOUT_SECONDS: Final = 15.0


async def check(server: SmtpServer) -> str:
    """Log in; return the server's name.

    Raises:
        RefusedError: the password is not taken, or would go without TLS.
        UnreachableError: nobody answers.
    """
    client = SMTP(
        hostname=server.host,
        port=server.port,
        use_tls=server.implicit_tls,
        start_tls=False if server.implicit_tls else None,
        validate_certs=not server.is_loopback,
        timeout=_TIMEOUT_SECONDS,
    )
    try:
        await client.connect()
        if server.username is not None:
            if not server.is_loopback and client.get_transport_info("sslcontext") is None:
                raise RefusedError("it offers no TLS, so it gets no password")
            await client.login(server.username, server.password or "")
        with suppress(SMTPException, OSError):
            await client.quit()
    except SMTPAuthenticationError as error:
        raise RefusedError(f"{error.code} {error.message}") from error
    except (SMTPException, OSError) as error:
        raise UnreachableError(f"{server.host}:{server.port}: {error}") from error
    finally:
        client.close()
    return server.host
