"""Composition roots: where adapters are chosen and processes put together. Nothing imports this room."""
