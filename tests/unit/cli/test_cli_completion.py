"""What the shell is offered after TAB, and that it never waits long for a core."""

from __future__ import annotations

import time

import pytest

from eru.cli import names
from eru.wire import core_pb2 as pb
from support.cli_samples import NODE, WORKLOAD
from support.scripted_core import Fails


@pytest.fixture
def tab(eru, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The words offered for the last, perhaps unfinished, word of a line."""

    def press(line: str) -> list[str]:
        monkeypatch.setenv("_ERU_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit):
            eru()
        return [word.partition(",")[2] for word in capsys.readouterr().out.split()]

    return press


def test_commands_and_options(tab):
    assert tab("eru workl") == ["workload"]
    assert "remove" in tab("eru pod re")
    assert tab("eru workload deploy --all") == ["--all-or-nothing"]
    assert tab("eru workload deploy --deploy-strategy f") == ["FILL"]
    assert {"info", "watch", "--check-config"} <= {*tab("eru core "), *tab("eru core --ch")}


def test_words_of_options_and_files(tab, script, tmp_path, monkeypatch):
    script.answers["ListWorkloads"] = [WORKLOAD]
    monkeypatch.setenv("ERU_COMPLETE_TIMEOUT", "20")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.yaml").write_text("appname: a\nentrypoints: {front: {}, back: {}}\n")
    assert tab("eru -o j") == ["json", "jsonl"]
    assert tab("eru pod list -o w") == ["wide"]
    assert tab("eru wait app --for r") == ["running", "removed"]
    assert tab("eru workload deploy we") == ["we"]  # the shell looks for files itself
    assert tab("eru workload deploy web.yaml --entry ") == ["back", "front"]
    assert tab("eru workload deploy http://x/y.yaml --entry ") == ["web"]
    assert tab("eru exec ") == ["app", "app_web_abcdef"]


def test_live_names(tab, script, monkeypatch):
    monkeypatch.setenv("ERU_COMPLETE_TIMEOUT", "20")
    script.answers |= {
        "ListPods": pb.Pods(pods=[pb.Pod(name="prod"), pb.Pod(name="test")]),
        "ListPodNodes": [NODE],
        "ListWorkloads": [WORKLOAD],
    }
    assert tab("eru pod remove ") == ["prod", "test"]
    assert tab("eru pod remove p") == ["prod"]
    assert tab("eru workload deploy --pod t") == ["test"]
    assert tab("eru node get ") == ["n1"]
    assert tab("eru workload exec app_") == ["app_web_abcdef"]
    assert tab("eru workload logs a") == ["app", "app_web_abcdef"]
    assert tab("eru workload list --entry ") == ["web"]


def test_a_core_that_fails_or_hangs_offers_nothing(tab, script, capsys, monkeypatch):
    script.answers["ListPods"] = Fails("broken")
    assert tab("eru pod remove ") == []

    def hang(requests):
        time.sleep(names.COMPLETION_DEADLINE_S + 2)
        yield pb.Pods(pods=[pb.Pod(name="late")])

    script.answers["ListPods"] = hang
    assert tab("eru pod remove ") == []
    monkeypatch.setenv("ERU", "127.0.0.1:1")
    assert tab("eru pod remove ") == []
    assert capsys.readouterr().err == ""
