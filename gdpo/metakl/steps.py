"""`gdpo metakl ...` and `gdpo benchmark`: the data side's steps as files (paper, MetaKL)."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from gdpo.config.layout import VERSION, Layout, Split
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, write_csv, write_json, write_text
from gdpo.core.provenance import recorded
from gdpo.core.records import Answers, Domain, Question, Skills, read_records, write_records
from gdpo.core.terminal import say
from gdpo.metakl import pool as pools
from gdpo.metakl import proficiency as proficiencies
from gdpo.metakl import select as selection
from gdpo.metakl.contamination import ItemIndex, read_heldout_items
from gdpo.metakl.word_frequencies import Frequencies

SPLITS: tuple[Split, ...] = ("test", "validation")


def benchmark(scale: Scale, mirror: Path | None) -> None:
    """Write every benchmark's items, test and validation, and all items that may not be trained on.

    A benchmark has no items where its gated source cannot be downloaded; its provenance gives the reason.
    """
    from gdpo.metakl.decontaminate import heldout_items

    layout, items = Layout(scale), pools.BenchmarkItems(scale, mirror)
    for name, settings in scale.benchmarks.items():
        for split in SPLITS:
            split_items = items.benchmark_items(name, split)
            with recorded(layout.benchmark(name, split), "benchmark", settings) as extra:
                extra |= items.provenance_of(name)
                write_records(layout.benchmark(name, split), split_items)
        say(f"benchmark {name}: {len(read_records(layout.benchmark(name, 'test'), Question))} test items")
    with recorded(layout.heldout_items, "benchmark", [scale.benchmarks, scale.decontaminate.protect]) as extra:
        write_records(layout.heldout_items, entries := heldout_items(layout, items))
        if items.unavailable:
            extra["unavailable"] = items.unavailable
    say(f"benchmark: {len(entries)} items of {len({entry.benchmark for entry in entries})} sources are guarded")


def sources(scale: Scale, mirror: Path | None) -> None:
    """Write the question pool: every source's questions, each once."""
    layout = Layout(scale)
    with recorded(layout.pool, "sources", [scale.world, scale.sources]) as extra:
        questions, extra["sources"] = pools.read_pool(scale, mirror)
        write_records(layout.pool, questions)
    say(f"sources: {len(questions)} questions, {_by_domain(questions)}")


def decontaminate(scale: Scale) -> None:
    """Write the pool without benchmark items, what was dropped and what was spared, and a report by source."""
    from gdpo.metakl import decontaminate as cleaning

    layout = Layout(scale)
    with recorded(layout.decontaminated, "decontaminate", scale.decontaminate) as extra:
        questions = read_records(layout.pool, Question)
        benchmarks = read_heldout_items(layout.heldout_items)
        index = ItemIndex.from_scale(scale, benchmarks, questions)
        found = cleaning.decontaminate(questions, index)
        if scale.world and found.dropped:
            raise UserError(
                key="world", found=f"{len(found.dropped)} pool questions that are benchmark items", expected="none"
            )
        rows = cleaning.report_rows(questions, found, benchmarks)
        write_csv(layout.contamination, cleaning.COLUMNS, rows)
        write_records(layout.contaminated, found.dropped)
        write_records(layout.spared, found.spared)
        (index.frequencies or Frequencies(0, {}, ())).write(layout.frequencies)
        write_records(layout.decontaminated, found.clean)
        extra |= {"dropped": len(found.dropped), "spared": len(found.spared)}
    say(
        f"decontaminate: {len(found.clean)} questions kept, {len(found.dropped)} dropped; of those kept "
        f"{len(found.spared)} share a run of words with an item"
    )


def annotate(scale: Scale) -> None:
    """Write the skills that each question needs, by the scale's annotator."""
    layout, backend = Layout(scale), scale.annotate.backend
    with recorded(layout.skills, "annotate", [scale.annotate, scale.encoder]) as extra:
        questions = read_records(layout.decontaminated, Question)
        if backend == "openai":
            from gdpo.metakl import ask_skills

            taxonomy = _by_taxonomy(scale) if scale.annotate.fallback == "taxonomy" else None
            journal = layout.work / "annotate.jsonl"
            skills = ask_skills.annotate(questions, scale.annotate.needed_endpoint, journal, extra, taxonomy)
        elif backend == "taxonomy":
            skills = _by_taxonomy(scale)(questions)
        else:
            from gdpo.metakl import source_skills

            skills = source_skills.annotate(questions)
        write_records(layout.skills, skills)
    say(f"annotate: {len({s for entry in skills for s in entry.skills})} skills over {len(questions)} questions")


def _by_taxonomy(scale: Scale) -> Callable[[list[Question]], list[Skills]]:
    def by_taxonomy(questions: list[Question]) -> list[Skills]:
        from gdpo.metakl.taxonomy import annotate

        return annotate(questions, scale.annotate.taxonomy, scale.needed_encoder, Layout(scale).work)

    return by_taxonomy


def quality(scale: Scale) -> None:
    """Write how often the taxonomy's skills include the source's topic where the matcher does not see it."""
    from gdpo.metakl import quality as measure

    if scale.encoder is None:
        expected = "the sentence encoder that the taxonomy is matched with"
        raise UserError(key="encoder", found="none", expected=expected)
    layout = Layout(scale)
    with recorded(layout.quality, "quality", [scale.annotate, scale.encoder]):
        questions, work = read_records(layout.decontaminated, Question), layout.work / f"quality-{VERSION['quality']}"
        rows = measure.quality(questions, scale.annotate.taxonomy, scale.encoder, work)
        write_csv(layout.quality, measure.COLUMNS, rows)
    shutil.rmtree(work, ignore_errors=True)
    for row in rows:
        say(measure.sentence(row))


def merge(scale: Scale) -> None:
    """Write the pool with its knowledge units, the units with counts and members, and the backends' agreement."""
    from gdpo.metakl import merge as merging

    layout = Layout(scale)
    with recorded(layout.annotated, "merge", [scale.merge, scale.encoder]) as extra:
        questions = read_records(layout.decontaminated, Question)
        skills = {entry.id: list(entry.skills) for entry in read_records(layout.skills, Skills)}
        missing = next((q.id for q in questions if q.id not in skills), None)
        if missing is not None:
            found = f"no skills of question {missing}"
            raise UserError(path=layout.skills, found=found, expected="every question's")
        if unknown := skills.keys() - {q.id for q in questions}:
            expected = f"a question of {layout.decontaminated}"
            raise UserError(path=layout.skills, found=f"skills of {min(unknown)}", expected=expected)
        merged = {
            backend: merging.merge(skills, backend, scale, layout.work, extra)
            for backend in dict.fromkeys([scale.merge.backend, *scale.merge.compare])
        }
        unit_of = merged[scale.merge.backend]
        write_csv(layout.agreement, merging.COLUMNS, merging.agreement(merged, skills))
        annotated = [q.model_copy(update={"units": merging.units(skills[q.id], unit_of)}) for q in questions]
        write_json(layout.units, merging.report(annotated, unit_of))
        write_records(layout.annotated, annotated)
    say(f"merge: {len(unit_of)} skills are {len(set(unit_of.values()))} knowledge units")


def answer(scale: Scale, model: str) -> None:
    """Let one base model answer the pool, or the stated sample of it."""
    from gdpo.metakl.answer import answers

    layout, settings = Layout(scale), scale.proficiency
    with recorded(layout.answers(model), "answer", settings, {"answer": settings.seed}) as extra:
        questions = proficiencies.measured_sample(read_records(layout.decontaminated, Question), settings)
        if not questions:
            raise UserError(path=layout.decontaminated, found="no question to answer", expected="one or more")
        rows = answers(scale, model, questions, extra)
        write_records(layout.answers(model), rows)
    right = sum(row.accuracy for row in rows)
    say(f"answer {model}: {right / len(rows):.1%} right of {len(rows)} questions, {_by_domain(questions)}")


def proficiency(scale: Scale) -> None:
    """Join the base models' answers into proficiencies per question and per unit."""
    layout = Layout(scale)
    models = scale.proficiency.models
    with recorded(layout.proficiency, "proficiency", scale.proficiency):
        right = {m: {a.id: a.accuracy for a in read_records(layout.answers(m), Answers)} for m in models}
        rows = proficiencies.question_proficiency(right)
        questions = read_records(layout.annotated, Question)
        if unknown := rows.keys() - {question.id for question in questions}:
            expected = f"questions of {layout.annotated}"
            raise UserError(path=layout.answers(models[0]), found=min(unknown), expected=expected)
        if not rows:
            raise UserError(path=layout.answers(models[0]), found="no answer", expected="one or more")
        units = proficiencies.unit_proficiency(questions, rows)
        write_csv(
            layout.proficiency,
            ["id", *models, "average", "strict"],
            ({"id": i, **r} for i, r in rows.items()),
        )
        columns = ["unit", "count", "average", "strict"]
        write_csv(layout.unit_proficiency, columns, ({"unit": u, **row} for u, row in units.items()))
    say(f"proficiency: {sum(r['average'] for r in rows.values()) / len(rows):.3f} average over {len(rows)} questions")


def select(scale: Scale, trainset: str) -> None:
    """Select the training set `trainset` from the pool, join it from its parts, or take a part of another."""
    layout, name, settings = Layout(scale), trainset, scale.trainset(trainset)
    with recorded(layout.trainset(name), "select", [settings, scale.selection, scale.mastered_threshold]):
        if settings.select == "union":
            parts = [read_records(layout.trainset(part), Question) for part in settings.parts]
            chosen = selection.union(parts, settings.size)
        elif settings.select == "joined":
            parts = [read_records(layout.trainset(part), Question) for part in settings.parts]
            chosen = selection.joined(parts, settings.size)
        elif settings.select == "renoted":
            chosen = read_records(layout.trainset(settings.parts[0]), Question)[: settings.size]
        elif settings.select == "pretraining":
            chosen = pools.pretraining_questions(scale, settings)
        elif settings.select == "part":
            chosen = selection.sample_by_hash(read_records(layout.trainset(settings.parts[0]), Question), settings)
        else:
            chosen = _choose(scale, layout, name)
        selection.check_size(name, settings, chosen)
        write_records(layout.trainset(name), chosen)
    say(f"select {name}: {len(chosen)} questions, {_by_domain(chosen)}")


def _by_domain(questions: list[Question]) -> str:
    counts = Counter(question.domain for question in questions)
    return ", ".join(f"{domain} {counts[domain]}" for domain in get_args(Domain) if counts[domain])


def _choose(scale: Scale, layout: Layout, name: str) -> list[Question]:
    trainset = scale.trainset(name)
    questions = read_records(layout.annotated, Question)
    if trainset.select == "hardest":
        return selection.hardest(questions, trainset)
    if trainset.select == "domain":
        return selection.sample_by_hash(questions, trainset)
    if trainset.select in ("random", "stratified"):
        assert trainset.seed is not None  # gdpo.config.models.TrainSet
        draw = selection.random_sample if trainset.select == "random" else selection.stratified_sample
        return draw(questions, trainset, trainset.seed)
    average = _averages(layout.proficiency, "id")
    unit_average = _averages(layout.unit_proficiency, "unit")
    measured = {q.id: q.units for q in questions if q.id in average}
    if len(measured) < len(average) or {u for units in measured.values() for u in units} != unit_average.keys():
        raise UserError(
            path=layout.unit_proficiency,
            found="others",
            expected=f"the units of the questions in {layout.annotated.name} that {layout.proficiency.name} lists",
            hint="run `gdpo metakl proficiency` again",
        )
    if scale.selection.unmeasured == "estimate":
        average, unit_average = proficiencies.estimate_unmeasured(questions, average, unit_average)
    known = [q for q in questions if q.id in average and selection.admits(trainset, q)]
    if not known:
        expected = "proficiencies to select by"
        raise UserError(path=layout.proficiency, found="no question of the pool", expected=expected)
    chosen = selection.metakl(known, average, unit_average, scale.selection, trainset.size, scale.mastered_threshold)
    return [known[i] for i in chosen.indices]


def _averages(path: Path, key: str) -> dict[str, float]:
    """The column `average` of a CSV file, by its column `key`."""
    averages = {}
    for number, row in enumerate(read_csv(path), start=2):
        try:
            averages[row[key]] = float(row["average"])
        except (KeyError, TypeError, ValueError):
            values = ", ".join(map(str, row.values()))
            expected = f"columns '{key}' and 'average', a number"
            raise UserError(path=path, line=number, found=values, expected=expected) from None
    return averages


def card(scale: Scale, trainset: str) -> None:
    """Write the data card of a training set: counts, units, licences, what was dropped and why."""
    from gdpo.metakl.card import card

    layout = Layout(scale)
    with recorded(layout.card(trainset), "card", [scale.trainset(trainset), scale.sources]):
        write_text(layout.card(trainset), card(layout, trainset))
    say(f"card {trainset}: {layout.card(trainset)}")


def export(scale: Scale, trainset: str) -> None:
    """Write a training set as a Hugging Face data set directory, with its groups where the teacher has answered."""
    from gdpo.metakl.export import export

    layout = Layout(scale)
    with recorded(layout.export(trainset), "export", scale.trainset(trainset)):
        summary = export(layout, trainset)
    say(f"export {trainset}: {summary} at {layout.export(trainset)}")
