"""Declared apps, built only on the public API. Comes later; the room is kept."""
