"""Golden scripts: what a user types, and exactly what comes back.

`*.txt` beside this file. `$ ` starts a command line, the lines below are its
output (`! ` in front: standard error), `[exit N]` when N is not 0. A file
begins with `@ NAME` blocks: files that the commands may name. Ids and times
differ from run to run and are replaced; ids keep their width. `@ NAME escaped`
takes Python's escapes, for files that are not text; `< NAME` at the end of a
command is its standard input.

`mistakes/` is what people get wrong: every command there fails, and is answered
with what, why and a hint. Its scripts may name addresses where something is
wrong: see `wrong_cores`.

`ERU_SCRIPTS_UPDATE=1 pytest tests/script` writes what came back into the files,
for the reader of the diff to judge.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from eru.cli.app import published_root, root, run
from support.script_core import running_core
from support.wrong_cores import wrong_cores

Call = Callable[[list[str]], tuple[int, str, str]]

FOLDER = Path(__file__).parent
SCRIPTS = sorted([*FOLDER.glob("*.txt"), *FOLDER.glob("mistakes/*.txt")])
MISTAKES_MIN = 100
_PLACES = re.compile(r"\b(CORE|DEAD|WEB|AUTH|MTLS|TLS|EXPIRED)\b(?!-)")
_ID = re.compile(r"\b[0-9a-f]{12}(?:[0-9a-f]{52})?\b")
_TIMES: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\b\d+\.\d+s\b"), "N.Ns"),
    (re.compile(r"\b\d+(\.\d+)? ms\b"), "N ms"),
    (re.compile(r"\brevision \d+"), "revision N"),
    (re.compile(r"--if-rev \d+"), "--if-rev N"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "HH:MM:SS"),
    (re.compile(r'("?)create_time\1: \d+'), r"\1create_time\1: N"),
    (re.compile(r'("?)eru\.trace\1: ("?)[0-9a-f]{16}\2'), r"\1eru.trace\1: \2TRACE\2"),
    (re.compile(r"(?<=  )20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "YYYY-MM-DDTHH:MM:SSZ"),
    (re.compile(r"\b3\.1\d\.\d+\b"), "3.N.N"),
    (re.compile(r" *(?:\b\d+[smhd])+ ago\b"), lambda found: "N ago".rjust(len(found[0]))),
    (re.compile(r"(?<=│ )\d+s *(?= │)"), lambda found: "N".ljust(len(found[0]))),
    (re.compile(r"request [0-9a-f]{16}\b"), "request TRACE"),
    (re.compile(r'"(time|time_ns|trace_id|core)": .*?(,?)$', re.MULTILINE), r'"\1": ...\2'),
    (re.compile(r"\b(python|linux/)\w[\w.]* *"), lambda found: found[1].ljust(len(found[0]))),
)


class Masks:
    """Real ids and the ones shown in the script; both may appear whole or cut to 12 characters."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}  # first 12 characters -> what is shown
        self.whole: dict[str, str] = {}  # what is shown, whole -> real id

    def mask(self, text: str) -> str:
        """What the script shows."""
        text = _ID.sub(self._mask, text)
        for pattern, mask in _TIMES:
            text = pattern.sub(mask, text)
        return text

    def _mask(self, found: re.Match[str]) -> str:
        if set(found[0]) == {"c"}:
            return found[0]  # the identifier of core
        shown = self.shown.setdefault(found[0][:12], f"id{len(self.shown) + 1:02}".ljust(64, "0"))
        if len(found[0]) == 64:
            self.whole[shown] = found[0]
        return shown[: len(found[0])]

    def unmask(self, word: str) -> str:
        """What the command gets."""
        for real, shown in self.shown.items():
            word = word.replace(shown, self.whole.get(shown, shown)).replace(shown[:12], real)
        return word


def commands(text: str) -> list[str]:
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def play(text: str, call: Call) -> str:
    """The script with the output that really came."""
    masks = Masks()
    out = text[: text.index("\n$ ") + 1].splitlines()
    for line in text.splitlines()[len(out) :]:
        if line.startswith("# "):
            out += ["", line, ""]
        elif line.startswith("$ "):
            code, stdout, stderr = call([masks.unmask(word) for word in shlex.split(line[2:])])
            out.append(line)
            out += masks.mask(stdout).splitlines()
            out += _settled([f"! {each}" for each in masks.mask(stderr).splitlines()])
            out += [f"[exit {code}]"] if code else []
    return "\n".join(each.rstrip() for each in out) + "\n"


def _settled(lines: list[str]) -> list[str]:
    """Instances that ran side by side end in any order; the script shows them sorted."""
    out: list[str] = []
    for item, group in itertools.groupby(lines, key=lambda line: line[2:3] in ("✓", "✗", "·")):
        same = list(group)
        out += sorted(same) if item else same
    return out


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_script(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    text = script.read_text()
    _files(text, tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("ERU_OUTPUT_FORMAT", "ERU_USERNAME", "ERU_PASSWORD", "ERU_CONTEXT"):
        monkeypatch.delenv(name, raising=False)

    places: dict[str, str] = {}

    def call(words: list[str]) -> tuple[int, str, str]:
        capsys.readouterr()
        program, *rest = [_PLACES.sub(lambda found: places.get(found[0], found[0]), word) for word in words]
        with _input(rest):
            code = run({"eru": root, "eru-cli": published_root}[program](), program, rest)
        return code, *capsys.readouterr()

    monkeypatch.setenv("ERU_CONFIG", "config.yaml")
    with (
        running_core() as address,
        wrong_cores(tmp_path) if script.parent != FOLDER and _PLACES.search(text) else nullcontext({}) as wrong,
    ):
        places |= {"CORE": address, **wrong}
        monkeypatch.setenv("ERU", address)
        came = play(text, call)
        for place, real in places.items():
            came = came.replace(real, place)
    if os.environ.get("ERU_SCRIPTS_UPDATE"):
        script.write_text(came)
    assert came == text


@contextmanager
def _input(words: list[str]) -> Iterator[None]:
    """Take `< NAME` off the end of a command, as its standard input; otherwise there is none."""
    name = os.devnull
    if words[-2:-1] == ["<"]:
        name = words.pop()
        words.pop()
    before = sys.stdin
    with open(name) as sys.stdin:
        try:
            yield
        finally:
            sys.stdin = before


def _files(text: str, folder: Path) -> None:
    """Write the `@ NAME` blocks; they end at an empty line."""
    for match in re.finditer(r"^@ (\S+)( escaped)?\n((?:.+\n)*)", text, re.MULTILINE):
        (folder / match[1]).parent.mkdir(exist_ok=True)
        data = match[3].encode()
        (folder / match[1]).write_bytes(data.decode("unicode_escape").encode("latin-1") if match[2] else data)


def test_there_are_scripts():
    assert len(SCRIPTS) >= 5
    assert all(len(commands(script.read_text())) >= 3 for script in SCRIPTS)


def _answers(text: str) -> dict[str, list[str]]:
    """Command -> the lines that came back."""
    found: dict[str, list[str]] = {}
    lines = found[""] = list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            lines = found.setdefault(line[2:], [])
        elif line and not line.startswith(("# ", "@ ")):
            lines.append(line)
    del found[""]
    return found


@pytest.mark.parametrize("script", sorted(FOLDER.glob("mistakes/*.txt")), ids=lambda script: script.stem)
def test_each_mistake_is_answered(script: Path):
    for command, lines in _answers(script.read_text()).items():
        if " -q" in command and not any(line.startswith("[exit") for line in lines):
            continue  # prepares what follows
        assert re.fullmatch(r"\[exit [1-9]\d*\]", lines[-1]), f"{command}: it is no mistake"
        told = "\n".join(lines)
        assert re.search(r"^! (error: |✗ )", told, re.MULTILINE), f"{command}: it is not said what is wrong"
        assert re.search(r"^! (  hint: |next: )", told, re.MULTILINE), f"{command}: no next step"
        assert "Traceback" not in told, command
        assert "internal error" not in told, command


def test_the_likely_mistakes_are_there():
    every = [command for script in FOLDER.glob("mistakes/*.txt") for command in commands(script.read_text())]
    assert len(set(every)) >= MISTAKES_MIN
