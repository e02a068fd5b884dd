"""Campaigns: what is sent to whom and when, and each time it is."""
