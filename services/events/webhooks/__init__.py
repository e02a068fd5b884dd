"""Webhooks: endpoints, what they are told, and the order in which they are told it."""
