"""Sources of a build over https and ssh: certificates, versions, submodules, artifacts, history, time limits."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from eru.core.building.sources import GitSettings, fetch_sources
from eru.model.builds import Stage
from eru.model.errors import Refused
from support.git_https import GitHost, git_host
from support.sshd import make_key, ssh_host

SSH = """#!/bin/sh
# Stands where ssh does: notes how it was called and runs git's end of it here.
echo "$@" >> {seen}
for last; do :; done
exec sh -c "$last"
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    with git_host(tmp_path) as host:
        yield host


@pytest.fixture
def trusted(host: GitHost, monkeypatch: pytest.MonkeyPatch) -> GitHost:
    """As on a machine whose administrator trusts the authority."""
    monkeypatch.setenv("GIT_SSL_CAINFO", str(host.ca))
    monkeypatch.setenv("SSL_CERT_FILE", str(host.ca))
    return host


async def test_a_version_with_its_submodule(trusted: GitHost, tmp_path: Path) -> None:
    part = trusted.repository("part", [{"inner": "deep\n"}])
    whole = trusted.repository("whole", [{"page": "first\n"}, {"page": "second\n"}], {"lib": part})
    into = tmp_path / "new"
    await fetch_sources(Stage(repo=whole, version="v1", submodule=True), into, GitSettings())
    assert (into / "page").read_text() == "first\n"
    assert (into / "lib" / "inner").read_text() == "deep\n"
    assert (into / ".git").exists()
    plain = tmp_path / "plain"
    await fetch_sources(Stage(repo=whole, security=True), plain, GitSettings())
    assert (plain / "page").read_text() == "second\n"
    assert not (plain / "lib" / "inner").exists()
    assert not list(plain.rglob(".git"))


async def test_a_certificate_that_nobody_trusts(host: GitHost, tmp_path: Path) -> None:
    url = host.repository("site", [{"page": "first\n"}])
    with pytest.raises(Refused, match="certificate"):
        await fetch_sources(Stage(repo=url), tmp_path / "new", GitSettings())


async def test_what_is_not_there(trusted: GitHost, tmp_path: Path) -> None:
    url = trusted.repository("site", [{"page": "first\n"}])
    with pytest.raises(Refused, match=r"git failed.*v9"):
        await fetch_sources(Stage(repo=url, version="v9"), tmp_path / "a", GitSettings())
    with pytest.raises(Refused, match="git failed"):
        await fetch_sources(Stage(repo=trusted.url("nothing.git")), tmp_path / "b", GitSettings())


async def test_artifacts_take_the_place_of_what_was_cloned(trusted: GitHost, tmp_path: Path) -> None:
    url = trusted.repository("site", [{"page": "first\n"}])
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("built/program", "#!/bin/sh\n")
        archive.writestr("../../outside", "nowhere else")
    trusted.files["/artifact.zip"] = packed.getvalue()
    trusted.files["/broken.zip"] = b"no archive"
    into = tmp_path / "deep" / "new"
    into.parent.mkdir()
    settings = GitSettings(scm_type="github", token="hidden-token")
    await fetch_sources(Stage(repo=url, artifacts={"a": trusted.url("artifact.zip")}), into, settings)
    assert sorted(str(path.relative_to(into)) for path in into.rglob("*") if path.is_file()) == [
        "built/program",
        "outside",
    ]
    assert not (tmp_path / "outside").exists()
    assert trusted.headers[-1]["Authorization"] == "token hidden-token"
    with pytest.raises(Refused, match="not a zip file"):
        await fetch_sources(Stage(repo=url, artifacts={"a": trusted.url("broken.zip")}), tmp_path / "c", settings)
    with pytest.raises(Refused, match="answered 404") as refused:
        await fetch_sources(Stage(repo=url, artifacts={"a": trusted.url("none.zip")}), tmp_path / "d", settings)
    assert "hidden-token" not in str(refused.value)


async def test_ssh_gets_the_key_and_asks_nobody(
    trusted: GitHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted.repository("site", [{"page": "first\n"}])
    seen, bin = tmp_path / "seen", tmp_path / "bin"
    bin.mkdir()
    (bin / "ssh").write_text(SSH.format(seen=seen))
    (bin / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin), prepend=":")
    key = tmp_path / "the key"
    repo = f"git@example.test:{trusted.root}/site.git"
    await fetch_sources(Stage(repo=repo), tmp_path / "new", GitSettings(private_key=str(key)))
    assert (tmp_path / "new" / "page").read_text() == "first\n"
    called = seen.read_text()
    assert "git@example.test" in called
    assert "BatchMode=yes" in called
    assert f"-i {key}" in called


async def test_a_real_ssh_server_with_a_submodule(trusted: GitHost, tmp_path: Path) -> None:
    with ssh_host(tmp_path) as server:
        trusted.repository("part", [{"inner": "deep\n"}])
        part = server.url(trusted.root / "part.git")
        trusted.repository("whole", [{"page": "first\n"}, {"page": "second\n"}], {"lib": part}, ssh_key=server.key)
        whole = server.url(trusted.root / "whole.git")
        into = tmp_path / "new"
        settings = GitSettings(private_key=str(server.key))
        await fetch_sources(Stage(repo=whole, version="v1", submodule=True), into, settings)
        assert (into / "page").read_text() == "first\n"
        assert (into / "lib" / "inner").read_text() == "deep\n"
        stranger = GitSettings(private_key=str(make_key(tmp_path / "stranger")))
        with pytest.raises(Refused, match=r"git failed.*Permission denied"):
            await fetch_sources(Stage(repo=whole), tmp_path / "other", stranger)
        with pytest.raises(Refused, match=r"git failed.*none\.git"):
            await fetch_sources(Stage(repo=server.url(tmp_path / "none.git")), tmp_path / "third", settings)


async def test_a_server_that_never_ends_is_left(
    trusted: GitHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    (bin / "ssh").write_text("#!/bin/sh\nexec sleep 60\n")
    (bin / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin), prepend=":")
    with pytest.raises(Refused, match=r"git\.clone_timeout"):
        await fetch_sources(Stage(repo="git@example.test:x.git"), tmp_path / "new", GitSettings(clone_timeout_s=0.5))
