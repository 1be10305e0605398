"""The reward of a completion: correctness + format + length, in [0, 2] (paper, A Fig. 4; weights are ours).

A scale may add partial credit, which is ours: with right and wrong alone, most groups have two levels of reward, and
eq. 13's adjacent pairs are all pairs.
"""

from __future__ import annotations

from gdpo.config.models import Reward
from gdpo.core.records import Parts, Verdict
from gdpo.grading.grade import final_answer


def format_score(text: str, think: str) -> float:
    """1 where one well-formed <think>...</think> (none, if optional) precedes a non-empty answer, else 0."""
    opened, closed = text.count("<think>"), text.count("</think>")
    well_formed = opened == closed and opened <= 1 and text.find("<think>") <= text.find("</think>")
    if think == "required":
        well_formed = well_formed and opened == 1 and not text[: text.find("<think>")].strip()
    return float(well_formed and bool(final_answer(text)))


def length_score(tokens: int, knee: int, limit: int) -> float:
    """1 up to `knee` tokens, then falling linearly to 0 at `limit`; bounded and monotone."""
    return min(1.0, max(0.0, (limit - tokens) / (limit - knee)))


def words_in_place(text: str, gold: str) -> float:
    """The share of words that `text` and `gold` have at the same place, of the longer one's, in [0, 1]."""
    given, wanted = text.split(), gold.split()
    same = sum(one == other for one, other in zip(given, wanted, strict=False))
    return same / max(len(given), len(wanted), 1)


def reward(verdict: Verdict, text: str, tokens: int, settings: Reward, gold: str | None = None) -> Parts:
    """The weighted parts of one completion's reward; `tokens` is its length in tokens.

    Partial credit is the share of the words of `gold`, a worked solution, that stand at their place. Without a solution
    it is that of a right answer, or none.

    Format and length count only where a final answer can be read: a completion that was cut off, or that gives no
    answer, is neither well formed nor short.
    """
    answered = verdict != "ungradable" and bool(final_answer(text))
    correctness = settings.correctness * (verdict == "right")
    place = words_in_place(text, gold) if gold else float(verdict == "right")
    partial = settings.partial * answered * place
    format_part = settings.format * answered * format_score(text, settings.think)
    length = settings.length * answered * length_score(tokens, settings.knee, settings.limit)
    total = correctness + partial + format_part + length
    return Parts(
        verdict=verdict, correctness=correctness, partial=partial, format=format_part, length=length, total=total
    )
