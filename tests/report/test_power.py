"""What the published comparisons could have shown."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import numpy as np
import pytest

from gdpo.report import power, steps
from gdpo.report.published import AVERAGES, published
from tests.mirror import MIRROR, needs_mirror

ROWS = published()
ITEMS = power.item_counts()


def implied(scores, items):
    """How many of the printed `scores`, percents of two decimals, are a whole number of `items`."""

    def fits(score):
        near = round(score * items / 100)
        return any(abs(100 * k / items - score) < 0.0051 for k in (near - 1, near, near + 1))

    return sum(map(fits, scores))


def found(a, b, average="overall_avg", table=None):
    rows = [c for c in power.comparisons(ROWS, ITEMS) if (c.a, c.b, c.average) == (a, b, average)]
    [comparison] = [c for c in rows if table in (None, c.table)]
    return comparison


def test_variance_of_a_difference_by_hand():
    """Shares 0.8 and 0.6 have the variances 0.16 and 0.24, v = 0.2. One sample of each of 50 items, nothing in common:
    2 * 0.2 / 50 = 0.008. With 4 samples, half of the variance between items and difficulties alike: the first half
    cancels, 2 * 0.2 * 0.5 / 4 / 50 = 0.001."""
    assert power.difference_variance(0.8, 0.6, 50, 1, tau=1.0, rho=0.0) == pytest.approx(0.008)
    assert power.difference_variance(0.8, 0.6, 50, 4, tau=0.5, rho=1.0) == pytest.approx(0.001)


def test_verdicts_of_one_sample_correlate_as_assumed():
    """One sample of two rows with equal scores: the variance of the difference is 2 v (1 - correlation) / n."""
    expected = 2 * 0.25 * (1 - power.VERDICT_CORRELATION) / 100
    assert power.difference_variance(0.5, 0.5, 100, 1) == pytest.approx(expected)


def test_standard_error_of_an_average_by_hand():
    """Half of every column of one item each: the unrelated variance of a difference is 2 * 0.25 = 0.5; of a mean of the
    4 columns of safety 0.5 / 4. The standard error is 100 sqrt(0.125) = 35.36 points."""
    one = dict.fromkeys(ITEMS, power.Items(1, 1, ""))
    origin = replace(ROWS[0], cells=ROWS[0].cells | dict.fromkeys(AVERAGES["overall_avg"], 50))
    rows = [replace(origin, table="A7+A8", row=name) for name in ("Origin", "GDPO")]
    [safety] = [c for c in power.comparisons(rows, one) if c.average == "safety_avg"]
    assert safety.unrelated == pytest.approx(100 * math.sqrt(0.125))
    assert safety.difference == 0 and not safety.above and not safety.significant


def test_simulated_standard_error_agrees():
    """Two rows of 400 items: normal difficulties that correlate by 0.6, and the mean of 16 verdicts around each. The
    spread of 2,000 differences is that of the formula, within its own error."""
    rng = np.random.default_rng(0)
    items, samples, draws, tau, rho = 400, 16, 2000, 0.3, 0.6
    # Shares are 0.5 plus a difficulty of variance tau * 0.25; a verdict then has the variance 0.25 in all.
    common = rng.normal(size=(draws, items))
    shares = []
    for _ in range(2):
        own = rng.normal(size=(draws, items))
        level = 0.5 + math.sqrt(tau * 0.25) * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)
        noise = rng.normal(size=(draws, items)) * math.sqrt((1 - tau) * 0.25 / samples)
        shares.append((level + noise).mean(axis=1))
    spread = np.var(shares[0] - shares[1])
    assert spread == pytest.approx(power.difference_variance(0.5, 0.5, items, samples, tau, rho), rel=0.15)


def test_two_headline_differences_are_within_one_standard_error():
    """GDPO over GRPO, +0.61, and MetaKL over its best part, +0.35."""
    for comparison, printed in ((found("GDPO", "GRPO"), 0.61), (found("MetaKL", "MetaKL-Math"), 0.35)):
        assert comparison.difference == pytest.approx(printed, abs=0.005)
        assert abs(comparison.difference) < comparison.related < comparison.unrelated
        assert not comparison.above


def test_every_pair_that_the_paper_compares_is_listed_once():
    """A1: 3 rows against Origin. A5: 2 and 1. A7: 7 and 6. A9: 7 and 6. A11: twice 4 and 3."""
    pairs = [(c.table, c.model, c.a, c.b) for c in power.comparisons(ROWS, ITEMS) if c.average == "overall_avg"]
    assert len(pairs) == len(set(pairs)) == 3 + 3 + 13 + 13 + 2 * 7


@pytest.mark.parametrize("column", ITEMS)
def test_printed_scores_are_whole_numbers_of_items(column):
    """At most three of a column's 33 cells are not: one row that three tables print."""
    counts = ITEMS[column]
    scores = [float(row.cells[column]) for row in ROWS]
    assert implied(scores, counts.items * counts.samples) >= 30


def test_misuse_has_another_size_than_published():
    """Of the sizes from 900 to 1,600, 1139 alone fits more than 17 of the 33 cells. The published set has 1,174."""
    scores = [float(row.cells["TrustLLM-Misuse"]) for row in ROWS]
    fits = {size: implied(scores, size) for size in range(900, 1601)}
    assert fits[1139] == 31
    assert max(count for size, count in fits.items() if size != 1139) == 17


def test_page_and_csv(tmp_path, monkeypatch):
    """`gdpo power` writes both, and prints the page."""
    monkeypatch.chdir(tmp_path)
    steps.power(None)  # it is the same at every scale
    with (tmp_path / "results" / "power.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 46 * 4 and list(rows[0]) == power.COLUMNS
    [row] = [r for r in rows if (r["a"], r["b"], r["average"]) == ("GDPO", "GRPO", "overall_avg")]
    assert (row["difference"], row["above"]) == ("+0.61", "no")
    page = (tmp_path / "results" / "power.md").read_text(encoding="utf-8")
    below = sum(r["above"] == "no" for r in rows if r["average"] == "overall_avg")
    assert f"{below} of the differences are below" in page


@needs_mirror
def test_share_of_variance_between_items_is_as_measured():
    """100 problems, eight samples each: p (1 - p) is the variance of a verdict, and a problem's mean over 8 samples has
    an eighth of the variance within problems in its own."""
    with (MIRROR / "qwen25_math_cot8" / "math_cot_100.jsonl").open(encoding="utf-8") as file:
        verdicts = np.array([json.loads(line)["score"] for line in file], dtype=float)
    share, samples = verdicts.mean(), verdicts.shape[1]
    between = verdicts.mean(axis=1).var() - verdicts.var(axis=1, ddof=1).mean() / samples
    assert verdicts.shape == (100, 8)
    assert between / (share * (1 - share)) == pytest.approx(power.TAU, abs=0.005)


@needs_mirror
def test_verdicts_of_one_family_correlate_as_stated():
    """The six pairs of four solvers: 0.30 to 0.46, so that 0.5 assumes more in common than was measured."""
    solvers = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    with (MIRROR / "gsm8k_model_solutions" / "test.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    correlations = np.corrcoef([[row[solver]["is_correct"] for row in rows] for solver in solvers])
    pairs = correlations[np.triu_indices(4, 1)]
    assert (len(rows), round(pairs.min(), 2), round(pairs.max(), 2)) == (1319, 0.3, 0.46)
    assert pairs.max() < power.VERDICT_CORRELATION
