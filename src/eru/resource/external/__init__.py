"""Resource kinds that are programs of their own, in any language.

`call` runs one command of a program, `kind` makes a program look like every
other kind, `check` tries a program before it is used
(`python -m eru.resource.check_plugin <path>`).
"""

from eru.resource.external.call import Program, find_programs
from eru.resource.external.kind import ExternalKind

__all__ = ["ExternalKind", "Program", "find_programs"]
