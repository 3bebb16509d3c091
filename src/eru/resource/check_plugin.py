"""`python -m eru.resource.check_plugin <path>`: does a resource plugin keep to the protocol?

Prints one line per thing tried and exits with 1 when one of them is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eru.resource.external.call import Program
from eru.resource.external.check import check


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m eru.resource.check_plugin", description=__doc__)
    parser.add_argument("path", type=Path, help="the plugin, an executable file")
    parser.add_argument("--node", default="{}", metavar="JSON", help="what a node request says for this plugin")
    parser.add_argument("--workload", default="{}", metavar="JSON", help="what a workload asks of this plugin")
    parser.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS", help="for each call (30)")
    given = parser.parse_args(arguments)
    if not given.path.is_file():
        print(f"{given.path} is not a file", file=sys.stderr)
        return 2
    try:
        node, workload = _bag("--node", given.node), _bag("--workload", given.workload)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    report = check(Program(given.path.resolve(), given.timeout), node, workload)
    for what, wrong in report.lines:
        print(f"ok     {what}" if not wrong else f"WRONG  {what}: {wrong}")
    print("The plugin keeps to the protocol." if report.passed else "The plugin does not keep to the protocol.")
    return 0 if report.passed else 1


def _bag(flag: str, text: str) -> dict[str, Any]:
    try:
        bag = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{flag} {text!r} is not JSON: {error}") from error
    if not isinstance(bag, dict):
        raise ValueError(f"{flag} {text!r} is not a JSON object")
    return bag


if __name__ == "__main__":
    sys.exit(main())
