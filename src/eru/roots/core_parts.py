"""What a core process is made of, out of its configuration. Translation only; `roots.core` runs it."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from eru import __version__
from eru.config import CoreConfig
from eru.core.app import Core
from eru.core.building.sources import GitSettings
from eru.core.metered import CallTimes
from eru.core.metrics import CoreMetrics, admin_app
from eru.core.ops.build import BuildSettings
from eru.core.settings import CoreSettings
from eru.engine.contract import EngineLimits
from eru.engine.docker import DockerSettings, RegistryAuth
from eru.engine.open import engine_factories
from eru.engine.pool import EnginePool, PoolSettings
from eru.lib.world import World
from eru.model.deploy import LogConfig
from eru.model.errors import InvalidInput
from eru.resource.registry import ResourceSettings
from eru.store.etcd import EtcdSettings
from eru.wire.server import RpcServer, ServerSettings, ServerTLS

_DISCOVERY_LEAST_S = 1.0  # as published: a shorter interval counts as not set
_DISCOVERY_DEFAULT_S = 15.0


def core_settings(config: CoreConfig, identifier: str, address: str) -> CoreSettings:
    """Waiting times and identity. The rest are bounds that no published key names."""
    discovery = config.grpc.service_discovery_interval
    bounds = CoreSettings()
    return CoreSettings(
        identifier=identifier,
        address=address,
        version=__version__,
        operation_s=config.global_timeout,
        engine_slow_call_s=config.global_timeout,
        hold_wait_s=config.lock_timeout,
        list_s=config.connection_timeout,
        session_ttl_s=math.ceil(config.grpc.service_heartbeat_interval),
        deploy_count_max=config.scheduler.max_deploy_count,
        engine_parallel_max=min(bounds.engine_parallel_max, config.max_concurrency),
        engine_node_parallel_max=min(bounds.engine_node_parallel_max, config.max_concurrency),
        push_interval_s=discovery if discovery >= _DISCOVERY_LEAST_S else _DISCOVERY_DEFAULT_S,
    )


def resource_settings(config: CoreConfig) -> ResourceSettings:
    """How machines are cut."""
    return ResourceSettings(
        sharebase=config.scheduler.sharebase,
        maxshare=config.scheduler.maxshare,
        plugin_dir=config.resource_plugin.dir,
        plugin_timeout_s=config.resource_plugin.call_timeout,
        plugins_wanted=frozenset(config.resource_plugin.whitelist),
    )


def store_address(config: CoreConfig) -> str | EtcdSettings:
    """What `open_store` takes."""
    if config.store != "etcd":
        return "memory://" if config.store == "memory" else f"embedded:{config.data_dir}"
    etcd = config.etcd
    return EtcdSettings(
        endpoints=tuple(etcd.machines),
        ca_file=Path(etcd.ca) if etcd.ca else None,
        cert_file=Path(etcd.cert) if etcd.cert else None,
        key_file=Path(etcd.key) if etcd.key else None,
        username=etcd.auth.username,
        password=etcd.auth.password,
    )


def build_settings(config: CoreConfig) -> BuildSettings:
    """Where images are built, and what sources may be fetched with."""
    git = config.git
    return BuildSettings(
        hub=config.docker.hub,
        namespace=config.docker.namespace,
        build_pod=config.docker.build_pod,
        git=GitSettings(
            scm_type=git.scm_type.lower(),
            private_key=git.private_key,
            token=git.token,
            clone_timeout_s=git.clone_timeout,
        ),
    )


@asynccontextmanager
async def admin(address: str, core: Core, metrics: CoreMetrics, server: RpcServer) -> AsyncIterator[None]:
    """The HTTP port for metrics and health. Raises InvalidInput when it cannot listen."""
    runner = web.AppRunner(admin_app(core, metrics, server), access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as error:
        await runner.cleanup()
        why = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidInput(f"profile: cannot listen on {address}: {why}; choose another port") from error
    try:
        yield
    finally:
        await runner.cleanup()


def server_settings(config: CoreConfig) -> ServerSettings:
    """The gRPC port. Raises InvalidInput naming a file that cannot be used."""
    tls = None
    if config.tls.cert:
        tls = ServerTLS(
            cert=_read("tls.cert", config.tls.cert),
            key=_read("tls.key", config.tls.key),
            client_ca=_read("tls.client_ca", config.tls.client_ca) if config.tls.client_ca else b"",
        )
    return ServerSettings(
        bind=config.bind,
        username=config.auth.username,
        password=config.auth.password,
        tls=tls,
        message_bytes_max=config.grpc.max_recv_msg_size,
        streams_per_connection_max=config.grpc.max_concurrent_streams,
        call_limit_s=config.global_timeout,
        drain_s=config.drain,
    )


def engine_pool(world: World, config: CoreConfig, times: CallTimes) -> EnginePool:
    """Handles on engines, with what sites set for all of them."""
    docker = config.docker
    settings = DockerSettings(
        auths={host: RegistryAuth(username=a.username, password=a.password) for host, a in docker.auths.items()},
        log=LogConfig(type=docker.log.type, config=docker.log.config),
        tls_check_hostname=docker.tls_check_hostname,
        start_burst_cpu=docker.start_burst_cpu,
    )
    limits = EngineLimits(
        nofile_soft=docker.nofile,
        nofile_hard=docker.nofile,
        memory_floor=docker.memory_floor,
        memory_reservation_floor=docker.memory_floor,
        network_mode=docker.network_mode,
        use_local_dns=docker.use_local_dns,
        start_parallel_max=docker.start_parallel,
    )
    pool = PoolSettings(connect_timeout_s=config.connection_timeout, limits=limits)
    return EnginePool(world, times.engines(engine_factories(settings)), pool)


def advertised(config: CoreConfig) -> str:
    """host:port that clients on other machines can reach this core at; of a socket, its path on this one."""
    if config.advertise:
        return config.advertise
    if config.bind.startswith("unix:"):
        return config.bind
    host, _, port = config.bind.rpartition(":")
    if host in ("", "[::]", "0.0.0.0"):
        host = _outbound_address(config.probe_target)
    return f"{host}:{port}"


def _outbound_address(target: str) -> str:
    """This machine's address on the way to `target`; nothing is sent."""
    host, _, port = target.rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
        except (OSError, ValueError):
            return "127.0.0.1"


def _read(key: str, path: str) -> bytes:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{key} {path} cannot be read: {error.strerror}") from error
    if b"-----BEGIN" not in data:
        raise InvalidInput(f"{key} {path} is not a PEM file")
    return data
