"""The published averages against their own columns."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from gdpo.report.audit import averages, csv_rows, disagreements, markdown, shared
from gdpo.report.published import AVERAGES, PublishedRow, published

SIX = {
    ("A5+A6", "GDPO", "general_avg"): ("76.79", "76.53"),
    ("A5+A6", "GDPO", "overall_avg"): ("80.86", "80.60"),
    ("A9+A10", "MetaKL-General", "math_avg"): ("79.98", "79.89"),
    ("A11+A12", "LIMO", "math_avg"): ("13.84", "13.94"),
    ("A11+A12", "LIMO", "general_avg"): ("29.99", "26.99"),
    ("A11+A12", "STAR-1", "general_avg"): ("59.69", "19.90"),
}


def test_six_published_averages_do_not_follow():
    """STAR-1's general average, 59.69, is the sum 21.94 + 7.45 + 30.30; its mean is 19.90. 33 rows have 132."""
    found = averages(published())
    assert len(found) == 132
    wrong = {(a.table, a.row, a.column): (str(a.printed), f"{a.recomputed:.2f}") for a in found if not a.follows}
    assert wrong == SIX
    assert {a.model for a in found if not a.follows and a.table == "A11+A12"} == {"Qwen2.5-7B-Instruct"}


def test_tolerance_separates_rounding_from_errors():
    """The six are off by at least 0.09; no other by more than half a digit. So the tolerance decides nothing."""
    found = averages(published())
    assert min(abs(a.difference) for a in found if not a.follows) == Decimal("0.09")
    assert max(abs(a.difference) for a in found if a.follows) == Decimal("0.005")
    assert not any(a.near for a in found)


def test_average_follows_within_rounding_only():
    """Cells of 50.00 have the mean 50; printed 50.01 may be rounding twice, and is near; 50.02 may not."""
    cells = {column: Decimal("50.00") for columns in AVERAGES.values() for column in columns}
    row = PublishedRow("T", "M", "R", cells | dict.fromkeys(AVERAGES, Decimal("50.01")))
    assert all(a.follows and a.near for a in averages([row]))
    assert "4 of the others need more than 0.005" in markdown([row])
    off = replace(row, cells=row.cells | {"math_avg": Decimal("50.02")})
    assert [a.column for a in averages([off]) if not a.follows] == ["math_avg"]


def test_rows_of_one_name_are_compared_across_tables():
    """Origin is the same in A5 to A10; GDPO's row in A5+A6 has three cells and an average other than in A7+A8; A10's
    MetaKL is that row again."""
    rows = published()
    assert {name for _, name in shared(rows)} == {"Origin", "GDPO"}
    found = disagreements(rows)
    assert {(d.row, d.tables) for d in found} == {("GDPO", ("A5+A6", "A7+A8"))}
    assert {d.column: tuple(map(str, d.printed)) for d in found} == {
        "MMLU": ("83.37", "84.13"),
        "TrustLLM-Misuse": ("92.89", "93.33"),
        "WildJailbreak": ("64.12", "66.38"),
        "safety_avg": ("84.41", "85.09"),
    }


def test_audit_page_lists_errors_and_csv_lists_all_averages():
    page = markdown(published())
    assert "132 averages recomputed from their own columns; 6 do not follow" in page
    assert "| A11+A12 | Qwen2.5-7B-Instruct | STAR-1 | general | 59.69 | 19.90 | +39.79 |" in page
    assert "Rows that more than one table prints: 2; with different numbers: 1." in page
    rows = csv_rows(averages(published()))
    assert len(rows) == 132
    assert sum(row["follows"] == "no" for row in rows) == 6
