"""`eru spec`: app specs before they are deployed."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="spec",
    help="An app spec is a YAML file: one app, its entrypoints, and what they need.",
    examples="""
eru spec example web > shop.yaml
eru spec check shop.yaml
eru explain entrypoints.web.healthcheck
""",
    lazy={
        "check": ("eru.cli.spec.verbs:check_", "Every mistake in specs, with its line"),
        "example": ("eru.cli.spec.verbs:example", "A spec to begin with"),
        "schema": ("eru.cli.spec.verbs:schema_", "The JSON Schema, for editors"),
    },
)
