"""What is said, and by which program's name."""

import io

import pytest

from eru.cli.exits import Problem
from eru.cli.show.talk import Talk, typed


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (
            "`eru pod list` shows them; or eru -o json node get n1",
            "`eru-cli pod list` shows them; or eru-cli -o json node get n1",
        ),
        ("start one with `eru up` or `eru core`", "start one with `eru up` or `eru core`"),
        ("eru core info", "eru-cli core info"),
        ("--eru HOST:PORT or the variable ERU, eru://host", "--eru HOST:PORT or the variable ERU, eru://host"),
        ("eru node add eru --endpoint unix:///run/eru.sock", "eru-cli node add eru --endpoint unix:///run/eru.sock"),
    ],
)
def test_hints_name_the_program_that_was_typed(told: str, wanted: str):
    assert typed(told, "eru-cli") == wanted
    assert typed(told, "eru") == told


def test_what_failed_is_told_as_it_is():
    out = io.StringIO()
    Talk(out=out, program="eru-cli").problem(Problem("eru pod x is odd", why="eru node up x", hint="eru pod list"))
    assert out.getvalue() == "error: eru pod x is odd\n  why: eru-cli node up x\n  hint: eru-cli pod list\n"
