"""Imports of deals."""

from api.rest.import_routes import routes
from services.crm.deal_import import KINDS, OF_DEALS

router = routes("deals", OF_DEALS, KINDS, parameter="deal_import_id")
