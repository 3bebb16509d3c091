"""The screen of `eru tui` as data: keys in, lines and wishes out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eru.cli.settings import Settings
from eru.cli.show.table import width
from eru.cli.tui.cluster import Cluster
from eru.cli.tui.command import child_environment
from eru.cli.tui.screen import Line, cut, name_of
from eru.cli.tui.state import State, Text, Wish
from eru.wire import core_pb2 as pb

NOW = 1_800_000_000.0


def workload(name: str, node: str = "n1", state: str = "healthy", **more: Any) -> pb.Workload:
    id_ = f"{sum(name.encode()) * 7919 % 16**6:06x}{name.encode().hex()}".ljust(64, "0")[:64]
    told = {"healthy": (True, True), "running": (True, False), "stopped": (False, False)}
    status = None
    if state in told:
        running, healthy = told[state]
        status = pb.WorkloadStatus(id=id_, running=running, healthy=healthy)
    return pb.Workload(
        id=id_,
        name=name,
        nodename=node,
        podname="prod",
        image="shop:1",
        status=status,
        create_time=int(NOW) - 90,
        **more,
    )


def node(name: str, **more: Any) -> pb.Node:
    has = json.dumps({"cpumem": {"cpu": 4, "memory": 100}})
    used = json.dumps({"cpumem": {"cpu": 1, "memory": 50}})
    return pb.Node(name=name, podname="prod", resource_capacity=has, resource_usage=used, **{"available": True, **more})


def cluster() -> Cluster:
    made = Cluster()
    made.begin_listing()
    made.put([
        workload("shop_web_aaaaaa"), workload("shop_web_bbbbbb", "n2", "stopped"), workload("shop_job_cccccc", "n2"),
        workload("blog_web_dddddd", "n1", "running"), workload("blog_web_eeeeee", "n1", "unreported"),
    ])  # fmt: skip
    made.end_listing()
    made.put_nodes([node("n1"), node("n2", available=False), node("n3", bypass=True)])
    made.put_pods([pb.Pod(name="prod", desc="customers")])
    return made


@pytest.fixture
def state() -> State:
    return State(cluster(), where="10.0.0.1:5001")


def press(state: State, *keys: str) -> Wish | None:
    wish = None
    for key in keys:
        wish = state.press(key)
    return wish


def shown(state: State, rows: int = 20) -> list[str]:
    return [line.text for line in state.lines(rows, NOW)]


def names(state: State) -> list[str]:
    return [line.split()[0] for line in shown(state)[2:-1] if line]


def test_the_first_list_has_every_instance_its_state_and_age(state):
    lines = shown(state)
    assert len(lines) == 20
    assert lines[0] == "10.0.0.1:5001  workloads 5  2 of 5 instances healthy  by name"
    assert lines[1].split() == ["NAME", "ID", "NODE", "STATE", "AGE", "ADDRESSES", "IMAGE"]
    assert names(state) == [
        "blog_web_dddddd", "blog_web_eeeeee", "shop_job_cccccc", "shop_web_aaaaaa", "shop_web_bbbbbb",
    ]  # fmt: skip
    assert "unreported" in lines[3]
    assert "1m30s" in lines[2]
    assert lines[-1].startswith("? help  q quit  enter open")


def test_orders_put_trouble_first_and_come_round(state):
    press(state, "o")
    assert names(state)[0] == "shop_web_bbbbbb"
    assert "by state" in shown(state)[0]
    press(state, "o", "o", "o")
    assert "by name" in shown(state)[0]


def test_a_filter_narrows_while_it_is_typed_and_escape_takes_it_away(state):
    press(state, "/", *"shop n2")
    assert names(state) == ["shop_job_cccccc", "shop_web_bbbbbb"]
    assert shown(state)[-1] == "/shop n2▏"
    press(state, "backspace", "enter")
    assert "/shop n" in shown(state)[0]
    press(state, "escape")
    assert len(names(state)) == 5
    press(state, "/", *"nothing of the kind", "enter")
    assert shown(state)[2].startswith("nothing here matches")
    press(state, "/", "escape")
    assert len(names(state)) == 5


def test_what_is_chosen_stays_chosen_while_others_come_and_go(state):
    press(state, "down", "down")
    assert state.chosen().cells[0] == "shop_job_cccccc"
    state.cluster.put([workload("aaaa_web_ffffff"), workload("abba_web_gggggg")])
    assert state.chosen().cells[0] == "shop_job_cccccc"
    state.cluster.drop(state.chosen().key)
    assert state.chosen() is not None


def test_moving_stops_at_both_ends_and_scrolls(state):
    state.cluster.put([workload(f"many_web_{number:06}") for number in range(100)])
    state.lines(14, NOW)
    press(state, "G")
    assert state.chosen().cells[0] == "shop_web_bbbbbb"
    assert shown(state, 14)[-2].startswith("shop_web_bbbbbb")
    press(state, "down", "home", "up")
    assert state.chosen().cells[0] == "blog_web_dddddd"
    press(state, "page-down")
    assert state.place.at == 11


def test_what_a_filter_leaves_fills_the_screen(state):
    state.cluster.put([workload(f"many_web_{number:06}") for number in range(100)])
    shown(state, 14)
    press(state, "G")
    shown(state, 14)
    press(state, "/", *"many", "enter")
    assert names(state)[0] == "many_web_000000"
    assert state.place.at == 0
    press(state, "G")
    shown(state, 14)
    for number in range(90, 100):
        state.cluster.drop(
            next(key for key, each in state.cluster.instances.items() if each.name[-6:] == f"{number:06}")
        )
    assert len([line for line in shown(state, 14)[2:-1] if line]) == 11


def test_a_filter_takes_the_beginning_of_an_id_and_no_piece_of_one(state):
    one = next(iter(state.cluster.instances.values()))
    press(state, "/", *one.id[:8])
    assert one.name in names(state)
    press(state, "escape")
    other = workload("zeta_web_zzzzzz")
    other.id = "0" * 60 + "dbdb"
    state.cluster.put([other])
    press(state, "/", *"dbdb")
    assert "zeta_web_zzzzzz" not in names(state)


def test_pages_of_text_are_wrapped_to_the_screen(state):
    state.text = Text("page", ["  next     it runs until it is stopped; if it ends, the engine restarts it", "", "end"])
    lines = [line.text for line in state.lines(12, NOW, 40)]
    assert max(len(line) for line in lines[1:-1]) <= 40
    assert " ".join(" ".join(lines[1:-1]).split()).startswith("next it runs until it is stopped; if it ends,")
    assert "end" in lines
    press(state, "G", "q")
    assert state.text is None


@pytest.mark.parametrize(
    ("jump", "title", "first"),
    [
        ("n", "nodes 3", "n1"),
        ("nodes", "nodes 3", "n1"),
        ("a", "apps 3", "blog/web"),
        ("p", "pods 1", "prod"),
        ("shop", "workloads of shop 3", "shop_job_cccccc"),
        ("shop/web", "workloads of shop/web 2", "shop_web_aaaaaa"),
        ("n2", "workloads of n2 2", "shop_job_cccccc"),
    ],
)
def test_a_colon_goes_anywhere_and_escape_back(state, jump, title, first):
    press(state, ":", *jump, "enter")
    assert title in shown(state)[0]
    assert names(state)[0] == first
    press(state, "escape")
    assert "workloads 5" in shown(state)[0]


def test_a_place_that_is_not_there_is_said_with_those_that_are(state):
    press(state, ":", *"nowhere", "enter")
    assert "there is no list, app or node 'nowhere'" in shown(state)[-1]
    assert "pods" in shown(state)[-1]
    press(state, "down")
    assert "nowhere" not in shown(state)[-1]


def test_nodes_show_what_is_given_away_and_lead_to_their_instances(state):
    press(state, ":", "n", "enter")
    rows = {line.split()[0]: line.split()[1:7] for line in shown(state)[2:5]}
    assert rows == {
        "n1": ["prod", "up", "25%", "50%", "3", "1"],
        "n2": ["prod", "down", "25%", "50%", "2", "1"],
        "n3": ["prod", "bypassed", "25%", "50%", "0", "0"],
    }
    press(state, "down", "enter")
    assert names(state) == ["shop_job_cccccc", "shop_web_bbbbbb"]


def test_the_tree_opens_from_app_to_instance_to_node(state):
    press(state, ":", "t", "enter")
    assert [line.split()[1] for line in shown(state)[2:4]] == ["blog", "shop"]
    press(state, "enter")
    lines = [line.strip() for line in shown(state)[2:8]]
    assert lines[0].startswith("▾ blog  (2)")
    assert lines[1].startswith("blog_web_dddddd")
    assert lines[2].startswith("└ n1")
    assert "up, cpu 25%, memory 50%" in lines[2]
    press(state, "enter")
    assert len([line for line in shown(state)[2:-1] if line]) == 2


@pytest.mark.parametrize(("key", "what"), [("l", "logs"), ("s", "shell"), ("d", "describe"), ("e", "events")])
def test_one_key_per_deed(state, key, what):
    wish = press(state, key)
    assert wish.what == what
    assert wish.row.cells[0] == "blog_web_dddddd"


@pytest.mark.parametrize("key", ["r", "ctrl-d"])
def test_removal_asks_and_only_y_means_yes(state, key):
    assert press(state, key) is None
    assert shown(state)[-1] == "stop and remove blog_web_dddddd? y: yes, any other key: no"
    assert press(state, "enter") is None
    assert shown(state)[-1] == "nothing was removed"
    press(state, key)
    wish = press(state, "y")
    assert (wish.what, wish.row.cells[0]) == ("remove", "blog_web_dddddd")


def test_a_production_cluster_says_so_in_red_and_in_the_question():
    state = State(cluster(), where="prod", production=True)
    head = state.lines(10, NOW)[0]
    assert head.text.startswith("PRODUCTION  prod")
    assert head.spans
    press(state, "r")
    assert "of a PRODUCTION cluster" in shown(state)[-1]


def test_what_makes_no_sense_is_said(state):
    press(state, ":", "n", "enter")
    for key, words in (("l", "logs are of"), ("s", "shell is for"), ("r", "remove is for")):
        assert press(state, key) is None
        assert words in shown(state)[-1]
    state.cluster.instances.clear()
    state.cluster.put([])
    press(state, ":", "w", "enter")
    assert press(state, "l") is None
    assert "nothing is chosen" in shown(state)[-1]


def test_pages_of_text_scroll_and_go_away(state):
    press(state, "?")
    assert "esc: back" in shown(state)[0]
    state.text.lines = [f"line {number}" for number in range(50)]
    state.lines(14, NOW)
    press(state, "page-down")
    assert shown(state, 14)[1] == "line 11"
    press(state, "escape")
    assert "workloads" in shown(state)[0]


def test_trouble_with_core_is_the_last_line(state):
    state.cluster.trouble = "core does not answer"
    assert shown(state)[-1] == "core does not answer"


def test_quitting(state):
    assert press(state, "q") == Wish("quit")
    assert press(state, ":", "q", "enter") == Wish("quit")


# -- what is known of the cluster


def test_a_listing_takes_away_what_is_gone_and_events_are_newer_than_it():
    known = cluster()
    known.begin_listing()
    fresh = workload("shop_web_aaaaaa", state="stopped")
    known.changed(pb.WorkloadStatusStreamMessage(id=fresh.id, workload=fresh, status=fresh.status))
    known.put([workload("shop_web_aaaaaa"), workload("blog_web_dddddd")])
    known.end_listing()
    assert {each.name: each.state for each in known.instances.values()} == {
        "shop_web_aaaaaa": "stopped",
        "blog_web_dddddd": "healthy",
    }


def test_reports_expire_and_records_go():
    known = cluster()
    here = workload("shop_web_aaaaaa")
    known.changed(pb.WorkloadStatusStreamMessage(id=here.id, workload=here, status=here.status, delete=True))
    assert known.instances[here.id].state == "unreported"
    known.changed(pb.WorkloadStatusStreamMessage(id=here.id, error="gone", delete=True))
    assert here.id not in known.instances


def test_heartbeats_change_nodes_but_not_those_taken_out():
    known = cluster()
    known.node_beats("n2", True)
    known.node_beats("n3", True)
    known.node_beats("n9", True)
    assert {name: row.state for name, row in known.nodes.items()} == {"n1": "up", "n2": "up", "n3": "bypassed"}


# -- the terminal


def test_keys_have_names():
    assert [name_of(code) for code in ("\n", "\x1b", "\x04", "a", "é", "\x7f", 259, 10**6, "\x00")] == [
        "enter", "escape", "ctrl-d", "a", "é", "backspace", "up", "", "",
    ]  # fmt: skip


def test_lines_are_cut_to_the_terminal_and_cannot_command_it():
    assert cut("abc", 2) == "ab"
    assert cut("日本語", 5) == "日本"
    assert width(cut("日本語", 5)) == 4
    assert "\x1b" not in cut("a\x1b[31mb", 40)
    assert Line("x").style == 0


def test_other_commands_get_the_same_cluster_and_login():
    asked = Settings(eru="h:1", username="u", password="p", tls=True, tls_ca="/ca", context="prod")
    env = child_environment(asked)
    assert (env["ERU"], env["ERU_USERNAME"], env["ERU_PASSWORD"], env["ERU_TLS"], env["ERU_TLS_CA"]) == (
        "h:1", "u", "p", "1", "/ca",
    )  # fmt: skip
    assert "ERU_TLS_CERT" not in env


def test_without_a_terminal_it_says_what_to_use_instead(eru):
    ran = eru("tui")
    assert ran.code == 2
    assert "eru status --once" in ran.err
