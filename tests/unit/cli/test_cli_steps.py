"""The steps of a deploy as they are told, and what is said after an interrupt."""

from __future__ import annotations

from eru.cli.session import Session
from eru.cli.settings import Settings
from eru.cli.workload.steps import LINES_MAX, TOLD_MAX, Steps, aftermath
from eru.wire import core_pb2 as pb
from eru.wire import v1_pb2 as v1
from support.cli_samples import DEPLOY, GOOD, ONE


def event(kind: str, name: str = "", node: str = "n1", at_s: float = 0.0, detail: str = "") -> v1.Event:
    return v1.Event(kind=kind, name=name, nodename=node, time_ns=int(at_s * 1e9), detail=detail)


def test_lines_say_what_each_instance_is_at():
    steps = Steps(Session(Settings(quiet=True)), "app/web", 2)
    for each in (event("planned", "a"), event("planned", "b", "n2"), event("pulling", at_s=1, detail="img")):
        steps.take(each)
    assert steps.lines(0.5) == [
        "deploying app/web: 0 of 2 done · 0.5s",
        "  a  n1  pulling the image",
        "  b  n2  waiting",
    ]
    steps.take(event("pulled", at_s=3.5))
    steps.take(event("created", "a"))
    steps.ended(pb.CreateWorkloadMessage(name="b", error="no"))
    assert steps.lines(4) == ["deploying app/web: 0 of 2 done, 1 failed · 4.0s", "  a  n1  created, starting"]
    assert steps.pulled_s == 2.5


def test_many_instances_are_a_few_lines():
    steps = Steps(Session(Settings(quiet=True)), "app/web", 100)
    for number in range(100):
        steps.take(event("planned", f"i{number:03}"))
    assert len(steps.lines(0)) == LINES_MAX + 2
    assert steps.lines(0)[-1] == f"  and {100 - LINES_MAX} more"


def test_steps_are_lines_without_a_terminal_unless_they_are_many(capsys):
    steps = Steps(Session(Settings()), "app/web", 2)
    steps.take(event("planned", "a"))
    steps.take(event("pulling", detail="img:1"))
    steps.take(event("created", "a"))
    assert capsys.readouterr().err == "· node n1: pulling img:1\n· a on n1: created\n"
    for number in range(TOLD_MAX + 1):
        steps.take(event("planned", f"i{number}"))
    steps.take(event("created", "i0"))
    assert capsys.readouterr().err == ""


def test_deploy_asks_for_progress_unless_quiet(eru, script, spec):
    script.answers["Deploy"] = [v1.DeployEvent(progress=event("created", "a")), v1.DeployEvent(instance=GOOD)]
    assert "· a on n1: created\n" in eru("workload", "deploy", *DEPLOY, spec).err
    eru("workload", "deploy", *DEPLOY, spec, "-q")
    assert [each.progress for each in script.requests("Deploy")] == [True, False]


async def test_after_an_interrupt_it_is_said_what_stays(script):
    script.answers |= {
        "ListWorkloads": [pb.Workload(id=ONE, name="app_web_a")],
        "Events": [event("recorded", "app_web_a"), event("released", "app_web_b")],
    }
    async with Session(Settings(eru=script.address)) as session:
        steps = Steps(session, "app/web", 2, nodes={"app_web_a": "n1", "app_web_b": "n2"})
        problem = await aftermath(session, "app", "web", steps, 7)
    assert problem.code == 130
    assert problem.what == "interrupted: 1 of 2 instances of app/web stay, 1 taken back"
    assert "eru workload remove app_web_a" in problem.hint
    assert script.requests("Events")[0].since_ns == 7


async def test_after_an_interrupt_with_no_core_nothing_is_claimed():
    async with Session(Settings(eru="127.0.0.1:1")) as session:
        problem = await aftermath(session, "app", "web", Steps(session, "app/web", 2, nodes={"a": "n"}, done=1), 0)
    assert (problem.code, problem.what) == (130, "interrupted: 1 of app/web were made, of the rest nothing is known")
