"""Images: cache, list, remove, build and push, with a real registry that wants a password."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from eru.core.app import Core
from eru.core.building.dockerfile import dockerfile
from eru.core.building.sources import GitSettings
from eru.core.ops.build import BuildSettings, build_image, references
from eru.core.ops.images import cache_images, list_images, remove_images
from eru.engine.contract import CreateSpec, Progress
from eru.engine.docker import DockerSettings, RegistryAuth
from eru.model.builds import BuildMethod, BuildSpec, Stage
from eru.model.errors import InvalidInput, NotFound, Refused
from support.docker import limits_here
from support.inside import NODE, POD, core_with_node, run
from support.registry import PASSWORD, USER, registry

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry"), password=True) as address:
        yield address


def docker_settings(hub: str, password: str = PASSWORD) -> DockerSettings:
    return DockerSettings(auths={hub: RegistryAuth(username=USER, password=password)})


@pytest.fixture
async def core(docker_endpoint: str, hub: str) -> AsyncIterator[Core]:
    async with core_with_node(docker_endpoint, limits_here(), docker_settings(hub)) as core:
        yield core
        engine = await core.engine_for(NODE)
        for image in await engine.images():
            for tag in image.tags:
                if tag.startswith(hub):
                    await engine.remove_image(tag, force=True)
        await engine.prune_images()  # the first stages of builds


async def put_in_registry(core: Core, ref: str) -> None:
    """`bb` under another name, in the registry and not on the node."""
    engine = await core.engine_for(NODE)
    await engine.tag("bb", ref)
    assert [step.error async for step in engine.push(ref) if step.error] == []
    await engine.remove_image(ref)


async def built(core: Core, settings: BuildSettings, spec: BuildSpec) -> list[Progress]:
    steps = [step async for step in build_image(core, settings, spec)]
    await core.background.wait_idle(30)
    return steps


async def test_an_image_is_cached_listed_and_removed(core: Core, hub: str) -> None:
    ref = f"{hub}/team/app:v1"
    await put_in_registry(core, ref)
    assert [listed.images async for listed in list_images(core, POD, [], ref)] == [[]]
    for _ in range(2):
        cached = [result async for result in cache_images(core, POD, [], [ref, f"{hub}/team/none:1"])]
        assert [(result.nodename, result.image, bool(result.error)) for result in cached] == [
            (NODE, ref, False),
            (NODE, f"{hub}/team/none:1", True),
        ]
    [listed] = [listed async for listed in list_images(core, "", [NODE], ref)]
    assert listed.images[0].tags == [ref]
    [everything] = [listed async for listed in list_images(core, "", [], "")]
    assert ref in {tag for image in everything.images for tag in image.tags}
    [removed] = [result async for result in remove_images(core, POD, [NODE], [ref], prune=True)]
    assert removed.error == ""
    assert ref in removed.items
    [missing] = [result async for result in remove_images(core, POD, [], [ref], prune=False)]
    assert missing.error


async def test_a_cached_image_is_not_pulled_again(core: Core, hub: str) -> None:
    ref = f"{hub}/team/twice:v1"
    await put_in_registry(core, ref)
    engine = await core.engine_for(NODE)
    async for cached in cache_images(core, POD, [], [ref]):
        assert not cached.error
    local, remote = await engine.local_digests(ref), await engine.remote_digest(ref)
    assert remote in local, "the registry's port is part of the name"
    await engine.remove_image(ref)


async def test_wrong_credentials_and_wrong_requests_are_told(docker_endpoint: str, hub: str) -> None:
    settings = docker_settings(hub, "wrong")
    async with core_with_node(docker_endpoint, limits_here(), settings) as core:
        [cached] = [result async for result in cache_images(core, POD, [], [f"{hub}/team/secret:1"])]
        assert "unauthorized" in cached.error or "no basic auth" in cached.error
        with pytest.raises(NotFound):
            async for _ in cache_images(core, "", ["no-such-node"], ["x"]):
                pass
        with pytest.raises(Refused, match="no nodes that are up"):
            async for _ in cache_images(core, "nopod", [], ["x"]):
                pass
        [unnamed] = [result async for result in cache_images(core, POD, [], [""])]
        assert "empty" in unnamed.error


def repository(place: Path) -> str:
    """A git repository whose address has the form of a real one."""
    path = place / "git@here" / "site.git"
    work = place / "work"
    work.mkdir()
    (work / "page.txt").write_text("first\n")
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": "/dev/null",
        **{f"GIT_{who}_{what}": "tests@here" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=work, env=environment, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "v1")
    (work / "page.txt").write_text("second\n")
    git("commit", "-q", "-a", "-m", "two")
    git("clone", "-q", "--bare", str(work), str(path))
    return f"file://{path}"


async def test_a_build_from_git_in_two_stages(core: Core, hub: str, tmp_path: Path) -> None:
    base = f"{hub}/base/bb:1"
    await put_in_registry(core, base)
    stages = {
        "make": Stage(
            base=base,
            repo=repository(tmp_path),
            version="v1",
            dir="/src",
            security=True,
            commands=["cp page.txt /page && ls -a . > /listing"],
            cache={"/page": "/www/page", "/listing": "/www/listing"},
        ),
        "run": Stage(
            base=base, envs={"GREETING": 'say "hi"'}, labels={"made": "here"}, dir="/www", stop_signal="SIGINT"
        ),
    }
    spec = BuildSpec(
        name="site", tags=["v1", "latest"], order=["make", "missing", "run"], stages=stages, user="web", uid=1234
    )
    settings = BuildSettings(
        hub=hub, namespace="/team/", build_pod=POD, git=GitSettings(protocols=("file",), clone_timeout_s=60)
    )
    steps = await built(core, settings, spec)
    assert [step.error for step in steps if step.error] == []
    refs = [f"{hub}/team/site:v1", f"{hub}/team/site:latest"]
    assert [step.progress for step in steps if step.status == "finished"] == refs
    engine = await core.engine_for(NODE)
    assert await engine.local_digests(refs[0]) == [], "the build node keeps no reference"

    async for cached in cache_images(core, POD, [], refs[:1]):
        assert not cached.error
    [id] = await run_image(core, refs[0], ["sh", "-c", "cat page; cat listing; id -u; echo $GREETING; pwd"])
    await engine.wait(id)
    lines = b"".join([chunk.data async for chunk in engine.logs(id)]).decode().splitlines()
    assert lines[0] == "first"
    assert ".git" not in lines
    assert lines[-3:] == ["1234", 'say "hi"', "/www"]
    await engine.remove(id, force=True)
    await engine.remove_image(refs[0])


async def run_image(core: Core, image: str, commands: list[str]) -> list[str]:
    engine = await core.engine_for(NODE)
    created = await engine.create(
        CreateSpec(name=f"built_x_{core.world.letters(6)}", image=image, commands=commands, networks={"none": ""})
    )
    await engine.start(created.id)
    return [created.id]


async def test_a_build_from_a_given_context_and_one_that_fails(core: Core, hub: str) -> None:
    base = f"{hub}/base/bb:2"
    await put_in_registry(core, base)
    settings = BuildSettings(hub=hub, build_pod=POD)

    def context(text: str) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
        return out.getvalue()

    good = BuildSpec(name="raw", method=BuildMethod.RAW, tar=context(f"FROM {base}\nRUN touch /made"))
    steps = await built(core, settings, good)
    assert steps[-1].progress == f"{hub}/raw:latest"
    bad = BuildSpec(name="raw", method=BuildMethod.RAW, tar=context(f"FROM {base}\nRUN exit 7"))
    steps = await built(core, settings, bad)
    assert "returned a non-zero code: 7" in steps[-1].error
    assert all(step.status != "finished" for step in steps)
    with pytest.raises(InvalidInput, match="context is empty"):
        await built(core, settings, BuildSpec(name="raw", method=BuildMethod.RAW))


async def test_a_build_from_a_workload(core: Core, hub: str) -> None:
    [id] = await run(core, ["sh", "-c", "echo kept > /kept; sleep 1000"])
    spec = BuildSpec(name="kept", method=BuildMethod.EXIST, exist_id=id, tags=["a", "b"])
    steps = await built(core, BuildSettings(hub=hub), spec)
    assert steps[0].id.startswith("sha256:")
    assert [step.progress for step in steps if step.status == "finished"] == [f"{hub}/kept:a", f"{hub}/kept:b"]


async def test_builds_that_cannot_be(core: Core, hub: str) -> None:
    stage = Stage(base="bb", repo="ftp://here/x.git")
    settings = BuildSettings(hub=hub, build_pod=POD)
    for wrong, spec in (
        ("must be a git@, ssh:// or https://", BuildSpec(name="x", order=["a"], stages={"a": stage})),
        ("no builds in spec", BuildSpec(name="x")),
        (
            "is not a git revision",
            BuildSpec(name="x", order=["a"], stages={"a": Stage(base="b", repo="https://h/x.git", version="--x")}),
        ),
        ("image name is empty", BuildSpec(name="")),
        ("image tag", BuildSpec(name="x", tags=["a b"])),
    ):
        with pytest.raises(InvalidInput, match=wrong):
            await built(core, settings, spec)
    with pytest.raises(InvalidInput, match=r"docker\.hub is not set"):
        await built(core, BuildSettings(), BuildSpec(name="x"))
    with pytest.raises(Refused, match=r"docker\.build_pod is not set"):
        await built(core, BuildSettings(hub=hub), BuildSpec(name="x"))
    unreachable = Stage(base="bb", repo="https://127.0.0.1:1/x.git")
    with pytest.raises(Refused, match="git failed"):
        await built(core, settings, BuildSpec(name="x", order=["a"], stages={"a": unreachable}))


def test_the_generated_dockerfile() -> None:
    stages = {
        "one": Stage(
            base="golang:1",
            repo="git@host:team/app.git",
            dir="/go",
            args={"B": "2", "A": 'x"y'},
            envs={"E": "v"},
            labels={"l": "w"},
            commands=["make", "make install"],
            cache={"/go/bin": "/bin/app"},
        ),
        "two": Stage(base="alpine", stop_signal="SIGQUIT"),
    }
    spec = BuildSpec(name="x", order=["one", "gone", "two"], stages=stages, user="app", uid=7)
    assert dockerfile(spec).split("\n") == [
        "FROM golang:1 as one",
        'ARG A="x\\"y"',
        'ARG B="2"',
        'ENV E "v"',
        "LABEL l=w",
        "RUN mkdir -p /go",
        "WORKDIR /go",
        "ADD app .",
        "",
        "RUN make",
        "RUN make install",
        "FROM alpine as two",
        "",
        "",
        "STOPSIGNAL SIGQUIT ",
        "COPY --from=one /go/bin /bin/app",
        "RUN echo 'app::7:7:app:/dev/null:/sbin/nologin' >> /etc/passwd && echo 'app:x:7:' >> /etc/group && "
        "echo 'app:!::0:::::' >> /etc/shadow",
        "USER app",
    ]


def test_references_of_a_build() -> None:
    spec = BuildSpec(name="app", tags=["v1", "v2"])
    assert references(BuildSettings(hub="hub:5000", namespace="/a/"), spec) == [
        "hub:5000/a/app:v1",
        "hub:5000/a/app:v2",
    ]
    assert references(BuildSettings(hub="hub"), BuildSpec(name="app")) == ["hub/app:latest"]
