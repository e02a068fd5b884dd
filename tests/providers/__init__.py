"""Servers on this machine that speak the documented APIs of providers."""
