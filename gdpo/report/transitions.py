"""What happened to each item: lost, 1 -> 0, and won, 0 -> 1, by training. Pure functions; ours.

Counted per item, after "Mapping post-training forgetting in language models at scale" (arXiv 2510.17776): two models of
equal score may have lost many items and won as many others. Items that are guessed change by chance alone. Where a
share c of guesses is right, a model of score s knows k = (s - c) / (1 - c) of the items and guesses the rest. Items
that both models guess are lost with probability c (1 - c) and won with the same. At most min(1 - k) of them can be
guessed by both, so that much is taken off each count, which then is 0 at least.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gdpo.evaluate.samples import RIGHT_BEFORE, share, share_right


@dataclass(frozen=True)
class Transitions:
    """Counts over the `n` items of a benchmark. Lost ones are told apart by the answer given after training."""

    n: int
    right_before: int
    right_after: int
    won: int
    wrong: int  # lost to another answer
    unparseable: int  # lost to an answer that could not be read
    cut: int  # lost to one that was cut off

    @property
    def lost(self) -> int:
        return self.wrong + self.unparseable + self.cut

    def by_chance(self, chance: float) -> float:
        """How many items are lost, and as many won, by guesses alone where a share `chance` of guesses is right."""
        guessed = min(1 - knows(self.right_before / self.n, chance), 1 - knows(self.right_after / self.n, chance))
        return self.n * guessed * chance * (1 - chance)

    def adjusted_lost(self, chance: float) -> float:
        return max(0.0, self.lost - self.by_chance(chance))

    def adjusted_won(self, chance: float) -> float:
        return max(0.0, self.won - self.by_chance(chance))


def knows(score: float, chance: float) -> float:
    """The share of items that a model of this score knows, where it guesses the others."""
    return min(1.0, max(0.0, (score - chance) / (1 - chance)))


def counted(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], cut: Collection[int] = ()
) -> Transitions:
    """The transitions between two runs' rows of the same items; `cut`: the places of answers after that were cut off.

    An item counts as right where at least half of its answers are; a lost one as unparseable where most of the answers
    that are not right could not be read.
    """
    ends = {"won": 0, "wrong": 0, "unparseable": 0, "cut": 0}
    rights = [0, 0]
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        was, now = share_right(old) >= RIGHT_BEFORE, share_right(new) >= RIGHT_BEFORE
        rights[0] += was
        rights[1] += now
        if now and not was:
            ends["won"] += 1
        elif was and not now:
            unread = share(new, "ungradable") > share(new, "wrong")
            ends["cut" if place in cut else "unparseable" if unread else "wrong"] += 1
    return Transitions(len(before), *rights, **ends)


def transferability(gains: Mapping[str, float], untaught: Mapping[str, float]) -> float | None:
    """The Transferability Index: the relative change of untaught scores by that of taught ones (arXiv 2507.00432).

    `gains` and `untaught` give columns their relative change, (after - before) / before, of a run's own domains and of
    the others. Below 0 where what is gained on the one is lost on the other. None where either has no column, or where
    nothing was gained or lost on what is taught.
    """
    if not gains or not untaught:
        return None
    gain, other = sum(gains.values()) / len(gains), sum(untaught.values()) / len(untaught)
    return other / gain if gain else None
