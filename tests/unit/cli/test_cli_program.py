"""Around the commands: versions, plug-ins, help on one page, the cache of names."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from eru import __version__
from eru.cli import name_cache
from eru.cli.app import root
from eru.cli.cluster.version import skew
from eru.cli.plugins import environment, find, names
from eru.cli.settings import Settings
from eru.wire import core_pb2 as pb
from support.scripted_core import Fails

# -- version


def test_version_of_both_sides(eru, script):
    script.answers |= {"Info": pb.CoreInfo(version="v0.1.9", identifier="c" * 64), "WatchServiceStatus": []}
    done = eru("version", "-o", "json")
    told = json.loads(done.out)
    assert (done.code, told["client"]["version"]) == (0, __version__)
    assert [(core["address"], core["version"]) for core in told["cores"]] == [(script.address, "v0.1.9")]
    script.answers["Info"] = pb.CoreInfo(version="9.0.0")
    assert "this program is older than core" in eru("version").err
    script.answers["Info"] = Fails("broken")
    assert eru("version").code == 1


def test_version_without_a_core_still_tells_ours(eru):
    done = eru("-e", "127.0.0.1:1", "version")
    assert (done.code, __version__ in done.out, "127.0.0.1:1" in done.err + done.out) == (1, True, True)


@pytest.mark.parametrize(
    ("client", "cores", "count"),
    [
        ("0.1.0", {"a": "0.1.7"}, 0),
        ("0.1.0", {"a": "v0.2.0"}, 1),
        ("0.1.0", {"a": "0.1.0", "b": "0.1.1"}, 1),
        ("0.1.0", {"a": "0.2.0", "b": "0.3.1"}, 3),
        ("0.1.0", {"a": "d41ba3f"}, 0),
        ("0.1.0", {}, 0),
    ],
)
def test_skew(client: str, cores: dict[str, str], count: int):
    assert len(skew(client, cores)) == count


# -- plug-ins


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program `eru-hello` on the PATH."""
    path = tmp_path / "eru-hello"
    path.write_text('#!/bin/sh\necho "$ERU|$ERU_USERNAME|$ERU_PASSWORD|$ERU_POD|$*"\nexit 7\n')
    path.chmod(0o755)
    (tmp_path / "eru-cli").write_text("#!/bin/sh\n")
    (tmp_path / "eru-cli").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return path


def program(*words: str, name: str = "main", **variables: str) -> subprocess.CompletedProcess[str]:
    code = f"from eru import __main__; import sys; sys.argv = ['eru', *{words!r}]; __main__.{name}()"
    environment = {**os.environ, **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)


def test_a_program_on_the_path_is_a_command(plugin: Path, tmp_path: Path, eru):
    config = tmp_path / "config.yaml"
    config.write_text("current: c\ncontexts: {c: {address: h:1, username: me, password_env: PW, pod: web}}\n")
    done = program("-q", "hello", "--their", "own words", "-v", ERU_CONFIG=str(config), PW="s3cret", ERU="")
    assert (done.returncode, done.stdout) == (7, "h:1|me|s3cret|web|--their own words -v\n"), done.stderr
    assert names() == ["hello"]
    assert "hello" in eru("--help").out
    assert "did you mean hello?" in eru("helo").err
    assert "there is no command 'hello'" in program("hello", name="cli_main").stderr
    assert "hello" not in eru("--help", published=True).out


def test_plugins_never_hide_a_command_and_need_a_good_name(plugin: Path, tmp_path: Path, eru):
    for word in ("pod", "../hello"):
        (tmp_path / f"eru-{word.strip('./')}").write_text("#!/bin/sh\necho pluggedin\n")
    assert "pluggedin" not in eru("pod", "--help").out
    assert (find("../hello"), find("cli"), find("nothing")) == ("", "", "")
    assert environment(Settings()) == {"ERU": "127.0.0.1:5001"}


# -- help


def test_help_is_in_groups_and_rare_options_are_elsewhere(eru):
    told = eru("--help").out
    assert told.index("Examples:") < told.index("Run apps:") < told.index("Look:") < told.index("Options:")
    assert "--tls-ca" not in told
    assert "--tls-ca" in eru("help", "options").out
    assert "1 failed or only partly done" in " ".join(told.split())
    assert {name for names in root().sections.values() for name in names} <= set(root().lazy)
    assert set(root().lazy) <= {name for names in root().sections.values() for name in names}


def test_the_manual_has_every_command(eru):
    page = eru("help", "--man").out
    assert page.startswith(".TH ERU 1")
    for words in ("eru pod add", "eru workload deploy", "eru context set", "eru up"):
        assert f".SS {words}" in page, words
    assert not [line for line in page.splitlines() if line.startswith("'")]


# -- the cache of names


@pytest.fixture
def tab(eru, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ERU_COMPLETE_TIMEOUT", "20")

    def press(line: str) -> list[str]:
        monkeypatch.setenv("_ERU_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit):
            eru()
        return [word.partition(",")[2] for word in capsys.readouterr().out.split()]

    return press


def test_names_are_asked_for_once(tab, script, monkeypatch, tmp_path):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="prod")])
    assert tab("eru pod remove ") == ["prod"]
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="other")])
    assert tab("eru pod remove ") == ["prod"]
    assert len(script.requests("ListPods")) == 1
    assert tab("eru --username me pod remove ") == ["other"]  # another login sees other names
    assert len(list((tmp_path / "cache" / "eru").glob("names-*"))) == 2
    monkeypatch.setenv(name_cache.REFRESH, "1")
    assert tab("eru pod remove ") == ["other"]


def test_what_is_old_is_better_than_nothing(tab, script, tmp_path):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="prod")])
    assert tab("eru pod remove ") == ["prod"]
    for answer in (tmp_path / "cache" / "eru").glob("answer-*"):
        answer.unlink()
    (path,) = (tmp_path / "cache" / "eru").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "at": held["at"] - 60}))
    script.answers["ListPods"] = Fails("broken")
    assert tab("eru pod remove ") == ["prod"]
    for each in (tmp_path / "cache" / "eru").iterdir():
        each.write_text("broken")
    assert tab("eru pod remove ") == []


def test_the_same_line_needs_no_command(tab, script):
    script.answers["ListPods"] = pb.Pods(pods=[pb.Pod(name="prod")])
    assert tab("eru pod remove ") == ["prod"]
    code = (
        "import sys\nfrom eru.cli.app import root, run\n"
        "try:\n    run(root(), 'eru', [])\nexcept SystemExit as end:\n"
        "    print(end.code, [name for name in ('grpc', 'asyncio', 'eru.cli.pod.verbs') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["plain,prod", "0 []"], done.stderr


def test_old_answers_are_thrown_away(tmp_path: Path):
    for number in range(name_cache.FILES_MAX + 20):
        name_cache.save(tmp_path / f"answer-{number}.json", ["a"], 1.0)
    assert len(list(tmp_path.iterdir())) == name_cache.FILES_MAX


def test_the_age_of_a_cache_decides(tmp_path: Path):
    path = tmp_path / "names"
    name_cache.save(path, ["a"], 1000.0)
    assert name_cache.load(path, 1001.0) == (["a"], 1.0)
    assert name_cache.load(path, 1000.0 + name_cache.STALE_S) is None
    assert name_cache.load(path, 900.0) is None  # from the future
    assert name_cache.renew() is False  # this is no `eru`


@pytest.mark.parametrize(
    "line",
    [
        "-output json node get n1",
        "-output=json node get n1",
        "-o=json node get n1",
        "--output=json node get n1",
        "node get -o=json n1",
        "-debug -username u -password=p --output json node get n1",
        "-d=true -u=u -o JSON node get n1",
    ],
)
def test_options_in_every_form_that_is_published(eru, script, line: str):
    script.answers["GetNode"] = pb.Node(name="n1")
    assert eru(*line.split(), published=True).out == '{\n  "name": "n1"\n}\n'


def test_a_value_that_looks_like_an_option_is_a_value(eru, script):
    script.answers["ExecuteWorkload"] = pb.AttachWorkloadMessage(data=b"[exitcode] 0")
    line = ["workload", "exec", "-e=A=b", "--env", "-i", "-w=/x", "-i=false", "a" * 64, "-o=json"]
    assert eru(*line, published=True).code == 0
    (request,) = script.requests("ExecuteWorkload")
    assert (list(request.envs), request.workdir, list(request.commands)) == (["A=b", "-i"], "/x", ["-o=json"])
    assert not request.open_stdin
