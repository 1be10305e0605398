"""Statistics of a trial over worlds: intervals, tests, equivalence, fronts and verdicts. Pure functions; ours.

The unit of replication is the world: its skills, base models, teacher, sets and training seed are drawn anew, and one
difference between two rows comes from each. Differences of different worlds are independent, so that Student's t and
sign flips over worlds hold whatever share of the variance lies between worlds and whatever share between items.
Fronts are no mean of worlds: there the methods' names are swapped in place of signs, and the interval is a jackknife's.

Sources: Student's t; Fisher, The design of experiments, 1935 (sign flips); Holm 1979 (`bootstrap.holm`); Benjamini and
Hochberg 1995 (false discovery rate); Schuirmann 1987 (two one-sided tests for equivalence); Clopper and Pearson 1934.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from gdpo.core.errors import ArgumentError

LEVEL = 0.05
MAX_EXACT_WORLDS = 16  # 65,536 sign patterns; of more worlds a sample is drawn
SIGN_DRAWS = 100_000
ROUNDING = 1e-9  # two sums over the same differences may differ in their last bits
MAX_EXACT_FRONTS = 12  # 2,048 patterns of swaps, some 20 ms
SWAP_DRAWS = 4000
GRID = 101  # gains at which fronts are compared

Verdict = Literal["supported", "contradicted", "equivalent", "inconclusive"]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over worlds with its 95% t interval and two-sided p-value; `worlds`, how many there are."""

    mean: float
    low: float
    high: float
    p: float
    worlds: int


def t_estimate(differences: ArrayLike, level: float = LEVEL) -> Estimate:
    """Mean, t interval and p-value of one difference a world, (W,).

    One world has no interval: it is infinite and p is 1. Differences that are all alike have an interval of no width,
    and p is 0, or 1 where they are 0.

    >>> t_estimate([1.0, 2.0, 3.0])  # sd 1, standard error 0.577, t(2) = 4.303
    Estimate(mean=2.0, low=-0.4841..., high=4.4841..., p=0.0741..., worlds=3)
    """
    values = _one_a_world(differences)
    mean, worlds = float(values.mean()), len(values)
    if worlds == 1:
        return Estimate(mean, -math.inf, math.inf, 1.0, 1)
    error = float(values.std(ddof=1)) / math.sqrt(worlds)
    if error == 0:
        return Estimate(mean, mean, mean, float(mean == 0), worlds)
    half = float(stats.t.ppf(1 - level / 2, worlds - 1)) * error
    p = 2 * float(stats.t.sf(abs(mean) / error, worlds - 1))
    return Estimate(mean, mean - half, mean + half, p, worlds)


def sign_flip_p(differences: ArrayLike, seed: int = 0) -> float:
    """Two-sided p-value of a mean of differences, (W,), by flipping their signs: under no effect each is as likely.

    Exact up to MAX_EXACT_WORLDS worlds, where the smallest is 2 / 2^W: 0.25 for 3 worlds, 0.0005 for 12. Beyond, from
    SIGN_DRAWS patterns drawn with `seed`, with the observed one among them.
    """
    values = _one_a_world(differences)
    observed = abs(values.sum())
    if len(values) <= MAX_EXACT_WORLDS:
        # The pattern and its opposite have one absolute sum: half of the patterns are enough.
        patterns = itertools.product((1.0, -1.0), repeat=len(values) - 1)
        sums = np.abs(np.array([(1.0, *pattern) for pattern in patterns]) @ values)
        return float((sums >= observed - ROUNDING).mean())
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(SIGN_DRAWS, len(values)))
    return float(((np.abs(signs @ values) >= observed - ROUNDING).sum() + 1) / (SIGN_DRAWS + 1))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the order given: those below a level q have a false-discovery rate of at most q.

    >>> benjamini_hochberg([0.01, 0.04, 0.03])  # 3 * 0.01; then 3/2 * 0.03 and 3/3 * 0.04, of which the last is least
    [0.03, 0.04, 0.04]
    """
    adjusted, smallest = [1.0] * len(p_values), 1.0
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for rank in range(len(order), 0, -1):
        index = order[rank - 1]
        smallest = min(smallest, p_values[index] * len(order) / rank)
        adjusted[index] = smallest
    return adjusted


def equivalence_p(differences: ArrayLike, margin: float) -> float:
    """p-value of the two one-sided t-tests: small where the mean difference surely lies within +-`margin`.

    Below 0.05 exactly where the 90% t interval lies inside the margins. One world gives 1.
    """
    if not margin > 0:
        raise ArgumentError(key="margin", found=margin, expected="a number above 0")
    values = _one_a_world(differences)
    if len(values) == 1:
        return 1.0
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values))
    if error == 0:
        return float(abs(mean) >= margin)
    return float(stats.t.sf((margin - abs(mean)) / error, len(values) - 1))


def clopper_pearson(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a share, `right` of `n`: it has a width at 0 of n and n of n too.

    >>> clopper_pearson(200, 200)[0]  # 0.025 ** (1 / 200)
    0.98172...
    """
    low = 0.0 if right == 0 else float(stats.beta.ppf(level / 2, right, n - right + 1))
    high = 1.0 if right == n else float(stats.beta.ppf(1 - level / 2, right + 1, n - right))
    return low, high


def smallest_detectable(sd: float, worlds: int, power: float = 0.8, level: float = LEVEL) -> float:
    """The mean difference that a t-test over `worlds` worlds finds with `power`, where one world's differs by `sd`.

    By bisection over the noncentral t distribution.
    """
    df, critical = worlds - 1, float(stats.t.ppf(1 - level / 2, worlds - 1))

    def reached(effect: float) -> float:
        shift = effect * math.sqrt(worlds)
        return float(stats.nct.sf(critical, df, shift) + stats.nct.cdf(-critical, df, shift))

    low, high = 0.0, 1.0
    while reached(high) < power:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) < power else (low, middle)
    return high * sd


def leave_one_out(differences: Mapping[str, ArrayLike]) -> dict[str, float]:
    """Column -> the mean over worlds of the average over all other columns.

    `differences` gives each column one difference a world; NaN where the column is left out of that world's averages.
    """
    found = {}
    for column in differences:
        others = [np.asarray(values, dtype=float) for name, values in differences.items() if name != column]
        if others:
            found[column] = float(np.nanmean(np.nanmean(np.stack(others), axis=0)))
    return found


def verdict(differences: ArrayLike, margin: float, adjusted_p: float, direction: Literal[1, -1] = 1) -> Verdict:
    """What differences over worlds say of a claim that their mean lies in `direction`.

    equivalent: the 90% interval lies within +-`margin`, whatever the sign. supported, contradicted: the p-value,
    adjusted for the questions asked beside it, is below 0.05, and the mean lies in the claim's direction or against it.
    inconclusive: neither.
    """
    if equivalence_p(differences, margin) < LEVEL:
        return "equivalent"
    if adjusted_p < LEVEL:
        return "supported" if direction * float(_one_a_world(differences).mean()) > 0 else "contradicted"
    return "inconclusive"


# Fronts: what a method forgets at each gain that one of its rates reaches


def path(points: ArrayLike) -> Floats:
    """`points`, (..., R, 2), a method's (gain, forgetting) by ascending rate, with the untrained (0, 0) before them."""
    given = np.asarray(points, dtype=float)
    return np.concatenate([np.zeros((*given.shape[:-2], 1, 2)), given], axis=-2)


def least_forgetting(points: ArrayLike, gains: ArrayLike) -> Floats:
    """The least forgetting, (..., N), at which a method gains at least each of `gains`, (..., N); inf where it never
    does.

    A rate between two tried ones is taken to lie on the straight line between them, and a rate below the smallest on
    the line from the untrained model. So the choice of the rate is made anew at every gain.
    """
    line, wanted = path(points), np.asarray(gains, dtype=float)[..., None, :]
    gain, forgetting = line[..., :, 0, None], line[..., :, 1, None]
    at_points = np.where(gain >= wanted - ROUNDING, forgetting, np.inf)
    start, end = gain[..., :-1, :], gain[..., 1:, :]
    crosses = (np.minimum(start, end) <= wanted) & (wanted <= np.maximum(start, end)) & (start != end)
    share = (wanted - start) / np.where(start == end, 1.0, end - start)
    between = forgetting[..., :-1, :] + share * (forgetting[..., 1:, :] - forgetting[..., :-1, :])
    at_crossings = np.where(crosses, between, np.inf)
    least: Floats = np.minimum(at_points.min(axis=-2), at_crossings.min(axis=-2))
    return least


def most_gain(points: ArrayLike, forgetting: ArrayLike) -> Floats:
    """The most gain, (..., N), at which a method forgets at most each of `forgetting`, (..., N); -inf where it always
    forgets more."""
    swapped = np.asarray(points, dtype=float)[..., ::-1] * -1
    return -least_forgetting(swapped, -np.asarray(forgetting, dtype=float))


def common_gain(one: ArrayLike, other: ArrayLike) -> Floats:
    """The largest gain, (...), that both methods reach at some rate; at least 0."""
    largest: Floats = np.minimum(path(one)[..., 0].max(axis=-1), path(other)[..., 0].max(axis=-1))
    return largest


def area_between(one: ArrayLike, other: ArrayLike, smallest_overlap: float) -> Floats:
    """Forgetting of `one` minus that of `other` at equal gain, (...), in points: the mean over all gains from 0 to the
    largest that both reach. NaN, not comparable, where that is below `smallest_overlap`.

    Both are (..., R, 2): a method's (gain, forgetting) in points by ascending rate; R may differ.
    """
    top = common_gain(one, other)
    gains = top[..., None] * np.linspace(0, 1, GRID)
    difference = least_forgetting(one, gains) - least_forgetting(other, gains)
    return np.where(top >= smallest_overlap, _trapezoid_mean(difference), np.nan)


def _trapezoid_mean(values: Floats) -> Floats:
    """The mean of a line through `values`, (..., GRID), at even distances."""
    mean: Floats = (values.sum(axis=-1) - (values[..., 0] + values[..., -1]) / 2) / (GRID - 1)
    return mean


def front_differences(one: ArrayLike, other: ArrayLike, smallest_overlap: float) -> Floats | None:
    """Area between the fronts of the mean world, each (W, R, 2), as one jackknife pseudo-value a world, (W,).

    `t_estimate` of these gives the area, less its bias of first order, with its interval; the p-value is that of
    `joint_swap_p`. A front found from one world's noisy points looks better than it is, since every gain takes the
    luckiest rate; one found from the mean of all worlds' points does so less. All worlds but one are averaged and both
    fronts found, once for each world, so that the choice of the rate is made anew (Tukey 1958). None, not comparable,
    where the largest gain that both reach is below `smallest_overlap`, for all worlds or all but one.
    """
    a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    worlds = len(a)
    without_a, without_b = ((x.sum(axis=0) - x) / (worlds - 1) for x in (a, b))
    together = area_between(a.mean(axis=0), b.mean(axis=0), smallest_overlap)
    values: Floats = worlds * together - (worlds - 1) * area_between(without_a, without_b, smallest_overlap)
    return values if np.isfinite(values).all() else None


def joint_swap_p(pairs: Sequence[tuple[ArrayLike, ArrayLike]], seed: int = 0) -> float:
    """Two-sided p-value of the mean area between pairs of fronts, each (W, R, 2), by swapping their names in worlds.

    Where the two of each pair do the same, each world's names could as well be swapped, in all pairs at once, since the
    pairs of a world are not independent. The mean area between the fronts of the mean world, found anew for every
    pattern of swaps, is then as likely as the observed one. Exact up to MAX_EXACT_FRONTS worlds; of more, SWAP_DRAWS
    patterns are drawn with `seed`. The two of a pair need one R.
    """
    known = [(np.asarray(one, dtype=float), np.asarray(other, dtype=float)) for one, other in pairs]
    worlds = len(known[0][0])
    if worlds <= MAX_EXACT_FRONTS:
        swaps = np.array([(0, *pattern) for pattern in itertools.product((0, 1), repeat=worlds - 1)])
    else:
        swaps = np.random.default_rng(seed).integers(2, size=(SWAP_DRAWS, worlds))
        swaps[0] = 0  # the observed one is among them
    areas = []
    for a, b in known:
        # Mean over worlds of a, where the names are swapped of b; and the other way round.
        first = (np.tensordot(1 - swaps, a, 1) + np.tensordot(swaps, b, 1)) / worlds
        second = (np.tensordot(swaps, a, 1) + np.tensordot(1 - swaps, b, 1)) / worlds
        areas.append(area_between(first, second, 0.0))
    means = np.abs(np.mean(areas, axis=0))
    return float((means >= means[0] - ROUNDING).mean())


def dominance(one: ArrayLike, other: ArrayLike, draws: int = 2000, seed: int = 0) -> float:
    """How likely `one` forgets at most as much as `other` at every gain that both reach.

    The share of bootstrap draws of worlds, each (W, R, 2), in which the fronts of the mean world are so.
    """
    a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    worlds = np.random.default_rng(seed).integers(len(a), size=(draws, len(a)))
    a, b = a[worlds].mean(axis=1), b[worlds].mean(axis=1)
    gains = common_gain(a, b)[:, None] * np.linspace(0, 1, GRID)
    return float(np.all(least_forgetting(a, gains) <= least_forgetting(b, gains) + ROUNDING, axis=-1).mean())


def _one_a_world(differences: ArrayLike) -> Floats:
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ArgumentError(key="differences", found=f"shape {values.shape}", expected="one finite number a world")
    return values
