"""A training set's data card: what it holds, how it was made, under which licences, what was dropped and why.

This module counts; `data/card.md.jinja` has the words. Counts come from the files of the steps, settings from the
scale. Equal inputs give the same text byte for byte, so there is no time in it. Headings follow Hugging Face's
dataset card where it has the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from gdpo.config.data import Source
from gdpo.config.layout import Layout
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, sha256
from gdpo.core.markdown import cell, escape, join_names, percent, shorten
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Domain, Question
from gdpo.core.result_files import Provenance, read_stored
from gdpo.metakl import card_history
from gdpo.metakl.card_data import CardData, gather
from gdpo.metakl.decontaminate import ALL
from gdpo.metakl.published_sources import PUBLISHED
from gdpo.metakl.select import stable_hash

MAX_UNITS = 5  # paper, appendix figure 3: the last bin is 5 or more
UNITS_SHOWN = 15
MIN_MEASURED = 10  # questions from which on a unit's proficiency is shown among the extremes
EXAMPLES = 10
EXAMPLE_LENGTH = 240  # characters
HASH_LENGTH = 16
OWN_LICENCE = "Apache-2.0"  # of a made-up world, as of this project

Rows = list[list[Any]]  # of a table, values not escaped yet


def card(layout: Layout, trainset: str) -> str:
    """The card of training set `trainset`, Markdown. Proficiency is left out where none was measured.

    Raises UserError for imported groups, whose questions have neither source nor units.
    """
    if layout.scale.trainset(trainset).select == "import":
        expected = "a set that was selected from the pool"
        raise UserError(key=f"trainsets.{trainset}", found="imported groups", expected=expected)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": cell, "cells": lambda values: " | ".join(cell(value) for value in values)}
    template = (files("gdpo.metakl") / "data" / "card.md.jinja").read_text(encoding="utf-8")
    return environment.from_string(template).render(template_values(gather(layout, trainset)))


def template_values(data: CardData) -> dict[str, Any]:
    """The variables of the template."""
    counts = Counter(question.domain for question in data.chosen)
    totals = licence_totals(data)
    known = {name: data.scale.sources[name] for name in data.domain_of if name in data.scale.sources}
    return {
        "display": data.trainset.display,
        "scale": data.scale.scale,
        "chosen": len(data.chosen),
        "by_domain": join_names([f"{cell(counts[domain])} {domain}" for domain in data.domains if counts[domain]]),
        "harmful": counts["safety"] and data.scale.sources,
        "steps": card_history.sentences(data.scale, data.name, read_csv(data.layout.agreement)),
        "domains": data.domains,
        "reading_recorded": bool(data.read),
        "sources": source_rows(data),
        "near": data.scale.decontaminate.ngram,
        "dropped": dropped(data),
        "contamination": contamination_rows(data),
        "units_per_question": units_per_question(data),
        "pool_units": len(data.units),
        "single_units": sum(unit["count"] == 1 for unit in data.units.values()),
        "chosen_units": len({unit for question in data.chosen for unit in question.units}),
        "frequent_units": frequent_units(data),
        "min_measured": min_measured(data),
        "mastered_units": mastered_units(data),
        "measured": len({row["id"] for row in data.proficiency}),
        "model_accuracy": model_accuracy(data),
        "measured_shares": measured_shares(data),
        "licences": licence_rows(data, totals),
        "terms": terms(totals),
        "has_origins": bool(data.scale.sources),
        "origins": origin_rows(data, known),
        "absent": absent(known),
        "examples": example_rows(data),
        "files": file_rows(data),
    }


def licence(scale: Scale, source: str) -> str:
    """The licence of a source's questions; a made-up world's is this project's."""
    if scale.world:
        return OWN_LICENCE
    return scale.sources[source].licence if source in scale.sources else "not stated"


def source_rows(data: CardData) -> Rows:
    """Questions by source from reading to selection (paper, table A4), and their sums."""
    annotated, chosen = (Counter(q.source for q in questions) for questions in (data.annotated, data.chosen))

    def counts(source: str) -> list[int]:
        read = [data.read[source][key] for key in ("rows", "unusable", "duplicates")] if data.read else []
        return [*read, data.pool[source], data.benchmark_items(source), annotated[source], chosen[source]]

    labels = [*((domain, source) for source, domain in data.domain_of.items()), (ALL, "total")]
    rows = [counts(source) for source in data.domain_of]
    rows.append([sum(column) for column in zip(*rows, strict=True)])
    return [[*label, *row, percent(row[-1], len(data.chosen))] for label, row in zip(labels, rows, strict=True)]


def dropped(data: CardData) -> dict[str, list[int]]:
    """How many questions were left out for each reason: of each domain, and of all."""

    def by_domain(count: Callable[[str], int]) -> list[int]:
        counts = [sum(count(s) for s, d in data.domain_of.items() if d == domain) for domain in data.domains]
        return [*counts, sum(counts)]

    reasons = {
        "exact": by_domain(lambda source: data.benchmark_items(source, "exact")),
        "near": by_domain(lambda source: data.benchmark_items(source, "near")),
    }
    if data.read:
        reasons["unusable"] = by_domain(lambda source: data.read[source]["unusable"])
        reasons["duplicates"] = by_domain(lambda source: data.read[source]["duplicates"])
    return reasons


def contamination_rows(data: CardData) -> Rows:
    """How much of each benchmark the pool held."""
    rows = [row for row in data.contamination if row["source"] == ALL and row["benchmark"] != ALL]
    keys = ("items", "caught", "exact", "near", "dropped", "spared")
    return [[row["benchmark"], *(int(row[key]) for key in keys)] for row in rows]


def units_per_question(data: CardData) -> Rows:
    """How many questions have 1, 2, ... units (paper, appendix figure 3)."""
    rows = []
    for title, questions in data.question_sets.items():
        for domain in [*data.domains, ALL]:
            sizes = [len(set(question.units)) for question in of_domain(questions, domain)]
            bins = Counter(min(size, MAX_UNITS) for size in sizes)
            mean = f"{sum(sizes) / len(sizes):.2f}" if sizes else None
            rows.append([title, domain, len(sizes), *(bins[n] for n in range(1, MAX_UNITS + 1)), mean])
    return rows


def of_domain(questions: list[Question], domain: Domain | str) -> list[Question]:
    """Those of one domain, or every question for ALL."""
    return [question for question in questions if domain in (ALL, question.domain)]


def frequent_units(data: CardData) -> Rows:
    """The units that most questions of the pool have, with the skills merged into each."""
    chosen = Counter(unit for question in data.chosen for unit in set(question.units))
    names = sorted(data.units, key=lambda unit: (-data.units[unit]["count"], unit))[:UNITS_SHOWN]
    merged = {name: [member for member in data.units[name]["members"] if member != name] for name in names}
    return [[name, shorten(", ".join(merged[name]), 80), data.units[name]["count"], chosen[name]] for name in names]


def min_measured(data: CardData) -> int:
    """Of how many measured questions a unit must be to be shown by its proficiency."""
    return min(MIN_MEASURED, max((int(row["count"]) for row in data.unit_proficiency), default=0))


def mastered_units(data: CardData) -> dict[str, Rows]:
    """The units that the base models master `least` and `best`; empty where none was measured."""
    eligible = [row for row in data.unit_proficiency if int(row["count"]) >= min_measured(data)]

    def first(sign: int) -> Rows:
        rows = sorted(eligible, key=lambda row: (sign * float(row["average"]), row["unit"]))[:UNITS_SHOWN]
        return [
            [row["unit"], int(row["count"]), f"{float(row['average']):.3f}", f"{float(row['strict']):.3f}"]
            for row in rows
        ]

    return {"least": first(1), "best": first(-1)} if eligible else {}


def model_accuracy(data: CardData) -> Rows:
    """The share of the measured questions that each base model has right."""
    rows = []
    for name in data.scale.proficiency.models:
        right = sum(float(row[name]) for row in data.proficiency)
        rows.append([data.scale.model(name).display, percent(right, len(data.proficiency))])
    return rows


def measured_shares(data: CardData) -> Rows:
    """How many questions of the pool and of the set were measured."""
    ids = {row["id"] for row in data.proficiency}
    rows = []
    for title, questions in data.question_sets.items():
        for domain in [*data.domains, ALL]:
            measured = [question.id in ids for question in of_domain(questions, domain)]
            count, total = sum(measured), len(measured)
            rows.append([title, domain, total, count, total - count, percent(count, total)])
    return rows


def licence_totals(data: CardData) -> dict[str, int]:
    """How many selected questions are under each licence, in the order of the sources."""
    totals: dict[str, int] = {}
    chosen = Counter(question.source for question in data.chosen)
    for source in data.domain_of:
        if chosen[source]:
            name = licence(data.scale, source)
            totals[name] = totals.get(name, 0) + chosen[source]
    return totals


def licence_rows(data: CardData, totals: Mapping[str, int]) -> Rows:
    """The licences, the largest first, with their sources."""
    chosen = {question.source for question in data.chosen}
    sources = {
        name: [source for source in data.domain_of if source in chosen and licence(data.scale, source) == name]
        for name in totals
    }
    order = sorted(totals, key=lambda name: (-totals[name], name))
    return [[name, ", ".join(sources[name]), totals[name], percent(totals[name], len(data.chosen))] for name in order]


def terms(totals: Mapping[str, int]) -> str:
    """What a set of so many questions under each licence may be used for, as a whole."""
    strict = [name for name in sorted(totals) if noncommercial(name)]
    alike = [name for name in sorted(totals) if re.search(r"(?i)\bSA\b", name)]
    sentences = ["A set of several licences carries the strictest terms of its parts."] if len(totals) > 1 else []
    if strict:
        count = sum(totals[name] for name in strict)
        sentences.append(
            f"{cell(count)} of {cell(sum(totals.values()))} questions are licensed for non-commercial use alone "
            f"({escape(', '.join(strict))}), and so is the set as a whole; the rest is not."
        )
    else:
        sentences.append("No question is licensed for non-commercial use alone.")
    if alike:
        sentences.append(f"What is made of the set must be shared under the same terms ({escape(', '.join(alike))}).")
    return " ".join(sentences)


def noncommercial(name: str) -> bool:
    return re.search(r"(?i)\bNC\b|non-?commercial", name) is not None


def origin_rows(data: CardData, known: Mapping[str, Source]) -> Rows:
    """The origin of each source, and which of the paper's sources it replaces."""
    rows = []
    for name, source in known.items():
        gated = "yes" if source.hub and source.hub.gated else "no"
        read = data.read.get(name, {}).get("revision")
        rows.append([name, source.hub and source.hub.path, read, gated, source.stands_in_for])
    return rows


def absent(known: Mapping[str, Source]) -> str:
    """The paper's sources that neither are among `known` nor have a stand-in there."""
    here = set(known) | {source.stands_in_for for source in known.values()}
    missing = [f"{source.title} ({cell(source.selected)})" for name, source in PUBLISHED.items() if name not in here]
    if not missing:
        return "Every source of the paper's table A4 is here or has a stand-in."
    return f"Neither here nor stood in for, of the paper's table A4 with its count of questions: {join_names(missing)}."


def example_rows(data: CardData) -> Rows:
    """Ten questions of the set, domains in turn, each domain in a fixed order that looks random.

    What safety questions ask is not printed: they are harmful requests.
    """
    order = sorted(data.chosen, key=lambda question: stable_hash(question.id))
    turns = [of_domain(order, domain) for domain in data.domains]
    shown = [part[i] for i in range(EXAMPLES) for part in turns if i < len(part)][:EXAMPLES]
    rows = []
    for question in shown:
        safety = question.domain == "safety"
        text = "(not printed)" if safety else shorten(data.question_text(question), EXAMPLE_LENGTH)
        rows.append([question.id, text, ", ".join(question.units)])
    return rows


def file_rows(data: CardData) -> Rows:
    """The files behind the card with the hash of their settings and of their content."""
    layout, trainset = data.layout, data.layout.trainset(data.name)
    # The file -> the file of the same step that has the provenance.
    recorded = {
        layout.pool: layout.pool, layout.decontaminated: layout.decontaminated, layout.skills: layout.skills,
        layout.annotated: layout.annotated, layout.units: layout.annotated, layout.proficiency: layout.proficiency,
        layout.unit_proficiency: layout.proficiency, trainset: trainset,
    }  # fmt: skip
    rows = []
    for path, main in recorded.items():
        if path.exists():
            origin = provenance_path(main)
            settings = read_stored(origin, Provenance)["config_hash"] if origin.exists() else None
            rows.append([path.relative_to(layout.root).as_posix(), settings, sha256(path)[:HASH_LENGTH]])
    return rows
