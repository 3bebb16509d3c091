"""Runs the commands that a workload declared for certain moments of its life, inside it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from eru.core.settings import CoreSettings
from eru.engine.contract import Capability, Engine
from eru.model import commands
from eru.model.errors import EngineError, EngineOutcomeUnknown, EngineRefused, InvalidInput, NotSupported
from eru.model.workloads import Workload


def split_command(text: str) -> list[str]:
    """A command line as words, by the published rules; on an open quote, which a deploy refuses, by spaces."""
    try:
        return commands.split_command(text)
    except InvalidInput:
        return text.split()


async def run_hooks(
    engine: Engine,
    workload: Workload,
    lines: Sequence[str],
    settings: CoreSettings,
    *,
    force: bool,
) -> tuple[bytes, EngineError | None]:
    """(output of all of them, the failure that has to fail the verb).

    `force`: a failing hook fails the verb and ends the row; otherwise its
    output is kept and the next one runs.
    """
    output = b""
    for command in lines:
        try:
            output += await _run(engine, workload, command, settings)
        except EngineError as error:
            output += f"{error}\n".encode()
            if force:
                return output[: settings.hook_output_bytes_max], error
    return output[: settings.hook_output_bytes_max], None


async def _run(engine: Engine, workload: Workload, command: str, settings: CoreSettings) -> bytes:
    if Capability.EXEC not in engine.capabilities:
        raise NotSupported(f"engine {engine.type} cannot run hooks: it has no {Capability.EXEC.value}")
    words = split_command(command)
    if not words:
        return b""
    try:
        async with asyncio.timeout(settings.engine_slow_call_s):
            output, code = await _exec(engine, workload, words, settings.hook_output_bytes_max)
    except TimeoutError:
        raise EngineOutcomeUnknown(f"hook {command!r} did not end within {settings.engine_slow_call_s:g} s") from None
    if code != 0:
        said = output.decode(errors="replace").strip()
        raise EngineRefused(said or f"hook {command!r} ended with exit code {code}")
    return output


async def _exec(engine: Engine, workload: Workload, words: list[str], most: int) -> tuple[bytes, int]:
    session = await engine.exec(
        workload.id, words, env=workload.env, user=workload.user, privileged=workload.privileged
    )
    try:
        parts: list[bytes] = []
        size = 0
        async for chunk in session:
            if size < most:
                parts.append(chunk.data)
                size += len(chunk.data)
        return b"".join(parts), await session.exit_code()
    finally:
        await session.close()
