"""The core process: configuration in, a served core until told to stop.

The only place that names store backends and engine adapters for a core.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import click
import structlog

from eru import __version__
from eru.config import DEFAULT_PATH, CoreConfig, load_core

_log = structlog.get_logger(__name__)


@click.command("core")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="ERU_CONFIG_PATH",
    default=DEFAULT_PATH,
    show_default=True,
    show_envvar=True,
    help="Configuration file; all keys: docs/configuration.md.",
)
@click.option("--check-config", is_flag=True, help="Print the settings in effect, secrets masked, and end.")
@click.option("--embedded-storage", is_flag=True, help="Keep the facts on this machine, whatever the file says.")
@click.version_option(__version__, "-v", "--version", message="%(version)s")
@click.help_option("-h", "--help")
def command(config: Path, check_config: bool, embedded_storage: bool) -> None:
    """Run a core server here."""
    loaded = load_core(config)
    settings = loaded.settings
    if embedded_storage:
        settings.store = "embedded"
    if check_config:
        _print_settings(settings)
        from eru.roots.core_telemetry import missing_extras

        for warning in [*loaded.warnings, *missing_extras(settings)]:
            click.echo(f"warning: {warning}", err=True)
        return
    _run(settings, loaded.warnings)


def _print_settings(settings: CoreConfig) -> None:
    import yaml

    from eru.lib.settings import shown

    click.echo(yaml.safe_dump(shown(settings), sort_keys=False), nl=False)


def _run(settings: CoreConfig, warnings: list[str]) -> None:
    from eru.lib.log import configure_logging, rotating
    from eru.model.errors import InvalidInput
    from eru.roots import process

    log = settings.log
    try:
        stream = rotating(log.filename, log.maxsize, log.max_backups, log.max_age) if log.filename else sys.stderr
    except OSError as error:
        raise InvalidInput(f"log.filename: {log.filename} cannot be written: {error.strerror}") from error
    try:
        configure_logging(log.level, use_json=log.use_json or bool(log.filename), stream=stream)
    except ValueError as error:
        raise InvalidInput(f"log.level: {error}") from error
    for warning in warnings:
        _log.warning("configuration", note=warning)
    with process.pid_file(settings.pid_file, "core"):
        process.serve_until_told(lambda told: run_core(settings, told))


async def run_core(settings: CoreConfig, told: asyncio.Event) -> None:
    """A core that serves until `told` is set, then drains. Raises EruError when it cannot start."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(settings))
        await told.wait()


@asynccontextmanager
async def serving(settings: CoreConfig) -> AsyncIterator[None]:
    """Everything that runs in a core process; taken down in order at the end of the block."""
    from eru.core.app import Core
    from eru.core.identity import check_layout, cluster_identity, forget_cores
    from eru.core.metered import CallTimes
    from eru.core.metrics import CoreMetrics
    from eru.core.service import serve, shut_down
    from eru.core.statsd import Pusher
    from eru.lib.memory import settle_memory
    from eru.lib.world import real_world
    from eru.resource.registry import builtin_kinds
    from eru.roots import core_parts as parts
    from eru.roots import core_telemetry as telemetry
    from eru.store.keys import Keys
    from eru.store.open import open_store

    world = real_world()
    keys = Keys(settings.etcd.prefix if settings.store == "etcd" else "/eru")
    kinds = builtin_kinds(parts.resource_settings(settings))
    server_settings = parts.server_settings(settings)
    async with AsyncExitStack() as stack:
        stack.callback(telemetry.report_defects(settings))
        traces = telemetry.traces_of(settings, settings.bind)
        if traces is not None:
            stack.callback(traces.close)
        times = CallTimes(world, traces.inside if traces else None)
        store = times.store(await open_store(parts.store_address(settings), world))
        stack.push_async_callback(store.close)
        if settings.store == "embedded":
            await forget_cores(store, keys)
        if settings.store == "etcd":
            await check_layout(store, keys)
        identifier = settings.identifier or await cluster_identity(store, keys, world)
        engines = parts.engine_pool(world, settings, times)
        stack.push_async_callback(engines.close)
        told = parts.core_settings(settings, identifier, parts.advertised(settings))
        core = Core(world, store, keys, engines, kinds, told)
        metrics = CoreMetrics(core, times=times)
        observer = traces.observer(metrics) if traces else metrics
        server = await serve(core, server_settings, observer, parts.build_settings(settings))
        stack.push_async_callback(core.stop)
        admin = await stack.enter_async_context(AsyncExitStack())  # answers until the last call has ended
        stack.push_async_callback(shut_down, core, server, settings.drain)
        await core.start()
        settle_memory()
        if settings.statsd:
            pusher = Pusher(core, settings.statsd)
            metrics.registry.register(pusher.failures)
            core.tasks.start("statsd", pusher.run())
        for missing in telemetry.missing_extras(settings):
            _log.warning(missing)
        if settings.profile:
            await admin.enter_async_context(parts.admin(settings.profile, core, metrics, server))
        _log.info("core serves", version=__version__, address=settings.bind, store=settings.store, pid=os.getpid())
        with contextlib.suppress(asyncio.CancelledError):
            yield
