"""An event as the world outside is told of it: webhooks and streams alike."""

from typing import Final

# Postgres writes the JSON: here each event would be decoded and encoded again.
AT: Final = """to_char({} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
"""SQL of a moment as JSON has it."""
EVENT: Final = f"""jsonb_build_object(
      'id', e.id, 'type', e.type, 'timestamp', {AT.format("e.occurred_at")}, 'data', jsonb_build_object(
        'subject', jsonb_build_object('type', e.subject_type, 'id', e.subject_id), 'person_id', e.person_id,
        'properties', e.properties, 'received_at', {AT.format("e.received_at")}, 'live', e.live
      )
    )"""
"""SQL of what is told of the event `e`."""
