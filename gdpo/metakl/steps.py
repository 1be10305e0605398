"""`gdpo metakl ...` and `gdpo benchmark`: the data side's steps as files (paper, MetaKL)."""

from __future__ import annotations

from pathlib import Path

from gdpo.config import Scale, fingerprint
from gdpo.console import say
from gdpo.errors import UserError
from gdpo.files import read_csv, read_jsonl, write_csv, write_json, write_jsonl
from gdpo.layout import Layout, Split
from gdpo.metakl import pool as pools
from gdpo.metakl import proficiency as proficiencies
from gdpo.metakl import select as selection
from gdpo.provenance import recorded
from gdpo.records import Question, chat, read_records, write_records

SPLITS: tuple[Split, ...] = ("test", "validation")


def benchmark(scale: Scale, mirror: Path | None) -> None:
    """Write every benchmark's items, test and validation."""
    layout = Layout(scale)
    for name, settings in scale.benchmarks.items():
        for split in SPLITS:
            items = pools.benchmark_items(scale, name, split, mirror)
            with recorded(layout.benchmark(name, split), "benchmark", settings):
                write_records(layout.benchmark(name, split), items)
        say(f"benchmark {name}: {len(read_records(layout.benchmark(name, 'test'), Question))} test items")


def pool(scale: Scale, mirror: Path | None) -> None:
    """Write the question pool without any benchmark item."""
    layout = Layout(scale)
    with recorded(layout.pool, "pool", [scale.world, scale.sources]) as extra:
        paths = [layout.benchmark(name, split) for name in scale.benchmarks for split in SPLITS]
        items = [item for path in paths for item in read_records(path, Question)]
        questions, extra["dropped_as_benchmark_items"] = pools.pool(scale, items, mirror)
        write_records(layout.pool, questions)
    say(f"pool: {len(questions)} questions, dropped as benchmark items: {extra['dropped_as_benchmark_items'] or 0}")


def annotate(scale: Scale) -> None:
    """Write the pool with its knowledge units, and the units with their counts."""
    layout = Layout(scale)
    with recorded(layout.annotated, "annotate", {}):
        questions = read_records(layout.pool, Question)
        units = pools.knowledge_units(questions)
        write_records(layout.annotated, questions)
        write_json(layout.units, units)
    say(f"annotate: {len(units)} knowledge units over {len(questions)} questions")


def answer(scale: Scale, model: str) -> None:
    """Let one base model answer the pool, or the stated sample of it, greedily."""
    from gdpo.generate import Sampling, complete_all
    from gdpo.grading import grade_many

    layout, settings = Layout(scale), scale.proficiency
    with recorded(layout.answers(model), "answer", settings):
        questions = _measured(scale, read_records(layout.annotated, Question))
        greedy = Sampling(1, 0.0, 1.0, settings.max_new_tokens, settings.batch_size, seed=0)
        key = fingerprint([scale.model(model).model_dump(), settings.model_dump(), [q.id for q in questions]])
        cache = layout.work / "answers" / f"{model}-{key}.jsonl"
        conversations = [chat(question) for question in questions]
        completions = complete_all(layout.model(model), scale.model(model).dtype, conversations, greedy, cache)
        verdicts = grade_many([(q, texts[0]) for q, texts in zip(questions, completions, strict=True)])
        rows = zip(questions, completions, verdicts, strict=True)
        write_jsonl(layout.answers(model), ({"id": q.id, "output": c[0], "verdict": v} for q, c, v in rows))
    say(f"answer {model}: {verdicts.count('right')} of {len(verdicts)} right")


def _measured(scale: Scale, questions: list[Question]) -> list[Question]:
    """The sample whose proficiency is measured: the first in an order that looks random; None is all."""
    wanted = scale.proficiency.questions
    return sorted(questions, key=lambda q: selection.stable_hash(q.id))[:wanted] if wanted else questions


def proficiency(scale: Scale) -> None:
    """Join the base models' answers into proficiencies per question and per unit."""
    layout = Layout(scale)
    models = scale.proficiency.models
    with recorded(layout.proficiency, "proficiency", scale.proficiency):
        right = {m: {r["id"]: float(r["verdict"] == "right") for _, r in read_jsonl(layout.answers(m))} for m in models}
        rows = proficiencies.question_proficiency(right)
        units = proficiencies.unit_proficiency(read_records(layout.annotated, Question), rows)
        write_csv(
            layout.proficiency,
            ["id", *models, "average", "strict"],
            ({"id": i, **r} for i, r in rows.items()),
        )
        columns = ["unit", "count", "average", "strict"]
        write_csv(layout.unit_proficiency, columns, ({"unit": u, **row} for u, row in units.items()))
    say(f"proficiency: {sum(r['average'] for r in rows.values()) / len(rows):.3f} average over {len(rows)} questions")


def select(scale: Scale, trainset: str) -> None:
    """Choose the training set `trainset` from the pool, join it from its parts, or take a part of another."""
    layout, name, settings = Layout(scale), trainset, scale.trainset(trainset)
    with recorded(layout.trainset(name), "select", [settings, scale.selection]):
        if settings.select == "union":
            parts = [read_records(layout.trainset(part), Question) for part in settings.parts]
            chosen = selection.union(parts, settings.size)
        elif settings.select == "part":
            chosen = selection.part(read_records(layout.trainset(settings.parts[0]), Question), settings)
        else:
            chosen = _choose(scale, layout, name)
        selection.check_size(name, settings, chosen)
        write_records(layout.trainset(name), chosen)
    domains = ", ".join(f"{d} {n}" for d in ("math", "general", "safety") if (n := _count(chosen, d)))
    say(f"select {name}: {len(chosen)} questions ({domains})")


def _count(questions: list[Question], domain: str) -> int:
    return sum(question.domain == domain for question in questions)


def _choose(scale: Scale, layout: Layout, name: str) -> list[Question]:
    trainset = scale.trainset(name)
    questions = read_records(layout.annotated, Question)
    if trainset.select == "hardest":
        return selection.hardest(questions, trainset)
    if trainset.select == "domain":
        return selection.any_of(questions, trainset)
    average = {row["id"]: float(row["average"]) for row in read_csv(layout.proficiency)}
    unit_average = {row["unit"]: float(row["average"]) for row in read_csv(layout.unit_proficiency)}
    measured = [q for q in questions if q.id in average and selection.admits(trainset, q)]
    if not measured:
        raise UserError(f"{layout.proficiency}: found no question of the pool, expected proficiencies to select by")
    order = selection.metakl(measured, average, unit_average, scale.selection, trainset.size, scale.retained)
    return [measured[i] for i in order]
