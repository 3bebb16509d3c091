"""Screens that live: `eru tui`, `eru top` and lists that are watched."""
