"""`eru image`: images on the nodes."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="image",
    help="Images on the nodes.",
    examples="""
eru image list --pod prod
eru image cache --pod prod shop:1.5
eru image build --name shop --tag 1.5 build.yaml
""",
    lazy={
        "build": ("eru.cli.image.build:build", "Build an image and push it"),
        "cache": ("eru.cli.image.verbs:cache", "Pull images onto nodes"),
        "remove": ("eru.cli.image.verbs:remove", "Remove images from nodes"),
        "list": ("eru.cli.image.verbs:list_", "Images on nodes"),
    },
    aliases={"ls": "list", "rm": "remove"},
)
