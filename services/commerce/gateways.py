"""Which gateway a payment goes by."""

from core.database import TenantSession
from core.errors import ConflictError
from core.settings import Settings
from integrations.payments.local import LocalGateway
from integrations.payments.port import Gateway
from models import Payment

_LOCAL = LocalGateway()


class Gateways:
    """The gateways of a process."""

    def __init__(self, settings: Settings) -> None:
        """Use accounts as this deployment keeps them."""
        self._settings = settings

    async def of(self, session: TenantSession, payment: Payment) -> Gateway:  # noqa: ARG002 - accounts are read by it
        """Return the gateway that a payment was begun with.

        Raises:
            ConflictError: its account cannot be used.
        """
        if payment.account_id is not None:
            raise ConflictError("The payment's account cannot be used.")
        return _LOCAL

    async def close(self) -> None:
        """Close the connections."""
