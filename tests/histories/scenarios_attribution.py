"""Scenarios of orders credited again, for `tests.histories.record`."""

import pytest

from services.marketing.outcomes import attribution
from tests.factories.crediting import begun, bought, creditor
from tests.factories.running import Hasty, Platform


async def attributed(running: Platform) -> str:
    """Orders of a period, in several pages."""
    await bought(running.marketing, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "PAGE", 2)
        async with creditor(running.client, running.marketing.database) as worker:
            handle = await begun(worker, running.marketing)
            await handle.result()
    return handle.id


async def continued_attribution(running: Platform) -> str:
    """So many pages that it goes on in new runs."""
    await bought(running.marketing, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attribution, "PAGE", 1)
        async with creditor(running.client, running.marketing.database, interceptors=[Hasty()]) as worker:
            handle = await begun(worker, running.marketing)
            await handle.result()
    return handle.id


SCENARIOS = (attributed, continued_attribution)
