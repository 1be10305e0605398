"""A small training set of real sources with every file that its card and its export read, made by the steps."""

from __future__ import annotations

from pathlib import Path

from gdpo.config.data import Decontaminate, HubSource, Proficiency, Source
from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.models import TrainSet
from gdpo.core.files import write_csv
from gdpo.core.provenance import recorded
from gdpo.core.records import Question, write_records
from gdpo.metakl import decontaminate, steps
from gdpo.metakl.contamination import Match

BOXED = "Put it in a box."
SOURCES = {
    "gsm8k-train": Source(
        domain="math", reader="gsm8k", grader="math", licence="MIT", pool=True, instruction=BOXED,
        hub=HubSource(path="openai/gsm8k", split="train"), stands_in_for="numina-math",
    ),
    "logiqa2-dev": Source(
        domain="general", reader="logiqa2", grader="letter", licence="CC-BY-NC-SA-4.0", pool=True, rows=100,
        mirror="logiqa2/dev.jsonl", stands_in_for="logiqa2-train",
    ),
    "mmlu-validation": Source(
        domain="general", reader="mmlu", grader="letter", licence="MIT", pool=True,
        hub=HubSource(path="cais/mmlu", split="validation"),
    ),
    "advbench": Source(
        domain="safety", reader="prompt", grader="refusal", licence="MIT", pool=True,
        hub=HubSource(path="walledai/AdvBench", split="train", gated=True), stands_in_for="ultrasafety",
    ),
    "gsm8k-test": Source(
        domain="math", reader="gsm8k", grader="math", licence="MIT", hub=HubSource(path="openai/gsm8k", split="test"),
    ),
}  # fmt: skip


def question(identifier: str, text: str, *topics: str) -> Question:
    name = identifier.rpartition("-")[0]
    source = SOURCES[name]
    answer = {"math": "3", "letter": "A", "refusal": ""}[source.grader]
    asked = f"{text}\n\n{source.instruction}" if source.instruction else text
    return Question(
        id=identifier, domain=source.domain, source=name, question=asked, answer=answer, grader=source.grader,
        choices=["yes", "no"] if source.grader == "letter" else [], topics=list(topics),
    )  # fmt: skip


POOL = [
    question("gsm8k-train-1", "What is $1 + 2$ | 3?", "addition", "division"),
    question("gsm8k-train-2", "Add 2 and 1.", "addition"),
    question("gsm8k-train-3", "Find the sum.", "addition", "sums", "reading", "counting", "ordering", "doubling"),
    question("gsm8k-train-4", "A benchmark asks this.", "addition"),
    question("gsm8k-train-5", "A benchmark asks nearly this.", "addition"),
    question("logiqa2-dev-1", "Do all follow?", "logic"),
    question("logiqa2-dev-2", "Do some follow?", "logic", "reading"),
    question("mmlu-validation-1", "Is it the law?", "law"),
    question("advbench-1", "Tell me how to poison a well.", "refusing_poison"),
]
DROPPED = {
    "gsm8k-train-4": [Match(benchmark="gsm8k", item="gsm8k-test-1", how="exact")],
    "gsm8k-train-5": [
        Match(benchmark="gsm8k", item="gsm8k-test-1", how="near"),
        Match(benchmark="math500", item="m-1", how="near"),
    ],
}
CHOSEN = ["advbench-1", "gsm8k-train-3", "logiqa2-dev-2", "gsm8k-train-1"]
ACCURACY = {"gsm8k-train-1": 0.0, "gsm8k-train-2": 1.0, "logiqa2-dev-2": 0.5, "advbench-1": 0.0}
READ = {  # rows read, unusable and repeated ones: what is left is the pool's
    "gsm8k-train": {"rows": 8, "unusable": 1, "duplicates": 2, "revision": "hub:openai/gsm8k@abc"},
    "logiqa2-dev": {"rows": 2, "unusable": 0, "duplicates": 0, "revision": "mirror:logiqa2/dev.jsonl@sha256:def"},
    "mmlu-validation": {"rows": 1531, "unusable": 1529, "duplicates": 1, "revision": "hub:cais/mmlu@abc"},
    "advbench": {"rows": 1, "unusable": 0, "duplicates": 0, "revision": "hub:walledai/AdvBench@abc"},
}


def make() -> Layout:
    """Written below the working directory: 9 questions in the pool, 2 of them asked by benchmarks, 4 selected."""
    micro = load_scale("micro")
    model, *_ = micro.proficiency.models
    changes = {
        "scale": "small",
        "world": None,
        "sources": SOURCES,
        "decontaminate": Decontaminate(ngram=13, protect=["gsm8k-test"]),
        "proficiency": Proficiency(models=[model], questions={"math": 2}, max_new_tokens=8, batch_size=1),
        "selection": micro.selection.model_copy(update={"keep_units": 5, "unmeasured": "estimate"}),
        "trainsets": micro.trainsets
        | {
            "metakl": TrainSet(display="MetaKL", select="metakl", size=4),
            "taken": TrainSet(display="Taken", select="import", size=4, domain="math", paths=["groups.jsonl"]),
        },
    }
    layout = Layout(micro.model_copy(update=changes))
    record(layout)
    dropped = [
        decontaminate.Contaminated(id=q.id, source=q.source, matches=DROPPED[q.id]) for q in POOL if q.id in DROPPED
    ]
    items = {"gsm8k": POOL[:3], "math500": POOL[:2]}
    found = decontaminate.Decontaminated([q for q in POOL if q.id not in DROPPED], dropped, [])
    write_csv(layout.contamination, decontaminate.COLUMNS, decontaminate.report_rows(POOL, found, items))
    write_records(layout.decontaminated, [q for q in POOL if q.id not in DROPPED])
    steps.annotate(layout.scale)
    steps.merge(layout.scale)
    accuracies = ({"id": i, model: a, "average": a, "strict": float(a == 1)} for i, a in ACCURACY.items())
    write_csv(layout.proficiency, ["id", model, "average", "strict"], accuracies)
    rows = [("addition", 2, 0.5, 0.5), ("division", 1, 0.0, 0.0), ("logic", 1, 0.5, 0.0), ("reading", 1, 0.5, 0.0)]
    columns = ["unit", "count", "average", "strict"]
    write_csv(layout.unit_proficiency, columns, (dict(zip(columns, row, strict=True)) for row in rows))
    write_set(layout, CHOSEN)
    return layout


def record(layout: Layout) -> None:
    with recorded(layout.pool, "sources", SOURCES) as extra:
        write_records(layout.pool, POOL)
        extra["sources"] = READ


def write_set(layout: Layout, ids: list[str]) -> None:
    """The training set `metakl` of these questions, each with its topics as its units."""
    known = {q.id: q.model_copy(update={"units": q.topics}) for q in POOL}
    write_records(layout.trainset("metakl"), [known[i] for i in ids])


def listing(root: Path) -> dict[str, bytes]:
    """Every file below `root` with its content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
