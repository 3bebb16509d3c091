"""Why keys of compose files have no counterpart; what is not here has the general reason."""

from __future__ import annotations

DEFAULT = "neither specs nor deploy have such a setting"
_ENGINE = "the engine's own default is used"
_ONE_BY_ONE = "instances are replaced one by one; see `eru workload replace --help`"

TOP = {
    "networks": "networks are made on the nodes; `eru pod networks POD` shows those that can be joined",
    "volumes": "a named volume is made by the engine of each node when it is first used",
    "secrets": "Eru keeps no secrets; put a file in with --file",
    "configs": "Eru keeps no files; put one in with --file",
    "include": "one file is read; import the others, too",
}
SERVICE = {
    "build": "images are built by `eru image build --raw FOLDER`",
    "depends_on": "apps start in the order in which they are deployed; --wait waits until one is healthy",
    "links": "instances find each other by their addresses; `eru workload list` shows them",
    "external_links": "instances find each other by their addresses; `eru workload list` shows them",
    "container_name": "Eru names each instance, since there may be several",
    "hostname": "each instance has a name of its own",
    "domainname": "each instance has a name of its own",
    "secrets": "Eru keeps no secrets; put a file in with --file",
    "configs": "Eru keeps no files; put one in with --file",
    "profiles": "what is deployed is what is asked for",
    "extends": "one service is read as it stands; copy what it extends into it",
    "tmpfs": "volumes of specs are folders and named volumes",
    "devices": "devices are a resource of their own; see --extra-resources",
    "gpus": "devices are a resource of their own; see --extra-resources",
    "read_only": _ENGINE,
    "shm_size": _ENGINE,
    "init": _ENGINE,
    "ipc": _ENGINE,
    "security_opt": _ENGINE,
    "stop_signal": "the image says what stops it",
    "stop_grace_period": "core decides how long a stop may take",
    "tty": "input and a terminal are for `eru workload exec -i`",
    "stdin_open": "input and a terminal are for `eru workload exec -i`",
    "platform": "a node runs what fits it; choose nodes by --nodelabel",
    "pull_policy": "core fetches an image when it is newer, and uses the local one when the registry is silent",
    "deploy.labels": "labels belong to workloads",
    "deploy.update_config": _ONE_BY_ONE,
    "deploy.rollback_config": _ONE_BY_ONE,
    "deploy.endpoint_mode": "there is no balancer in between; instances publish their own addresses",
    "deploy.resources.pids": _ENGINE,
    "deploy.resources.devices": "devices are a resource of their own; see --extra-resources",
}
