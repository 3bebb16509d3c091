from __future__ import annotations

from eru.cli.show.table import render, render_merged, width


def test_records_are_zipped_and_separated():
    text = render(["name", "lines"], [[["a"], ["1", "2"]], [["b"], [""]]], separate=True)
    assert text == (
        "┌──────┬───────┐\n"
        "│ NAME │ LINES │\n"
        "├──────┼───────┤\n"
        "│ a    │ 1     │\n"
        "│      │ 2     │\n"
        "├──────┼───────┤\n"
        "│ b    │       │\n"
        "└──────┴───────┘\n"
    )


def test_no_header_prints_nothing_and_no_rows_print_the_frame():
    assert render([], [[["a"]]]) == ""
    assert render(["A"], []) == "┌───┐\n│ A │\n├───┤\n└───┘\n"


def test_a_tall_cell_makes_its_row_taller():
    text = render(["A", "B"], [[["x\ny"], ["1", "2"]]])
    assert text.splitlines()[3:6] == ["│ x │ 1 │", "│ y │   │", "│   │ 2 │"]


def test_wide_characters_take_two_columns():
    assert width("节点") == 4
    assert width("e\u0301") == 1
    lines = render(["N"], [[["节点"]]]).splitlines()
    assert lines[0] == "┌──────┐"
    assert lines[3] == "│ 节点 │"


def test_equal_or_empty_cells_melt_into_the_row_above():
    rows = [["n1", "sha256:aa", "a:1"], ["", "", "a:2"], ["n1", "sha256:bb", "b:1"], ["n1", "sha256:cc", "c:1"]]
    assert render_merged(["NODE", "IMAGE", "TAGS"], rows, {0, 1}) == (
        "┌──────┬───────────┬──────┐\n"
        "│ NODE │ IMAGE     │ TAGS │\n"
        "├──────┼───────────┼──────┤\n"
        "│ n1   │ sha256:aa │ a:1  │\n"
        "│      │           ├──────┤\n"
        "│      │           │ a:2  │\n"
        "├──────┼───────────┼──────┤\n"
        "│ n1   │ sha256:bb │ b:1  │\n"
        "│      ├───────────┼──────┤\n"
        "│      │ sha256:cc │ c:1  │\n"
        "└──────┴───────────┴──────┘\n"
    )
