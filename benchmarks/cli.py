"""The command line as a user feels it: whole processes, beside the published one against the same core.

    python benchmarks/cli.py [--instances 1000] [--runs 20]

Wall time of a command from start to exit, best and median; every program talks
to one core of ours in memory with fake engines. The published client's binary
is named by ERU_PUBLISHED_CLI. `python` alone is the part that nobody can save.
The budgets of the project: help within 60 ms, one unary call within 150 ms.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import eru
from support.script_core import running_core

ERU = str(Path(sys.executable).with_name("eru"))
HELP_MS, UNARY_MS = 60, 150
SPEC = "appname: shop\nentrypoints:\n  web: {commands: [sleep, '1000'], publish: [80]}\n"


def measured(words: list[str], runs: int, environment: dict[str, str]) -> tuple[float, float]:
    """(best, median) milliseconds of a whole process."""
    taken = []
    for _ in range(runs):
        begun = time.perf_counter()
        subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)
        taken.append((time.perf_counter() - begun) * 1000)
    return min(taken), statistics.median(taken)


def quiet(environment: dict[str, str], *words: str) -> None:
    subprocess.run([ERU, "-q", *words], env=environment, stdout=subprocess.DEVNULL, check=True)


def prepared(environment: dict[str, str], folder: Path, instances: int) -> None:
    """A pod with nodes and instances."""
    quiet(environment, "pod", "add", "prod")
    for number in range(4):
        name = f"n{number}"
        endpoint = f"fake://{name}?cpu=64&memory=512G"
        quiet(environment, "node", "add", "prod", "--nodename", name, "--endpoint", endpoint, "--test")
    (folder / "web.yaml").write_text(SPEC)
    small = ("--cpu", "0.1", "--memory", "16M", "--network", "none")
    spec = str(folder / "web.yaml")
    words = ("--pod", "prod", "--entry", "web", "--image", "shop:1", "--count", str(instances))
    quiet(environment, "workload", "deploy", spec, *words, *small)


def main() -> int:
    """Print the table; the number of budgets that are not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instances", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=20)
    asked = parser.parse_args()
    compileall.compile_dir(Path(eru.__file__).parent, quiet=2)
    published = os.environ.get("ERU_PUBLISHED_CLI", "")
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {asked.instances} instances, {asked.runs} runs")
    if not published:
        print("ERU_PUBLISHED_CLI names no binary: ours alone")
    print(f"{'milliseconds, whole process':34}{'best':>8}{'median':>8}{'published':>11}{'median':>8}{'budget':>8}")
    missed = 0
    with running_core() as address, tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "ERU": address, "ERU_CONFIG": f"{folder}/none"}
        prepared(environment, Path(folder), asked.instances)
        best, median = measured([sys.executable, "-c", "pass"], asked.runs, environment)
        print(f"{'python, nothing':34}{best:8.1f}{median:8.1f}")
        for name, words, budget in (
            ("--help", ["--help"], HELP_MS),
            ("workload --help", ["workload", "--help"], HELP_MS),
            ("pod list", ["pod", "list"], UNARY_MS),
            ("node get", ["node", "get", "n1"], UNARY_MS),
            ("core info", ["core", "info"], UNARY_MS),
            (f"workload list, {asked.instances}", ["workload", "list"], 0),
            (f"-o json workload list, {asked.instances}", ["-o", "json", "workload", "list"], 0),
        ):
            ours = measured([ERU, *words], asked.runs, environment)
            theirs = measured([published, *words], asked.runs, environment) if published else None
            beside = f"{theirs[0]:11.1f}{theirs[1]:8.1f}" if theirs else f"{'-':>11}{'-':>8}"
            kept = f"{budget:8}{'' if ours[0] <= budget else '  missed'}" if budget else ""
            missed += bool(budget) and ours[0] > budget
            print(f"{name:34}{ours[0]:8.1f}{ours[1]:8.1f}{beside}{kept}", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
