"""The kinds of things that a tenant defines itself."""

from sqlalchemy import select

from core.database import TenantSession
from models import ObjectDefinition
from services.objects.shapes import ObjectShape, shape_of


async def known(session: TenantSession) -> dict[str, ObjectShape]:
    """Return every object of the tenant by its key, as conditions know it: what `record:KEY.x` may be and holds."""
    rows = await session.execute(
        select(ObjectDefinition.key, ObjectDefinition.id, ObjectDefinition.schema).where(
            ObjectDefinition.tenant_id == session.tenant_id
        )
    )
    return {key: shape_of(object_id, schema) for key, object_id, schema in rows}
