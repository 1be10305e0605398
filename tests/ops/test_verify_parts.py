"""What `gdpo verify` names a difference by: the row and column of a cell, the line of a samples file."""

from __future__ import annotations

from pathlib import Path

from gdpo.evaluate.samples import changed_lines, digest
from gdpo.ops.verify.cells import differences


def test_row_is_named_by_the_columns_before_the_first_number():
    """`a,b` name the row; its cell `c` was 1 and is 2."""
    (difference,) = differences(Path("t.csv"), "a,b,c\nx,y,2\n", "a,b,c\nx,y,1\n")
    assert str(difference) == "t.csv, line 2, row x / y, column c: found '2', expected '1'"


def test_digest_tells_which_line_changed(tmp_path):
    """Two lines of four digits each; the second is another."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text("one\ntwo\n")
    after.write_text("one\nthree\n")
    assert len(digest(before)["lines"]) == 8
    assert changed_lines(digest(before), digest(after)) == [2]
    assert changed_lines(digest(before), digest(before)) == []
