"""`eru events` and `eru why`, against a core that follows a script."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from eru.cli.cluster.history import SAME_S, merged
from eru.cli.show import times
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.scripted_core import Fails, Script

NS = times.NS
ID = "a" * 64
NAME = "shop_web_aBcDeF"


def event(kind: str, ago_s: float, **more: Any) -> v1.Event:
    told = {"id": ID, "name": NAME, "appname": "shop", "entrypoint": "web", "nodename": "n1", **more}
    return v1.Event(kind=kind, time_ns=int((time.time() - ago_s) * NS), **told)


def life() -> list[v1.Event]:
    return [
        event("planned", 125, detail="1 of 3, least used", trace_id="req42"),
        event("pulled", 120, detail="shop:1 in 3.1s"),
        event("started", 110),
        event("unhealthy", 30, error="http :80/health answered 500"),
        event("node-up", 20, id="", name="", appname="", entrypoint="", detail="its heartbeat began"),
    ]


def matching(events: list[v1.Event]) -> Any:
    """Answers as a core does: everything given must match."""

    def answer(requests: Iterator[v1.EventsRequest]) -> Iterator[v1.Event]:
        asked = next(iter(requests))
        for each in events:
            if (
                asked.appname in ("", each.appname)
                and asked.entrypoint in ("", each.entrypoint)
                and asked.nodename in ("", each.nodename)
                and (not asked.ids or each.id in asked.ids or each.name in asked.ids)
                and each.time_ns >= asked.since_ns
            ):
                yield each

    return answer


def workload(**status: Any) -> pb.Workload:
    return pb.Workload(
        id=ID,
        name=NAME,
        podname="prod",
        nodename="n1",
        image="shop:1",
        create_time=int(time.time()) - 300,
        resources=json.dumps({"cpumem": {"cpu_request": 0.5, "memory_request": 512 << 20}}),
        status=pb.WorkloadStatus(id=ID, **status) if status else None,
    )


@pytest.fixture(autouse=True)
def quiet_core(script: Script) -> None:
    script.answers |= {"ListWorkloads": [], "GetNode": pb.Node(name="n1", available=True)}


def test_a_time_line_says_when_who_where_what_and_why(script, eru):
    script.answers["Events"] = matching(life())
    ran = eru("events")
    assert ran.code == 0
    lines = ran.out.splitlines()
    assert all(re.fullmatch(r" *(\d+m)?\d+s ago", line[:10]) or line[:10] == "    2m ago" for line in lines)
    assert [line[10:] for line in lines] == [
        "  shop_web_aBcDeF  n1  planned    1 of 3, least used",
        "  shop_web_aBcDeF  n1  pulled     shop:1 in 3.1s",
        "  shop_web_aBcDeF  n1  started",
        "  shop_web_aBcDeF  n1  unhealthy  http :80/health answered 500",
        "  -                n1  node-up    its heartbeat began",
    ]


def test_how_long_ago():
    spans = (0, 59.9, 60, 125, 599, 700, 3600, 9000, 40_000, 90_000, 86400 * 12, -5)
    shown = ["0s", "59s", "1m", "2m5s", "9m59s", "11m", "1h", "2h30m", "11h", "1d1h", "12d", "0s"]
    assert [times.duration(span) for span in spans] == shown
    assert times.ago(0, NS) == "never"


def test_moments_are_durations_back_or_dates():
    assert times.since_ns("--since", "10m", 1000 * NS) == 400 * NS
    assert times.since_ns("--since", "1970-01-01T00:01:00Z", NS) == 60 * NS
    assert times.since_ns("--since", "", NS) == 0


@pytest.mark.parametrize("word", ["shop", "shop/web", ID, NAME, "shop_web_aB", "aaaa"])
def test_an_app_an_id_a_name_and_their_beginnings_mean_the_same(script, eru, word):
    script.answers["Events"] = matching(life())
    kinds = [line.split()[4] for line in eru("events", word, "--since", "1h").out.splitlines()]
    assert kinds == ["planned", "pulled", "started", "unhealthy"]


def test_what_nobody_knows_is_not_found_with_the_nearest_app(script, eru):
    script.answers["Events"] = matching(life())
    script.answers["ListWorkloads"] = [workload()]
    ran = eru("events", "shpo")
    assert ran.code == 4
    assert "did you mean shop?" in ran.err


def test_since_node_and_utc(script, eru):
    script.answers["Events"] = matching(life())
    ran = eru("events", "--since", "45s", "--node", "n1", "--utc")
    lines = ran.out.splitlines()
    assert len(lines) == 2
    assert re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ  ", lines[0])
    assert eru("events", "--node", "n2").err == "no event on node n2\n"
    assert eru("events", "--since", "soon").code == 2


def test_documents_carry_the_time_in_both_forms(script, eru):
    script.answers["Events"] = matching(life())
    ran = eru("-o", "jsonl", "events", "--limit", "1")
    [shown] = [json.loads(line) for line in ran.out.splitlines()]
    assert shown["kind"] == "node-up"
    assert shown["time"] == times.utc(shown["time_ns"])


def test_a_core_without_events_tells_when_things_were_made(script, eru):
    script.answers["ListWorkloads"] = [workload()]
    ran = eru("events", "shop")
    assert ran.code == 0
    assert "created    image shop:1" in ran.out
    assert "keeps no events" in ran.err


def test_a_refusal_of_core_is_told(script, eru):
    script.answers["Events"] = Fails("node 'x y' is not allowed", kind="InvalidInput")
    ran = eru("events")
    assert ran.code == 2
    assert "not allowed" in ran.err


def test_what_every_core_sees_is_told_once_and_later_again():
    first = event("healthy", 60, core="one")
    same = event("healthy", 60 - SAME_S / 2, core="two")
    later = event("healthy", 20, core="one")
    own = [event("created", 70, core="one"), event("created", 70 - SAME_S / 2, core="two")]
    assert merged([later, same, first, *own]) == [*sorted(own, key=lambda each: each.time_ns), first, later]


def test_why_in_five_lines(script, eru):
    script.answers["Events"] = matching(life())
    script.answers["ListWorkloads"] = [workload(running=True)]
    state = {"Running": True, "StartedAt": "2026-01-01T00:00:00.1Z", "ExitCode": 0}
    inspect = {"State": state, "RestartCount": 2, "HostConfig": {"RestartPolicy": {"Name": "always"}}}
    script.answers["RawEngine"] = pb.RawEngineMessage(id=ID, data=json.dumps(inspect).encode())
    ran = eru("why", "shop_web")
    head, *lines = ran.out.splitlines()
    assert head == f"{NAME} (aaaaaaaaaaaa)"
    assert [line.split()[0] for line in lines] == ["asked", "placed", "now", "trouble", "next"]
    asked, placed, now, trouble, following = lines
    assert "ago, by request req42, image shop:1" in asked
    assert "on n1 of pod prod, 1 of 3, least used, with 0.5 cores and 512M of memory" in placed
    assert now.split(None, 1)[1].startswith("running, up ")
    assert now.endswith("restarted 2 times")
    assert "ago unhealthy: http :80/health answered 500" in trouble
    assert "the engine restarts it (policy always)" in following
    assert ran.err == f"next: eru events {NAME}\n"


def test_why_of_one_that_was_killed_for_memory(script, eru):
    script.answers["Events"] = matching([])
    script.answers["ListWorkloads"] = [workload(healthy=False)]
    inspect = {"State": {"Running": False, "Status": "exited", "OOMKilled": True, "ExitCode": 137}}
    script.answers["RawEngine"] = pb.RawEngineMessage(id=ID, data=json.dumps(inspect).encode())
    shown = json.loads(eru("-o", "json", "why", "aaaa").out)
    assert shown["now"] == "stopped, exited with exit code 137"
    assert shown["trouble"] == "killed for want of memory; it ended with exit code 137"
    assert shown["next"].startswith("nothing: nobody restarts it; `eru workload start")


def test_why_of_one_that_is_gone_and_of_one_that_never_was(script, eru):
    script.answers["Events"] = matching([*life(), event("removed", 5, detail="asked for")])
    ran = eru("why", "aaaa")
    assert "now      gone: removed: asked for" in ran.out
    assert "nobody starts it again" in ran.out
    assert eru("why", "nothing").code == 4


def test_why_on_a_published_core_tells_what_is_known(script, eru):
    script.answers["ListWorkloads"] = [workload(running=True, healthy=True)]
    script.answers["RawEngine"] = pb.RawEngineMessage()
    ran = eru("why", NAME)
    assert ran.code == 0
    assert script.requests("RawEngine") == []  # it would end a published core
    assert "by a request whose id nobody remembers" in ran.out
    assert "none known; this core keeps no events" in ran.out
    assert "healthy" in ran.out


def test_nothing_that_a_workload_prints_commands_the_terminal(script, eru):
    failed = event("failed", 5, error="hook:\x1b[2J\x07\nsecond line\r")
    script.answers |= {"Events": matching([failed]), "ListWorkloads": [workload(running=True)]}
    for ran in (eru("events", "shop"), eru("why", NAME)):
        assert "second line" in ran.out
        assert not set(ran.out) & set("\x1b\x07\r")
    assert len(eru("events", "shop").out.splitlines()) == 1
