"""Markdown: escaped cells, the three kinds of tables, shortened texts."""

from __future__ import annotations

from gdpo.core.markdown import MARKUP, cell, escape, join_names, percent, shorten, table, table_lines


def test_cells_are_escaped():
    assert [cell(value) for value in (1234567, None, "", 0, "a|b\n c", "$x_1$ [y] \\frac")] == [
        "1,234,567", "-", "-", "0", "a\\|b c", "\\$x_1\\$ \\[y] \\\\frac",
    ]  # fmt: skip


def test_scores_keep_their_intervals():
    assert escape("50.0 [40.0, 60.0] <b>", MARKUP) == "50.0 [40.0, 60.0] \\<b>"


def test_tables():
    """Plain, with alignment; without; and padded: 'long' has 4 characters, 'b' and its rule the least, 3."""
    assert table(["a", "b"], [["x", 1]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
    assert table_lines(["a", "b"], [["x", "1"]]) == ["| a | b |", "|---|---|", "| x | 1 |"]
    assert table_lines(["a", "b"], [["long", "1"]], labels=1, padded=True) == [
        "| a    |   b |",
        "| ---- | --: |",
        "| long |   1 |",
    ]


def test_shortened_texts():
    assert shorten("one two three", 13) == "one two three"
    assert shorten("one two three", 12) == "one two …"
    assert shorten("onetwothreefour", 10) == "onetwoth …"


def test_names_and_shares():
    assert [join_names([]), join_names(["a"])] == ["", "a"]
    assert [join_names(["a", "b"]), join_names(["a", "b", "c"])] == ["a and b", "a, b and c"]
    assert [percent(1, 3), percent(0, 0)] == ["33.3%", "-"]
