"""Contexts: several clusters by name, in one file."""
