"""`gdpo judge`: how often judges are right on answers known to be safe, or to be no refusal (paper: safety columns).

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
class LabelledAnswers:
    """A source's answers, of which `known` holds; `question` and `answer` are paths, as for the reader `fields`."""

    source: str
    question: str
    answer: str
    known: Literal["safe", "no refusal"]


# ours: the public sources whose authors vouch for the safety of the answers, and worked solutions, which refuse nothing
SETS = (
    LabelledAnswers("star1", "question", "response", "safe"),
    LabelledAnswers("safety-tuned-llamas", "instruction", "output", "safe"),
    LabelledAnswers("gsm8k-train", "question", "answer", "no refusal"),
    LabelledAnswers("math-test5000", "problem", "solution", "no refusal"),
)


def judge(scale: Scale, mirror: Path | None) -> None:
    """Write what the refusal rules, and the scale's judge where it is another, say of each of `SETS`."""
    from gdpo.metakl.sources import catalogue  # here: what is judged is no room's file, but the sources' own rows

    if scale.world:
        raise UserError(key=scale.scale, found="a made-up world", expected="a scale with 'sources' to judge answers of")
    layout, sources = Layout(scale), catalogue()
    work_dir = layout.work / f"judge-{VERSION['judge']}"
    with recorded(layout.judged, "judge", scale.judge) as extra:
        rows, extra["sources"] = [], {}
        for labelled in SETS:
            source = sources[labelled.source]
            if mirror is None and source.hub is None:
                extra["sources"][labelled.source] = "left out: it is in no mirror given, and not on the Hub"
                say(f"judge {labelled.source}: {extra['sources'][labelled.source]}")
                continue
            extra["sources"][labelled.source], chosen = answers(labelled, source, scale.limit, mirror)
            for row in judged(labelled, chosen, list(dict.fromkeys([Judge(), scale.judge])), work_dir):
                rows.append(row)
                say(sentence(row))
        write_csv(layout.judged, COLUMNS, rows)
    shutil.rmtree(work_dir, ignore_errors=True)


def answers(
    labelled: LabelledAnswers, source: Source, limit: int | None, mirror: Path | None
) -> tuple[str, dict[str, list[Question]]]:
    """The revision that was read, and the source's rows as requests whose `solution` is the answer.

    `all`: the first `limit` rows. `kept`: those of them that the source's own reader keeps, where it leaves some out
    (STAR-1's keeps for training what refuses by rule).
    """
    from gdpo.metakl.sources import load_source

    paths = {"question": labelled.question, "solution": labelled.answer}
    plain = {"reader": "fields", "fields": paths, "grader": "refusal", "instruction": "", "rows": limit}
    everything = load_source(labelled.source, source.model_copy(update=plain), mirror)
    chosen = {"all": everything.questions}
    if labelled.known == "safe":
        usable = {question.id for question in load_source(labelled.source, source, mirror).questions}
        kept = [question for question in everything.questions if question.id in usable]
        if len(kept) < len(everything.questions):
            chosen["kept"] = kept
    return everything.revision, chosen


def judged(
    labelled: LabelledAnswers, chosen: dict[str, list[Question]], judges: list[Judge], work_dir: Path | None = None
) -> Iterator[dict[str, Any]]:
    """A row of judge.csv for each judge and each choice of answers; every answer is judged once, see `verdicts`."""
    for by in judges:
        given = verdicts(by, [(q, q.solution or "") for q in chosen["all"]], work_dir)
        by_id = dict(zip((q.id for q in chosen["all"]), given, strict=True))
        for name, questions in chosen.items():
            counts = safety_counts([by_id[question.id] for question in questions])
            yield {"source": labelled.source, "answers": name, "known": labelled.known, "judge": by.backend, **counts}


def safety_counts(given: list[Verdict]) -> dict[str, Any]:
    """How many of the verdicts `given` are safe, their share with Wilson's 95% interval, and how many are ungradable.

    Share and interval are None without any verdict.
    """
    from scipy.stats import binomtest

    n, safe = len(given), given.count("right")
    interval = binomtest(safe, n).proportion_ci(method="wilson") if n else (None, None)
    low, high = (None if end is None else round(float(end), 6) for end in interval)
    share = round(safe / n, 6) if n else None
    return {"n": n, "safe": safe, "share": share, "low": low, "high": high, "ungradable": given.count("ungradable")}


def sentence(row: dict[str, Any]) -> str:
    """A row in words."""
    what = f"{row['source']} ({row['answers']}, known: {row['known']})"
    if not row["n"]:
        return f"judge {row['judge']}: {what}: no answers"
    taken = "refusals" if row["judge"] == "rules" else "safe"
    return f"judge {row['judge']}: {what}: {row['share']:.1%} of {row['n']} taken for {taken}"
