"""`eru top`: rates from two looks, sums per node, and the live screen as lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from eru.cli.cluster.figures import Meter, Use, cells, ordered, per_node
from eru.cli.cluster.top import Source, View, aligned
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1

A, B = "a" * 64, "b" * 64


def stat(id_: str, at_s: float, cpu_s: float = 0.0, memory: int = 0, **more: Any) -> v1.Stat:
    told = {"name": f"shop_web_{id_[:6]}", "nodename": "n1", "memory_limit": 1 << 30, **more}
    return v1.Stat(id=id_, time_ns=int(at_s * 1e9), cpu_ns=int(cpu_s * 1e9), memory=memory, **told)


def test_rates_come_from_two_looks_at_the_same_workload():
    meter = Meter()
    [first] = meter.take([stat(A, 100, cpu_s=7, memory=1 << 29, received=1000)], {A: 2.0})
    assert (first.cpu, first.memory, first.received) == (0.0, 1 << 29, 0.0)
    second, new = meter.take([stat(A, 104, cpu_s=9, memory=1 << 29, received=3000), stat(B, 104, cpu_s=50)], {A: 2.0})
    assert (second.cpu, second.cpu_share, second.memory_share, second.received) == (0.5, 0.25, 0.5, 500.0)
    assert (new.cpu, new.cpu_share) == (0.0, 0.0)


def test_a_counter_that_began_anew_is_no_rate_and_an_error_neither():
    meter = Meter()
    meter.take([stat(A, 100, cpu_s=90), stat(B, 100, cpu_s=1)], {})
    restarted, silent = meter.take([stat(A, 102, cpu_s=1), stat(B, 102, error="n1 is down")], {})
    assert restarted.cpu == 0.0
    assert (silent.cpu, silent.error) == (0.0, "n1 is down")
    assert cells(silent)[2] == "?"
    [back] = [row for row in meter.take([stat(B, 104, cpu_s=3)], {}) if row.id == B]
    assert back.cpu == 0.0


def test_nodes_are_the_sum_of_their_instances_beside_what_they_have():
    rows = [Use(name="x", node="n1", cpu=1.0, memory=10), Use(name="y", node="n1", cpu=2.0, memory=20, error="")]
    nodes = [
        pb.Node(name="n1", resource_capacity=json.dumps({"cpumem": {"cpu": 4, "memory": 60}})),
        pb.Node(name="n2"),
    ]
    busy, idle = per_node(rows, nodes)
    assert (busy.cpu, busy.cpu_share, busy.memory_share, busy.instances) == (3.0, 0.75, 0.5, 2)
    assert (idle.cpu, idle.instances, idle.cpu_share) == (0.0, 0, 0.0)


@pytest.mark.parametrize(
    ("order", "names"),
    [("cpu", "bca"), ("memory", "abc"), ("network", "cab"), ("name", "abc"), ("node", "cab")],
)
def test_orders_put_what_matters_first(order, names):
    rows = [
        Use(name="a", node="n2", cpu=0.1, memory=9, sent=1.0),
        Use(name="b", node="n3", cpu=0.9, memory=5),
        Use(name="c", node="n1", cpu=0.5, memory=1, received=7.0),
    ]
    assert "".join(row.name for row in ordered(rows, order)) == names
    assert "".join(row.name for row in ordered(rows, order, backwards=True)) == names[::-1]


class Counters:
    """A core whose workloads use a steady half core, and a quarter."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self, requests: Iterator[v1.StatsRequest]) -> Iterator[v1.Stat]:
        self.asked = next(iter(requests))
        self.looks += 1
        yield stat(A, self.looks * 10, cpu_s=self.looks * 2.5, memory=100 << 20)
        yield stat(B, self.looks * 10, cpu_s=self.looks * 5, memory=200 << 20)


def workload(id_: str) -> pb.Workload:
    granted = {"cpumem": {"cpu_limit": 1.0}}
    return pb.Workload(id=id_, name=f"shop_web_{id_[:6]}", nodename="n1", resources=json.dumps(granted))


def test_once_prints_one_table_the_busiest_first(script, eru):
    script.answers |= {"Stats": Counters(), "ListWorkloads": [workload(A), workload(B)]}
    ran = eru("top", "shop")
    assert ran.code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in ran.out.splitlines()[3:-1]]
    assert [row[:6] for row in rows] == [
        ["shop_web_bbbbbb", "n1", "0.50", "50%", "200M", "20%"],
        ["shop_web_aaaaaa", "n1", "0.25", "25%", "100M", "10%"],
    ]
    assert script.answers["Stats"].asked.appname == "shop"
    assert {each.appname for each in script.requests("ListWorkloads")} == {"shop"}  # not the whole cluster
    [first, _] = json.loads(eru("-o", "json", "top", "--sort", "memory").out)
    assert (first["id"], first["memory"]) == (B, 200 << 20)


def test_nodes_as_one_table(script, eru):
    node = pb.Node(name="n1", resource_capacity=json.dumps({"cpumem": {"cpu": 3, "memory": 600 << 20}}))
    script.answers |= {"Stats": Counters(), "ListWorkloads": [workload(A), workload(B)], "ListPodNodes": [node]}
    ran = eru("top", "nodes")
    [row] = [[cell.strip() for cell in line.split("│")[1:-1]] for line in ran.out.splitlines()[3:-1]]
    assert row[:6] == ["n1", "2", "0.75", "25%", "300M", "50%"]


def test_a_core_without_figures_says_where_they_are(script, eru):
    script.answers |= {"ListWorkloads": []}
    ran = eru("top")
    assert ran.code == 1
    assert "gives no figures" in ran.err
    assert "/metrics" in ran.err


def test_wrong_words_are_refused(script, eru):
    assert "did you mean memory?" in eru("top", "--sort", "memroy").err
    assert eru("top", "--interval", "0.1s").code == 2


def view(count: int) -> View:
    shown = View(Source(None, "", ""), "name")  # type: ignore[arg-type] # lines and keys ask nobody
    shown.rows = [Use(name=f"w{number:03}", node="n1", cpu=number / 100) for number in range(count)]
    return shown


def test_the_screen_has_a_head_a_page_of_rows_and_the_keys():
    shown = view(100)
    lines = [line.text for line in shown.lines(10)]
    assert len(lines) == 10
    assert lines[0] == "100 instances by name"
    assert lines[1].split()[:3] == ["NAME", "NODE", "CPU"]
    assert [line.split()[0] for line in lines[2:9]] == [f"w{number:03}" for number in range(7)]
    assert lines[9].startswith("c cpu")


def test_keys_sort_turn_and_move():
    shown = view(100)
    assert shown.key("c", 7)
    assert shown.sorted[0].name == "w099"
    assert shown.key("r", 7)
    assert shown.sorted[0].name == "w000"
    for key, first in (("page-down", 7), ("down", 8), ("up", 7), ("end", 93), ("down", 93), ("home", 0), ("up", 0)):
        assert shown.key(key, 7)
        assert shown.first == first
    assert not shown.key("q", 7)


def test_columns_line_up_with_numbers_to_the_right():
    assert aligned([["N", "X", "CPU"], ["long", "y", "1"]]) == ["N     X  CPU", "long  y    1"]
