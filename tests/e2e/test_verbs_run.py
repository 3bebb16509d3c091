"""Run and wait on real Docker: output, exit codes, and nothing left behind, whoever leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from eru.wire import core_pb2 as pb
from support.verbs import FOREVER, Verbs, options, until

pytestmark = pytest.mark.docker


@pytest.fixture
def verbs(verbs: Verbs) -> Iterator[Verbs]:
    """What ran is removed without being asked to."""
    yield verbs
    until(lambda: not verbs.containers() and not verbs.recorded(), "the removal of what ran")


def run(verbs: Verbs, deploy: pb.DeployOptions, inputs: tuple[bytes, ...] = (), **more: Any) -> Any:
    def requests() -> Iterator[pb.RunAndWaitOptions]:
        yield pb.RunAndWaitOptions(deploy_options=deploy, **more)
        for data in inputs:
            time.sleep(0.5)
            yield pb.RunAndWaitOptions(cmd=data)

    return verbs.core.RunAndWait(requests())


def test_ids_come_first_then_output_then_the_exit_code(verbs: Verbs) -> None:
    messages = list(run(verbs, options(commands=["sh", "-c", "echo out; echo err >&2; exit 3"], count=2)))
    assert [message.std_stream_type for message in messages[:2]] == [pb.TYPEWORKLOADID] * 2
    for id in {message.workload_id for message in messages}:
        said = [(m.data, m.std_stream_type) for m in messages[2:] if m.workload_id == id]
        assert said[-1] == (b"[exitcode] 3", pb.STDOUT)
        assert sorted(said[:-1]) == [(b"err\n", pb.STDERR), (b"out\n", pb.STDOUT)]


def test_input_reaches_the_program(verbs: Verbs) -> None:
    deploy = options(commands=["sh", "-c", "read word; echo got $word; exit 5"], open_stdin=True)
    data = b"".join(message.data for message in run(verbs, deploy, (b"this\n",)))
    assert b"got this" in data
    assert data.endswith(b"[exitcode] 5")


def test_without_a_terminal_input_is_data_and_ends(verbs: Verbs) -> None:
    sent = bytes(range(256)) * 500

    def requests() -> Iterator[pb.RunAndWaitOptions]:
        yield pb.RunAndWaitOptions(deploy_options=options(commands=["sh", "-c", "cat; exit 5"], open_stdin=True))
        for at in range(0, len(sent), 30_000):
            yield pb.RunAndWaitOptions(cmd=sent[at : at + 30_000])

    answers = list(verbs.core.RunAndWait(requests(), metadata=(("eru-tty", "0"),)))
    assert b"".join(each.data for each in answers[1:-1]) == sent
    assert answers[-1].data == b"[exitcode] 5"


def test_what_cannot_be_made_is_an_empty_id_and_the_reason(verbs: Verbs) -> None:
    messages = list(run(verbs, options(commands=["nonesuch"])))
    assert (messages[0].std_stream_type, messages[0].workload_id) == (pb.TYPEWORKLOADID, "")
    assert [m.std_stream_type for m in messages[1:]] == [pb.ERUERROR]
    assert messages[1].data.startswith(b"Create workload failed")


def test_nothing_is_left_when_the_client_disappears(verbs: Verbs) -> None:
    call = run(verbs, options(commands=FOREVER, count=2))
    assert [next(call).std_stream_type for _ in range(2)] == [pb.TYPEWORKLOADID] * 2
    assert len(verbs.containers()) == 2
    call.cancel()


def test_asynchronous_runs_end_at_their_time(verbs: Verbs) -> None:
    messages = list(run(verbs, options(commands=FOREVER), **{"async": True, "async_timeout": 5}))
    assert [message.std_stream_type for message in messages] == [pb.TYPEWORKLOADID]
    assert verbs.running(messages[0].workload_id)
