"""Imports of people."""

from api.rest.import_routes import routes
from services.identity.import_kinds import OF_PEOPLE

router = routes("people", OF_PEOPLE, parameter="import_id")
