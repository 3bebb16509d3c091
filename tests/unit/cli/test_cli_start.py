"""The command line itself: start-up cost, help, unknown words, global options anywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eru.cli.app import root
from eru.cli.lazy import LazyGroup, Verb
from eru.cli.reference import written

NEVER = (
    "rich",
    "aiohttp",
    "numpy",
    "yaml",
    "textual",
    "curses",
    "prometheus_client",
    "orjson",
    "uvloop",
    "http.server",
)
HEAVY = (*NEVER, "shutil", "grpc", "asyncio", "google.protobuf", "structlog", "msgspec", "eru.wire", "eru.model.errors")


@pytest.mark.parametrize("entry", ["main", "cli_main"])
@pytest.mark.parametrize("words", [["--help"], ["workload", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(entry: str, words: list[str]):
    code = (
        "import sys\nfrom eru import __main__\n"
        f"sys.argv = ['eru', *{words!r}]\n"
        f"try:\n    __main__.{entry}()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', [name for name in {HEAVY!r} if sys.modules.get(name) is not None])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "HEAVY []" in done.stdout


@pytest.mark.parametrize("words", [["pod", "list"], ["node", "get", "n1"], ["workload", "list"], ["core", "info"]])
def test_a_call_loads_only_what_it_needs(words: list[str], tmp_path: Path):
    code = (
        "import sys\nfrom eru import __main__\nfrom eru.cli.app import root, run\n"
        f"code = run(root(), 'eru', ['-e', '127.0.0.1:1', *{words!r}])\n"
        f"print(code, 'HEAVY', [name for name in {NEVER!r} if sys.modules.get(name) is not None])\n"
    )
    environment = {**os.environ, "ERU_CONFIG": str(tmp_path / "none")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.endswith("1 HEAVY []\n"), (done.stdout, done.stderr)


def test_every_client_command_loads_and_its_help_starts_with_an_example(eru):
    seen = 0
    for path, command in _verbs(root(), []):
        if not isinstance(command, Verb):
            continue
        seen += 1
        done = eru(*path, "--help")
        assert done.code == 0, path
        assert "Examples:" in done.out, path
        assert done.out.index("Examples:") < done.out.index("Options:"), path
        assert command.get_short_help_str(), path
    assert seen >= 50


def _verbs(group: LazyGroup, path: list[str]):
    for name, (place, _) in group.lazy.items():
        if place.startswith("eru.roots"):
            continue
        command = group.get_command(None, name)
        yield [*path, name], command
        if isinstance(command, LazyGroup):
            yield from _verbs(command, [*path, name])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pdo"], "did you mean pod?"),
        (["pod", "lsit"], "did you mean list?"),
        (["core", "inof"], "did you mean info?"),
        (["pod", "list", "--ouput", "json"], "did you mean --output?"),
        (["pod", "remove"], "see `eru pod remove --help`"),
        (["pod", "list", "extra"], "see `eru pod list --help`"),
    ],
)
def test_unknown_words_are_usage_errors_with_a_hint(eru, words: list[str], told: str):
    done = eru(*words)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert told in done.err


def test_core_without_a_sub_command_is_the_server(eru):
    done = eru("core", "--help")
    assert (done.code, "--check-config" in done.out, "eru core info" in done.out) == (0, True, True)
    assert eru("core", "--chck-config").code == 2
    assert "Identity" not in eru("core", "info", "--help").out


def test_help_as_a_word(eru):
    assert eru("help", "pod", "add").out == eru("pod", "add", "--help").out
    assert "Commands:" in eru("pod", "help").out


def test_without_arguments_help_is_shown(eru):
    assert "Usage: eru" in eru().out


def test_v_is_the_version_for_the_published_name_only(eru):
    assert eru("-v", published=True).out.startswith("Version:")
    assert len(eru("-v", published=True).out.splitlines()) == 5
    assert eru("-V").out.startswith("Version:")


def test_no_core_is_told_with_the_next_step(eru):
    done = eru("-e", "127.0.0.1:1", "pod", "list")
    assert done.code == 1
    assert "127.0.0.1:1" in done.err
    assert "hint: " in done.err


def test_tls_trouble_is_told_as_that(eru, script, tmp_path):
    done = eru("--tls", "pod", "list")
    assert (done.code, "does not speak TLS" in done.err, "--tls" in done.err) == (1, True, True)
    (tmp_path / "ca.pem").write_text("garbage")
    assert eru("--tls-ca", str(tmp_path / "ca.pem"), "pod", "list").code == 2
    assert eru("--tls-ca", str(tmp_path / "no.pem"), "pod", "list").code == 2


def test_a_wrong_address_is_usage(eru):
    assert eru("--eru", "no address", "pod", "list").code == 2


def test_errors_have_no_colour_without_a_terminal(eru):
    assert "\x1b" not in eru("pdo").err


def test_completion_scripts(eru):
    assert "_ERU_COMPLETE=bash_complete" in eru("completion", "bash").out
    assert "_ERU_CLI_COMPLETE=zsh_complete" in eru("completion", "zsh", published=True).out
    assert "fish_complete" in eru("completion", "fish").out


def test_the_manual_is_up_to_date():
    folder = Path(__file__).resolve().parents[3] / "docs" / "cli"
    wanted = {path: text for path, text in written(folder).items() if not path.exists() or path.read_text() != text}
    assert list(wanted) == [], "run: python -m eru.cli.reference docs/cli"
