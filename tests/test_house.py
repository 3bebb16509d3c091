"""Taste, as far as a machine can judge it. Each rule says why it is one.

Ratchets are limits that may only go down: whoever gets below one lowers it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
FILE_BYTES_MAX = 1024 * 1024
BROAD_EXCEPTS_MAX = 40  # ratchet: places that catch whatever comes, each with its reason
TYPE_IGNORES_MAX = 40  # ratchet: in src

FOLDERS = ("src", "tests", "scripts", "benchmarks", "docs", "examples")
NOT_OURS = re.compile(r"_pb2(_grpc)?\.pyi?$")
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "misc", "base", "stuff"}


def files(*endings: str, folders: tuple[str, ...] = FOLDERS) -> list[Path]:
    """Files of ours with one of `endings`, generated code left out."""
    found = [
        path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in endings and "__pycache__" not in path.parts and not NOT_OURS.search(path.name)
    ]
    return [*found, *(path for path in sorted(ROOT.iterdir()) if path.suffix in endings and folders == FOLDERS)]


def where(path: Path, line: int = 0) -> str:
    return f"{path.relative_to(ROOT)}:{line}" if line else str(path.relative_to(ROOT))


def lines_with(pattern: str, paths: list[Path]) -> list[str]:
    wanted = re.compile(pattern)
    return [
        f"{where(path, number)} {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if wanted.search(line)
    ]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def others(paths: list[Path]) -> list[Path]:
    """Without this file, which has to name what it forbids."""
    return [path for path in paths if path != Path(__file__).resolve()]


def test_files_fit_in_one_head() -> None:
    long = {where(path): len(path.read_text().splitlines()) for path in files(".py")}
    assert {name: lines for name, lines in long.items() if lines > FILE_LINES_MAX} == {}


def test_functions_fit_on_one_screen() -> None:
    long = [
        f"{where(path, node.lineno)} {node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for path in files(".py", folders=("src", "scripts"))
        for node in functions(path)
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_are_named_by_what_they_hold() -> None:
    vague = [where(path) for path in files(".py", folders=("src",)) if {path.stem, path.parent.name} & VAGUE_NAMES]
    assert vague == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        where(path)
        for path in files(".py", folders=("src", "scripts", "benchmarks"))
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_nothing_is_left_for_later() -> None:
    assert lines_with(r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError", others(files(".py", ".proto", ".sh"))) == []


def test_no_path_of_one_machine_is_written_down() -> None:
    assert lines_with(r"(?<![\w.-])/(?:work|farm|Users)/", others(files(".py", ".md", ".sh", ".yaml", ".toml"))) == []


def test_a_test_that_may_be_skipped_is_no_test() -> None:
    marks = r"pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b"
    assert lines_with(marks, others(files(".py", folders=("tests",)))) == []


def test_fakes_are_shipped_not_patched_in() -> None:
    assert lines_with(r"unittest\.mock|monkeypatch\.setattr", others(files(".py", folders=("tests",)))) == []


def test_every_queue_has_a_bound() -> None:
    unbounded = r"asyncio\.(Lifo|Priority)?Queue(\[[^\]]*\])?\(\)(?!.*bounded by)"
    assert lines_with(unbounded, files(".py", folders=("src",))) == []


def test_no_shell_reads_what_a_user_wrote() -> None:
    assert lines_with(r"shell=True|os\.system\(", files(".py", folders=("src", "scripts"))) == []


def test_few_places_catch_whatever_comes() -> None:
    broad = lines_with(r"except (BaseException|Exception)\b", files(".py", folders=("src",)))
    unexplained = [line for line in broad if "except Exception" in line and not re.search(r"noqa: BLE001 - \w+", line)]
    reraised = {line for line in unexplained if _reraises(line)}
    assert [line for line in unexplained if line not in reraised] == []
    assert len(broad) <= BROAD_EXCEPTS_MAX, broad


def _reraises(found: str) -> bool:
    """Whether the handler at `path:line` ends by raising, which needs no excuse."""
    name, _, rest = found.partition(":")
    number = int(rest.split(" ", 1)[0])
    for node in ast.walk(ast.parse((ROOT / name).read_text())):
        if isinstance(node, ast.ExceptHandler) and node.lineno == number:
            return any(isinstance(step, ast.Raise) for step in ast.walk(node))
    return False


def test_few_types_are_not_believed() -> None:
    ignored = lines_with(r"# type: ignore", files(".py", folders=("src",)))
    assert [line for line in ignored if "type: ignore[" not in line] == []
    assert len(ignored) <= TYPE_IGNORES_MAX, ignored


def test_nothing_large_is_kept_here() -> None:
    paths = files(".py", ".md", ".yaml", ".json", ".txt", ".svg", ".png")
    assert [where(path) for path in paths if path.stat().st_size > FILE_BYTES_MAX] == []


@pytest.mark.parametrize("path", files(".md"), ids=where)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    broken = [
        target
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (path.parent / target).exists()
    ]
    assert broken == []


def test_the_two_commands_of_the_readme_exist() -> None:
    made = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = set(re.findall(r"\bmake ([a-z0-9]+)\b", (ROOT / "README.md").read_text()))
    assert {"quickstart", "test"} <= typed
    assert typed <= made
