"""Tests mirror the packages; fixtures for real servers are in conftest.py."""
