"""Which gateway a payment goes by."""

from typing import Final

import httpx

from core.database import TenantSession
from core.sealing import Seal
from core.settings import Settings
from integrations.payments.local import LocalGateway
from integrations.payments.port import Gateway
from integrations.payments.stripe import StripeAccount, StripeGateway
from integrations.traced import TracedTransport
from models import Payment, PaymentAccount
from services.commerce import payment_accounts
from services.commerce.payment_accounts import StripeSecret

TIMEOUT: Final = httpx.Timeout(15.0, connect=5.0)

_LOCAL: Final = LocalGateway()


class Gateways:
    """The gateways of a process; close it at the end."""

    def __init__(self, settings: Settings) -> None:
        """Use accounts as this deployment keeps them; nothing connects yet."""
        self._stripe_url = settings.stripe_url
        self._client = httpx.AsyncClient(
            timeout=TIMEOUT,
            follow_redirects=False,
            trust_env=False,
            transport=TracedTransport(httpx.AsyncHTTPTransport(trust_env=False)),
        )
        self.seal = Seal(settings.secret_key.get_secret_value())
        """What the secrets of accounts are kept under."""

    async def of(self, session: TenantSession, payment: Payment) -> Gateway:
        """Return the gateway that a payment was begun with.

        Raises:
            ConflictError: its account's secret cannot be read any more.
        """
        if payment.account_id is None:
            return _LOCAL
        return self.by(await payment_accounts.get(session, payment.account_id))

    def by(self, account: PaymentAccount) -> Gateway:
        """Return an account's gateway.

        Raises:
            ConflictError: its secret cannot be read any more.
        """
        secret = payment_accounts.secret(account, seal=self.seal)
        if isinstance(secret, StripeSecret):
            return StripeGateway(StripeAccount(secret.secret_key, self._stripe_url), self._client)
        return _LOCAL

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
