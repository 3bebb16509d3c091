"""The cores: whether they answer, agree in version and time, keep up with the store, and leave nothing behind."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from eru.cli.cluster.checks import certificates
from eru.cli.cluster.checks.finding import Finding, clock
from eru.cli.cluster.cores import Answer, addresses, ask_each
from eru.cli.session import Session
from eru.cli.show.talk import counted
from eru.model.errors import CoreUnreachable, EruError, RemoteError
from eru.wire import core_pb2 as pb
from eru.wire import methods as rpc
from eru.wire import v1_pb2 as v1

if TYPE_CHECKING:
    from eru.wire.channel import CoreClient

ANSWER_S = 10.0
SLOW_CORE_MS = 200.0
STUCK_S = 600.0  # an intent that is older than this is not being worked on
_LOGIN = "check --username and --password"
_START = "eru up on one machine; eru core on a server; or set ERU to its address"


class Seen(msgspec.Struct):
    """One core's answers. `dump` {}: it is a published one, or older. `at_s`: our time in the middle of its answer."""

    version: str
    took_ms: float
    dump: dict[str, Any]
    at_s: float
    dump_took_s: float


async def core(session: Session) -> list[Finding]:
    """The core that commands talk to. Its first finding is bad when nothing else can be asked."""
    times = session.world.clock
    started = times.monotonic()
    try:
        info = await session.unary(rpc.Info, pb.Empty(), timeout_s=ANSWER_S)
    except CoreUnreachable as error:
        return [Finding("bad", str(error), _START)]
    except RemoteError as error:
        return [Finding("bad", f"core at {session.settings.eru}: {error}", _LOGIN)]
    took = (times.monotonic() - started) * 1000
    text = f"core {info.version} answers at {session.settings.eru} in {took:.0f} ms"
    return [Finding("warn", text, "core or this machine is busy") if took > SLOW_CORE_MS else Finding("ok", text)]


async def store(session: Session) -> list[Finding]:
    """Whether core reads its store."""
    times = session.world.clock
    started = times.monotonic()
    try:
        pods = (await session.unary(rpc.ListPods, pb.Empty(), timeout_s=ANSWER_S)).pods
    except EruError as error:
        return [
            Finding("bad", f"core cannot read its store: {error}", "check that the store of core runs and has room")
        ]
    took = (times.monotonic() - started) * 1000
    if not pods:
        return [Finding("warn", f"the store answers in {took:.0f} ms; there is no pod yet", "eru pod add NAME")]
    return [Finding("ok", f"the store answers in {took:.0f} ms; {counted(len(pods), 'pod')}")]


async def all_of_them(session: Session) -> list[Finding]:
    """Every core that is known."""

    async def ask(client: CoreClient) -> Seen:
        times = session.world.clock
        started = times.monotonic()
        info = await client.unary(rpc.Info, pb.Empty(), timeout_s=ANSWER_S)
        took = times.monotonic() - started
        started, dump = times.monotonic(), {}
        with suppress(RemoteError, ValueError):  # a published core has none
            dump = json.loads((await client.unary(rpc.Debug, v1.DebugRequest(), timeout_s=ANSWER_S)).json)
        span = times.monotonic() - started
        return Seen(info.version, took * 1000, dump, times.now() - span / 2, span)

    where = await addresses(session)
    answers = _once_each(await ask_each(session, ask, limit_s=ANSWER_S, where=where))
    found: list[Finding] = []
    for each in answers:
        found += _one(session, each, several=len(answers) > 1)
    versions = sorted({each.value.version for each in answers if each.value is not None})
    if len(versions) > 1:
        found.append(Finding("warn", f"cores have versions {', '.join(versions)}", "finish the upgrade of all cores"))
    for address in where:
        found += await _certificate(session, address)
    return found


def _once_each(answers: list[Answer[Seen]]) -> list[Answer[Seen]]:
    """A core that has several addresses is told once."""
    known: set[str] = set()
    out = []
    for each in answers:
        id_ = str(each.value.dump.get("core", {}).get("id", "")) if each.value is not None else ""
        if not id_ or id_ not in known:
            out.append(each)
        known.add(id_)
    return out


def _one(session: Session, answer: Answer[Seen], *, several: bool) -> list[Finding]:
    seen, address = answer.value, answer.address
    if seen is None:
        cure = "it may be reachable from other machines only; else see its log"
        return [Finding("warn", f"core {address} is announced and does not answer: {answer.error}", cure)]
    found = [Finding("ok", f"core {seen.version} at {address} answers in {seen.took_ms:.0f} ms")] if several else []
    dump = seen.dump
    about = dump.get("core", {})
    if about and not about.get("ready"):
        found.append(Finding("bad", f"core {address} is not ready", "see its log: it waits for its store"))
    if about.get("draining"):
        found.append(Finding("warn", f"core {address} is going away", "nothing, if it is being restarted"))
    if now := about.get("time"):
        found += clock(f"core {address}", float(now) + session.world.clock.now() - seen.at_s, session.world,
                       uncertain_s=seen.dump_took_s / 2)  # fmt: skip
    stuck = [each for each in dump.get("intents", []) if (each.get("seconds") or 0) > STUCK_S]
    if stuck:
        first = stuck[0]
        text = f"{counted(len(stuck), 'operation')} of core {address} older than {STUCK_S / 60:.0f} minutes"
        text += f", for example {first.get('verb')} of {first.get('workload')} on {first.get('node')}"
        found.append(
            Finding("warn", text, f"their grants are held until node {first.get('node')} answers: eru node list")
        )
    if (unknown := dump.get("commits", {}).get("unknown")) and unknown > 0:
        text = f"core {address} got no answer to {counted(unknown, 'transaction')} since it started"
        found.append(Finding("warn", text, "look at the store's health and the network to it"))
    return found


async def _certificate(session: Session, address: str) -> list[Finding]:
    asked = session.settings
    host, _, port = address.rpartition(":")
    if not (asked.tls or asked.tls_ca or asked.tls_cert) or not port.isdigit():
        return []
    what = f"the certificate of core {address}"
    cure = "make a new one with the same names; core reads tls.cert and tls.key when it starts"
    return await certificates.shown_by(host.strip("[]"), int(port), what, session.world, cure)
