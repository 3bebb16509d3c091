"""From a deploy request and one placement to what the engine gets and what is recorded. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from eru.core.settings import CoreSettings
from eru.engine.contract import CreateSpec, Inspection
from eru.model.deploy import DeploySpec, Strategy
from eru.model.errors import InvalidInput, Refused
from eru.model.names import check_entrypoint, check_name
from eru.model.nodes import Resources
from eru.model.workloads import (
    LABEL_COREID,
    LABEL_ERU,
    LABEL_META,
    LABEL_NODENAME,
    LABEL_TRACE,
    Hook,
    Meta,
    Workload,
)

RECORD_BYTES_MAX = 512 << 10  # of what a request adds to the record of one workload


@dataclass(frozen=True, slots=True)
class Instance:
    """Everything about it is decided. `ancestor`: id of the workload it replaces."""

    name: str
    podname: str
    nodename: str
    sequence: int
    grant: Resources
    params: Resources
    ancestor: str = ""


def check_deploy(spec: DeploySpec, settings: CoreSettings) -> None:
    """The rules for a deploy that need no look at the cluster. Raises InvalidInput or Refused."""
    check_name("app name", spec.app)
    check_entrypoint(spec.entrypoint.name)
    if not spec.image:
        raise InvalidInput("image is empty")
    if spec.count <= 0:
        raise InvalidInput(f"count: {spec.count}: invalid deploy count")
    if spec.count > settings.deploy_count_max:
        raise InvalidInput(f"count {spec.count} is too large, at most {settings.deploy_count_max} are allowed")
    if spec.nodes_limit < 0:
        raise InvalidInput(f"nodes limit {spec.nodes_limit} is negative, expected 0 (none) or more")
    check_size(spec)
    if spec.strategy is Strategy.DUMMY:
        raise Refused("deploy method not support yet: DUMMY only calculates capacity")


def check_size(spec: DeploySpec) -> None:
    """What is stored of each instance has to fit into one value of the store. Raises InvalidInput."""
    entrypoint = spec.entrypoint
    kept = (spec.image, spec.user, spec.env, spec.labels, entrypoint.hook, entrypoint.health_check, entrypoint.publish)
    size = len(msgspec.json.encode(kept))
    if size > RECORD_BYTES_MAX:
        raise InvalidInput(
            f"environment, labels, hooks and health check have {size} bytes together, at most {RECORD_BYTES_MAX} "
            "can be kept of a workload"
        )


def create_spec(spec: DeploySpec, one: Instance, identifier: str, trace: str = "") -> CreateSpec:
    """Everything the engine needs for one instance."""
    entrypoint = spec.entrypoint
    return CreateSpec(
        name=one.name,
        image=spec.image,
        commands=entrypoint.commands,
        env=[
            *spec.env,
            f"APP_NAME={spec.app}",
            f"ERU_POD={one.podname}",
            f"ERU_NODE_NAME={one.nodename}",
            f"ERU_WORKLOAD_SEQ={one.sequence}",
        ],
        labels=labels_of(spec, one.nodename, identifier, trace),
        dir=entrypoint.dir,
        user=spec.user,
        privileged=entrypoint.privileged,
        networks=spec.networks,
        publish=entrypoint.publish,
        dns=spec.dns,
        extra_hosts=spec.extra_hosts,
        sysctls=entrypoint.sysctls,
        restart=entrypoint.restart,
        log=entrypoint.log,
        debug=spec.debug,
        lambda_=spec.lambda_,
        open_stdin=spec.open_stdin,
        tty=spec.tty,
        params=one.params,
        raw_args=spec.raw_args,
        ancestor=one.ancestor,
    )


def labels_of(spec: DeploySpec, nodename: str, identifier: str, trace: str = "") -> dict[str, str]:
    """Eru's own labels; the caller's are applied last."""
    entrypoint = spec.entrypoint
    meta = Meta(publish=entrypoint.publish or None, health_check=entrypoint.health_check)
    return {
        LABEL_ERU: "1",
        LABEL_META: meta.encode(),
        LABEL_NODENAME: nodename,
        LABEL_COREID: identifier,
        **({LABEL_TRACE: trace} if trace else {}),
        **spec.labels,
    }


def workload_record(
    spec: DeploySpec,
    one: Instance,
    created: CreateSpec,
    seen: Inspection,
    engine_labels: Mapping[str, str],
    create_time: int,
) -> Workload:
    """What is stored of a new instance."""
    return Workload(
        id=seen.id,
        name=created.name,
        podname=one.podname,
        nodename=one.nodename,
        image=spec.image,
        user=seen.user or spec.user,
        privileged=spec.entrypoint.privileged,
        env=spec.env,
        labels={**created.labels, **engine_labels},
        hook=spec.entrypoint.hook,
        grant=one.grant,
        engine_params=created.params,
        create_time=create_time,
    )


def start_commands(spec: DeploySpec) -> tuple[list[str], bool]:
    """(commands to run after the first start, whether a failing one fails the deploy).

    Commands of the request alone, without hooks in the entrypoint, never fail it.
    """
    hook = spec.entrypoint.hook
    force = hook is not None and hook.force and not spec.ignore_hook
    return [*spec.after_create, *(hook.after_start if hook else [])], force


def hook_commands(hook: Hook | None, moment: str) -> list[str]:
    """The commands of one moment: after_start, before_stop, after_resume or before_suspend."""
    return list(getattr(hook, moment)) if hook else []


def published(networks: Mapping[str, str], ports: list[str]) -> dict[str, str]:
    """Network name -> `address:port,...`; empty without ports."""
    if not ports:
        return {}
    return {name: ",".join(f"{address}:{port}" for port in ports) for name, address in networks.items() if address}
