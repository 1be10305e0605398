"""`gdpo judge`: how often judges take for safe what is known to be safe, or no refusal (paper: safety columns).

What can be measured without unsafe replies is measured here; docs/judges.md says what cannot.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gdpo.config.benchmarks import Judge
from gdpo.config.data import Source
from gdpo.config.layout import VERSION, Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import write_csv
from gdpo.core.provenance import recorded
from gdpo.core.records import Question, Verdict
from gdpo.core.terminal import say
from gdpo.grading.safety_judge import verdicts

COLUMNS = ["source", "answers", "known", "judge", "n", "safe", "share", "low", "high", "ungradable"]


@dataclass(frozen=True)
class Known:
    """Answers of a source, about which something is `known`: paths into its rows, as the reader `fields` takes them."""

    source: str
    question: str
    answer: str
    known: Literal["safe", "no refusal"]


# ours: the public sources whose authors vouch for the safety of the answers, and worked solutions, which refuse nothing
SETS = (
    Known("star1", "question", "response", "safe"),
    Known("safety-tuned-llamas", "instruction", "output", "safe"),
    Known("gsm8k-train", "question", "answer", "no refusal"),
    Known("math-test5000", "problem", "solution", "no refusal"),
)


def judge(scale: Scale, mirror: Path | None) -> None:
    """Write what the refusal rules, and the scale's judge where it is another, say of each of `SETS`."""
    from gdpo.metakl.sources import catalogue  # here: what is judged is no room's file, but the sources' own rows

    if scale.world:
        raise UserError(key=scale.scale, found="a made-up world", expected="a scale with 'sources' to judge answers of")
    layout, sources = Layout(scale), catalogue()
    kept = layout.work / f"judge-{VERSION['judge']}"
    with recorded(layout.judged, "judge", scale.judge) as extra:
        rows, extra["sources"] = [], {}
        for known in SETS:
            source = sources[known.source]
            if mirror is None and source.hub is None:
                extra["sources"][known.source] = "left out: it is in no mirror given, and not on the Hub"
                say(f"judge {known.source}: {extra['sources'][known.source]}")
                continue
            extra["sources"][known.source], chosen = answers(known, source, scale.limit, mirror)
            for row in judged(known, chosen, list(dict.fromkeys([Judge(), scale.judge])), kept):
                rows.append(row)
                say(sentence(row))
        write_csv(layout.judged, COLUMNS, rows)
    shutil.rmtree(kept, ignore_errors=True)


def answers(
    known: Known, source: Source, limit: int | None, mirror: Path | None
) -> tuple[str, dict[str, list[Question]]]:
    """What was read, and its rows as requests whose `solution` is the answer.

    They are `all` the source's, the first `limit` of them; and those that are `kept`, where its own reader leaves some
    out: STAR-1's keeps for training what refuses by rule.
    """
    from gdpo.metakl.sources import load_source

    paths = {"question": known.question, "solution": known.answer}
    plain = {"reader": "fields", "fields": paths, "grader": "refusal", "instruction": "", "rows": limit}
    found = load_source(known.source, source.model_copy(update=plain), mirror)
    chosen = {"all": found.questions}
    if known.known == "safe":
        usable = {question.id for question in load_source(known.source, source, mirror).questions}
        kept = [question for question in found.questions if question.id in usable]
        if len(kept) < len(found.questions):
            chosen["kept"] = kept
    return found.revision, chosen


def judged(
    known: Known, chosen: dict[str, list[Question]], judges: list[Judge], kept: Path | None = None
) -> Iterator[dict[str, Any]]:
    """A row of judge.csv for each judge and each choice of answers; every answer is judged once, see `verdicts`."""
    for by in judges:
        found = verdicts(by, [(q, q.solution or "") for q in chosen["all"]], kept)
        told = dict(zip((q.id for q in chosen["all"]), found, strict=True))
        for name, questions in chosen.items():
            counts = counted([told[question.id] for question in questions])
            yield {"source": known.source, "answers": name, "known": known.known, "judge": by.backend, **counts}


def counted(found: list[Verdict]) -> dict[str, Any]:
    """How many of `found` are safe, their share with Wilson's 95% interval, and how many are ungradable.

    Without any verdict there is neither share nor interval.
    """
    from scipy.stats import binomtest

    n, safe = len(found), found.count("right")
    interval = binomtest(safe, n).proportion_ci(method="wilson") if n else (None, None)
    low, high = (None if end is None else round(float(end), 6) for end in interval)
    share = round(safe / n, 6) if n else None
    return {"n": n, "safe": safe, "share": share, "low": low, "high": high, "ungradable": found.count("ungradable")}


def sentence(row: dict[str, Any]) -> str:
    """A row in words."""
    what = f"{row['source']} ({row['answers']}, known: {row['known']})"
    if not row["n"]:
        return f"judge {row['judge']}: {what}: no answers"
    taken = "refusals" if row["judge"] == "rules" else "safe"
    return f"judge {row['judge']}: {what}: {row['share']:.1%} of {row['n']} taken for {taken}"
