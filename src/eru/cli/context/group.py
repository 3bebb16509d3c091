"""`eru context`: clusters by name."""

from __future__ import annotations

from eru.cli.lazy import LazyGroup

group = LazyGroup(
    name="context",
    help="A context is a cluster by name: its address, login, certificates and defaults.",
    examples="""
eru context set prod --address core1:5001,core2:5001 --username ops --password-file ~/.eru-prod --production
eru context use prod
eru context show
eru --context test pod list
""",
    lazy={
        "list": ("eru.cli.context.verbs:list_", "All contexts, and which one is current"),
        "show": ("eru.cli.context.verbs:show", "What commands use now, and where each value comes from"),
        "use": ("eru.cli.context.verbs:use", "Make a context the current one"),
        "set": ("eru.cli.context.change:set_", "Make or change a context"),
        "remove": ("eru.cli.context.change:remove", "Forget a context"),
    },
    aliases={"ls": "list", "rm": "remove"},
)
