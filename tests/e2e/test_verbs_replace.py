"""Replace and dissociate on real Docker, through gRPC."""

from __future__ import annotations

import pytest

from eru.wire import core_pb2 as pb
from support.verbs import APP, Verbs, options

pytestmark = pytest.mark.docker


def replace(verbs: Verbs, deploy: pb.DeployOptions, **more: object) -> list[pb.ReplaceWorkloadMessage]:
    return list(verbs.core.ReplaceWorkload(pb.ReplaceOptions(deployOpt=deploy, **more)))


def test_the_new_one_takes_over_with_files_and_only_where_labels_match(verbs: Verbs) -> None:
    [old, other] = verbs.deploy(labels={"v": "1"}) + verbs.deploy(labels={"v": "2"})
    verbs.inside(old, "sh", "-c", "echo kept >/tmp/state")
    before = verbs.usage()
    wanted = options(labels={"v": "3"}, env=["NEW=yes"])
    [message] = replace(verbs, wanted, filter_labels={"v": "1"}, copy={"/tmp/state": "/tmp/moved"})
    assert (message.error, message.remove.id, message.remove.success) == ("", old, True)
    new = message.create.id
    assert set(verbs.recorded()) == {new, other} == verbs.containers()
    assert verbs.inside(new, "cat", "/tmp/moved") == "kept"
    assert "NEW=yes" in verbs.inspect(new)["Config"]["Env"]
    assert verbs.usage() == before


@pytest.mark.parametrize(
    "wrong",
    [{"commands": ["nonesuch"]}, {"image": "no-such-image-at-all", "ignore_pull": True}],
    ids=["command", "image"],
)
def test_the_old_one_goes_on_when_the_new_one_fails(verbs: Verbs, wrong: dict[str, object]) -> None:
    [old] = verbs.deploy()
    before = verbs.usage()
    [message] = replace(verbs, options(**wrong))
    assert message.error
    assert (message.remove.id, message.remove.success) == (old, False)
    assert verbs.recorded() == [old]
    assert verbs.containers() == {old}
    assert verbs.running(old)
    assert verbs.usage() == before


def test_networks_are_inherited(verbs: Verbs) -> None:
    verbs.deploy(networks={"bridge": ""})
    [message] = replace(verbs, options(networks={"none": ""}), networkinherit=True)
    assert message.error == ""
    assert list(verbs.inspect(message.create.id)["NetworkSettings"]["Networks"]) == ["bridge"]


def test_unknown_ids_fail_alone(verbs: Verbs) -> None:
    [old] = verbs.deploy()
    messages = {message.remove.id: message for message in replace(verbs, options(), IDs=[old, "nobody"])}
    assert "nobody" in messages["nobody"].error
    assert messages[old].error == ""


def test_dissociate_forgets_but_leaves_the_container(verbs: Verbs) -> None:
    [id] = verbs.deploy()
    [message] = verbs.core.DissociateWorkload(pb.DissociateWorkloadOptions(IDs=[id]))
    assert (message.id, message.error) == (id, "")
    assert verbs.recorded(APP) == []
    assert verbs.usage()["memory"] == 0
    assert verbs.running(id)
    verbs.docker("rm", "-f", id)
