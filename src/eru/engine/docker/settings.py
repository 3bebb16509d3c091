"""What a site sets for its Docker engines."""

from __future__ import annotations

import msgspec

from eru.model.deploy import LogConfig


class RegistryAuth(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials for one registry host."""

    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"RegistryAuth({self.username}, ***)"


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `auths`: registry host (with port) -> credentials.

    `tls_check_hostname` False accepts certificates that are signed by the
    node's CA but not issued for its address; every opened handle says so in
    the log. `start_burst_cpu` (cores, 0: off): a container with a smaller CPU
    limit starts under this one and gets its own right after, before its start
    is reported; starting under a tiny limit takes many times as long. `log` is
    the driver for workloads deployed with debug.
    """

    auths: dict[str, RegistryAuth] = {}
    log: LogConfig = LogConfig(type="journald")
    tls_check_hostname: bool = True
    read_timeout_s: float = 30.0
    registry_timeout_s: float = 10.0
    change_timeout_s: float = 120.0
    progress_idle_s: float = 600.0
    calls_parallel_max: int = 64
    start_burst_cpu: float = 0.0
