"""`eru ...` in this process, against a core that follows a script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import structlog

from eru.cli.app import published_root, root, run
from support.cli_samples import SPEC
from support.scripted_core import Script, ScriptHandler


@dataclass
class Ran:
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def script() -> Iterator[Script]:
    """A running core; fill in `answers` before calling."""
    made = Script()
    server = grpc.server(ThreadPoolExecutor(16), handlers=[ScriptHandler(made)])
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(None)


Cli = Callable[..., Ran]


@pytest.fixture
def eru(
    script: Script, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Cli]:
    """`eru("pod", "list")` against the scripted core."""
    for name in ("ERU_OUTPUT_FORMAT", "ERU_USERNAME", "ERU_PASSWORD", "ERU_CONTEXT", "HOSTNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ERU", script.address)
    monkeypatch.setenv("ERU_CONFIG", str(tmp_path / "eru-config.yaml"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def call(*args: str, published: bool = False) -> Ran:
        capsys.readouterr()
        code = run(published_root(), "eru-cli", args) if published else run(root(), "eru", args)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    before = structlog.get_config()
    yield call
    structlog.configure(**before)  # a quiet command line must not silence other suites


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """The path of a small app spec."""
    path = tmp_path / "web.yaml"
    path.write_text(SPEC)
    return str(path)
