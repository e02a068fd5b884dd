"""How far things are: the figures of imports, campaigns and journeys that can be had in a moment."""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from api.rest.campaign_shapes import CampaignRunOut
from api.rest.import_shapes import ImportOut
from api.rest.journeys import Stats
from api.stream.progress import Figures, Kind, Look, Thing
from core.database import TenantSession
from core.errors import InvalidError
from services.commerce.product_import import PRODUCT
from services.crm.deal_import import DEAL
from services.identity import imports
from services.identity.import_kinds import PEOPLE, RECORD
from services.journeys import journeys, passages
from services.marketing.campaigns import definitions, runs

IMPORTED: Final[Mapping[str, str]] = {PEOPLE: "people", RECORD: "objects", DEAL: "deals", PRODUCT: "products"}
"""The noun of whose scopes an import is, by its kind."""
_OF_IMPORT: Final = {
    "status",
    "size_bytes",
    "bytes_done",
    "lines_done",
    "created",
    "updated",
    "unchanged",
    "rejected",
    "rows_per_second",
    "error",
    "finished_at",
}


async def of_import(session: TenantSession, key: str) -> Figures:
    """Return how much of a file was taken in."""
    found = await imports.any_of_kind(session, UUID(key))
    return ImportOut.of(found).model_dump(mode="json", include=_OF_IMPORT)


async def of_campaign(session: TenantSession, key: str) -> Figures:
    """Return how far a campaign's newest run is: recipients on pages, and on those that are done with."""
    campaign = await definitions.get(session, UUID(key))
    run = (await runs.last(session, [campaign.id])).get(campaign.id)
    shown = None if run is None else CampaignRunOut.of(run, await runs.progress(session, run.id))
    return {"status": campaign.status, "run": None if shown is None else shown.model_dump(mode="json")}


async def of_journey(session: TenantSession, key: str) -> Figures:
    """Return where those who entered a journey stand."""
    found = await journeys.find(session, key)
    stats = Stats.model_validate(await passages.stats(session, found.id))
    return {"status": found.status, **stats.model_dump(mode="json")}


_LOOKS: Final[Mapping[Kind, Look]] = {"import": of_import, "campaign": of_campaign, "journey": of_journey}


async def scope_of(session: TenantSession, thing: Thing) -> str:
    """Return the scope that allows to watch a thing.

    Raises:
        NotFoundError: the tenant has no such thing.
    """
    match thing.kind:
        case "import":
            return f"{IMPORTED[(await imports.any_of_kind(session, UUID(thing.key))).kind]}:read"
        case "campaign":
            await definitions.get(session, UUID(thing.key))
            return "campaigns:read"
        case "journey":
            await journeys.find(session, thing.key)
            return "journeys:read"


def parse(text: str) -> Thing:
    """Return the thing that `import:UUID`, `campaign:UUID` or `journey:KEY` names.

    Raises:
        InvalidError: it is none of these.
    """
    kind, _, key = text.partition(":")
    match kind:
        case "import" | "campaign":
            try:
                return Thing(kind, str(UUID(key)), _LOOKS[kind])
            except ValueError as error:
                raise InvalidError.of("progress", f"{kind}: wants an id, as {kind}:UUID") from error
        case "journey" if key:
            return Thing(kind, key, _LOOKS[kind])
        case _:
            raise InvalidError.of("progress", "is a list of import:UUID, campaign:UUID and journey:KEY")
