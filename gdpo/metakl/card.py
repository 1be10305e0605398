"""A training set's data card: what it holds, how it was made, under which licences, what was dropped and why.

Counts come from the files of the steps, settings from the scale; equal inputs give the same text byte for byte, so
there is no time in it. Headings follow Hugging Face's dataset card where it has the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from gdpo.config.data import Source
from gdpo.config.layout import Layout
from gdpo.config.models import TrainSet
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.files import read_csv, read_json, sha256
from gdpo.core.markdown import cell, escape, join_names, percent, shorten, table
from gdpo.core.provenance import provenance_path
from gdpo.core.records import Domain, Question, read_records
from gdpo.core.result_files import Provenance, read_stored
from gdpo.metakl import making
from gdpo.metakl.decontaminate import ALL
from gdpo.metakl.published_sources import PUBLISHED
from gdpo.metakl.select import stable_hash

MOST_UNITS = 5  # paper, appendix figure 3: the last bin is 5 or more
UNITS_SHOWN = 15
LEAST_MEASURED = 10  # questions from which on a unit's proficiency is shown among the extremes
EXAMPLES = 10
EXAMPLE_LENGTH = 240  # characters
HASH_LENGTH = 16
OWN_LICENCE = "Apache-2.0"  # of a made-up world, as of this project


@dataclass(frozen=True)
class CardData:
    """What the card is about. Counters are by source; `read` is what the first step recorded of each source."""

    layout: Layout
    name: str
    domain_of: dict[str, Domain]  # of each source of the pool, in the scale's order
    read: dict[str, dict]  # empty where nothing was recorded
    pool: Counter[str]
    annotated: list[Question]
    chosen: list[Question]
    contamination: list[dict[str, str]]
    units: dict[str, dict]
    unit_proficiency: list[dict[str, str]]
    proficiency: list[dict[str, str]]

    @property
    def scale(self) -> Scale:
        return self.layout.scale

    @property
    def trainset(self) -> TrainSet:
        return self.scale.trainset(self.name)

    @property
    def domains(self) -> list[Domain]:
        found = set(self.domain_of.values())
        return [domain for domain in get_args(Domain) if domain in found]

    def asked(self, question: Question) -> str:
        """A question without the instruction that its source has below each."""
        source = self.scale.sources.get(question.source)
        return question.question.removesuffix(source.instruction if source else "")

    def benchmark_items(self, source: str, how: str = "dropped") -> int:
        """How many of a source's questions a benchmark asks: `exact`, `ngram`, or both, `dropped`."""
        rows = (row for row in self.contamination if (row["source"], row["benchmark"]) == (source, ALL))
        return sum(int(row[how]) for row in rows)


def card(layout: Layout, trainset: str) -> str:
    """The card of training set `trainset`, Markdown. Proficiency is left out where none was measured.

    Raises UserError for imported groups, whose questions have neither source nor units.
    """
    if layout.scale.trainset(trainset).select == "import":
        raise UserError(f"trainsets.{trainset}: found imported groups, expected a set that was selected from the pool")
    facts = gather(layout, trainset)
    sections: list[Callable[[CardData], str]] = [
        what, how, sources, dropped, units_per_question, knowledge_units, proficiency, licences, stand_ins, examples,
        files,
    ]  # fmt: skip
    return "\n\n".join(text for section in sections if (text := section(facts))) + "\n"


def gather(layout: Layout, trainset: str) -> CardData:
    """Everything that the card tells, from the files of `layout`. Raises UserError naming a file that is missing."""
    pool = read_records(layout.pool, Question)
    found = {question.source: question.domain for question in pool}
    named = {name: source.domain for name, source in layout.scale.sources.items() if source.pool}
    domain_of = {s: d for domain in get_args(Domain) for s, d in {**named, **found}.items() if d == domain}
    origin = provenance_path(layout.pool)
    read = (read_stored(origin, Provenance).get("sources") if origin.exists() else None) or {}
    return CardData(
        layout=layout,
        name=trainset,
        domain_of=domain_of,
        read=read if read.keys() >= domain_of.keys() else {},  # a pool of one's own was not read here
        pool=Counter(question.source for question in pool),
        annotated=read_records(layout.annotated, Question),
        chosen=read_records(layout.trainset(trainset), Question),
        contamination=_table(layout.contamination, ["source", "benchmark"], ["exact", "ngram", "dropped"]),
        units=_units(layout.units),
        unit_proficiency=_if_there(layout.unit_proficiency, ["unit"], ["count", "average"]),
        proficiency=_if_there(layout.proficiency, ["id"], layout.scale.proficiency.models),
    )


def _if_there(path: Path, names: list[str], numbers: list[str]) -> list[dict[str, str]]:
    return _table(path, names, numbers) if path.exists() else []


def _table(path: Path, names: list[str], numbers: list[str]) -> list[dict[str, str]]:
    """The rows of a CSV file. Raises UserError where it lacks a column, or a number is none."""
    rows = read_csv(path, *names, *numbers)
    for number, row in enumerate(rows, start=1):
        for column in numbers:
            if not re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", row[column]):
                raise UserError(f"{path}, row {number}, {column}: found '{row[column]}', expected a number")
    return rows


def _units(path: Path) -> dict[str, dict]:
    """units.json as `gdpo metakl merge` writes it. Raises UserError naming the unit that is none."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path}: expected a mapping of units, found {type(found).__name__}")
    for name, unit in found.items():
        kinds = [type(unit.get(key)) for key in ("count", "members")] if isinstance(unit, dict) else []
        if kinds != [int, list]:
            raise UserError(f"{path}, {name}: expected 'count', a whole number, and 'members', a list; found others")
    return found


def licence(scale: Scale, source: str) -> str:
    """The licence of a source's questions; a made-up world's is this project's."""
    if scale.world:
        return OWN_LICENCE
    return scale.sources[source].licence if source in scale.sources else "not stated"


def what(facts: CardData) -> str:
    counts = Counter(question.domain for question in facts.chosen)
    parts = join_names([f"{cell(counts[domain])} {domain}" for domain in facts.domains if counts[domain]])
    units = {unit for question in facts.chosen for unit in question.units}
    harmful = "\n\nSafety questions are harmful requests of public sets, kept for learning to refuse them."
    return (
        f"# {facts.trainset.display}, scale {facts.scale.scale}\n\n"
        f"{cell(len(facts.chosen))} questions ({parts}), each with an answer that can be checked and with the "
        f"knowledge units that it needs, {cell(len(units))} units in all. It was made as MetaGDPO "
        "([arXiv 2511.12113](https://arxiv.org/abs/2511.12113)) describes its training set MetaKL; it is not the "
        f"authors' set, which is not public.{harmful if counts['safety'] and facts.scale.sources else ''}"
    )


def how(facts: CardData) -> str:
    steps = making.steps(facts.scale, facts.name, read_csv(facts.layout.agreement))
    return "\n".join(["## How it was made", "", *(f"{i}. {step}" for i, step in enumerate(steps, start=1))])


def sources(facts: CardData) -> str:
    """Questions by source from reading to selection (paper, table A4)."""
    kept, chosen = (Counter(q.source for q in questions) for questions in (facts.annotated, facts.chosen))

    read = {"rows": "rows read", "unusable": "unusable", "duplicates": "repeated"} if facts.read else {}

    def counts(source: str) -> list[int]:
        told = [facts.read[source][key] for key in read]
        return [*told, facts.pool[source], facts.benchmark_items(source), kept[source], chosen[source]]

    labels = [*((domain, source) for source, domain in facts.domain_of.items()), (ALL, "total")]
    rows = [counts(source) for source in facts.domain_of]
    rows.append([sum(column) for column in zip(*rows, strict=True)])
    heads = [*read.values(), "pool", "benchmark items", "annotated", "selected", "share of the set"]
    lines = ([*label, *row, percent(row[-1], len(facts.chosen))] for label, row in zip(labels, rows, strict=True))
    return "## Questions by source\n\n" + table(["domain", "source", *heads], lines, labels=2)


def dropped(facts: CardData) -> str:
    """What was left out, by reason and domain, and how much of each benchmark the pool held."""

    def by_domain(count: Callable[[str], int]) -> list[int]:
        found = [sum(count(s) for s, d in facts.domain_of.items() if d == domain) for domain in facts.domains]
        return [*found, sum(found)]

    reasons: list[tuple[str, Callable[[str], int]]] = [
        ("has no question or no answer that can be checked", lambda s: facts.read[s]["unusable"]),
        ("repeats a question of the pool", lambda s: facts.read[s]["duplicates"]),
    ] * bool(facts.read)
    reasons.append(("is a benchmark's item", lambda s: facts.benchmark_items(s, "exact")))
    if ngram := facts.scale.decontaminate.ngram:
        reasons.append((f"shares {ngram} words in a row with one", lambda s: facts.benchmark_items(s, "ngram")))
    lines = [[reason, *by_domain(count)] for reason, count in reasons]
    of_all = [row for row in facts.contamination if row["source"] == ALL and row["benchmark"] != ALL]
    asked = [
        [r["benchmark"], *(int(r[key]) for key in ("items", "caught", "exact", "ngram", "dropped"))] for r in of_all
    ]
    return "\n\n".join(
        [
            "## What was dropped and why",
            table(["a row that", *facts.domains, "all"], lines),
            "By benchmark; a question that asks items of several is counted under each:",
            table(["benchmark", "items", "found in the pool", "word for word", "by n-gram", "dropped"], asked),
        ]
    )


def units_per_question(facts: CardData) -> str:
    """Paper, appendix figure 3."""
    lines = []
    for title, questions in (("pool", facts.annotated), ("selected", facts.chosen)):
        for domain in [*facts.domains, ALL]:
            sizes = [len(set(q.units)) for q in questions if domain in (ALL, q.domain)]
            bins = Counter(min(size, MOST_UNITS) for size in sizes)
            mean = f"{sum(sizes) / len(sizes):.2f}" if sizes else None
            lines.append([title, domain, len(sizes), *(bins[n] for n in range(1, MOST_UNITS + 1)), mean])
    titles = [*map(str, range(1, MOST_UNITS)), f"{MOST_UNITS} or more"]
    heads = ["questions", "domain", "all", *titles, "mean"]
    return "## Units per question\n\n" + table(heads, lines, labels=2)


def knowledge_units(facts: CardData) -> str:
    """The most frequent units, and those that the base models master least and best."""
    chosen = Counter(unit for question in facts.chosen for unit in set(question.units))
    frequent = sorted(facts.units, key=lambda unit: (-facts.units[unit]["count"], unit))[:UNITS_SHOWN]
    merged = {unit: [member for member in facts.units[unit]["members"] if member != unit] for unit in frequent}
    lines = [[u, shorten(", ".join(merged[u]), 80), facts.units[u]["count"], chosen[u]] for u in frequent]
    once = sum(entry["count"] == 1 for entry in facts.units.values())
    parts = [
        "## Knowledge units",
        f"{cell(len(facts.units))} units in the pool, {cell(once)} of them in one question alone; "
        f"{cell(len(chosen))} in the set. The most frequent:",
        table(["unit", "skills merged into it", "in the pool", "selected"], lines, labels=2),
    ]
    most = max((int(row["count"]) for row in facts.unit_proficiency), default=0)
    least = min(LEAST_MEASURED, most)
    known = [row for row in facts.unit_proficiency if int(row["count"]) >= least]
    for title, sign in (("least", 1), ("best", -1)):
        if known:
            extreme = sorted(known, key=lambda row: (sign * float(row["average"]), row["unit"]))[:UNITS_SHOWN]
            lines = [
                [r["unit"], int(r["count"]), f"{float(r['average']):.3f}", f"{float(r['strict']):.3f}"] for r in extreme
            ]
            parts.append(f"Mastered {title} by the base models, of units with {least} measured questions or more:")
            parts.append(table(["unit", "measured", "average proficiency", "strict"], lines))
    return "\n\n".join(parts)


def proficiency(facts: CardData) -> str:
    """How many questions the base models were asked and how many of the set are among them."""
    if not facts.proficiency:
        return ""
    models = []
    for name in facts.scale.proficiency.models:
        right = sum(float(row[name]) for row in facts.proficiency)
        models.append([facts.scale.model(name).display, percent(right, len(facts.proficiency))])
    measured = {row["id"] for row in facts.proficiency}
    lines = []
    for title, questions in (("pool", facts.annotated), ("selected", facts.chosen)):
        for domain in [*facts.domains, ALL]:
            asked = [question.id in measured for question in questions if domain in (ALL, question.domain)]
            lines.append(
                [title, domain, len(asked), sum(asked), len(asked) - sum(asked), percent(sum(asked), len(asked))]
            )
    return "\n\n".join(
        [
            "## Proficiency",
            f"Of {cell(len(measured))} questions asked:",
            table(["model", "right"], models),
            "A question that was not asked has an estimate from its units, or none:",
            table(["questions", "domain", "all", "measured", "not measured", "share measured"], lines, labels=2),
        ]
    )


def licences(facts: CardData) -> str:
    """The sources' licences, with the selected questions under each, and what they mean for the set as a whole."""
    chosen = Counter(question.source for question in facts.chosen)
    under: dict[str, list[str]] = {}
    for source in facts.domain_of:
        if chosen[source]:
            under.setdefault(licence(facts.scale, source), []).append(source)
    totals = {name: sum(chosen[source] for source in named) for name, named in under.items()}
    order = sorted(under, key=lambda name: (-totals[name], name))
    lines = [[x, ", ".join(under[x]), totals[x], percent(totals[x], len(facts.chosen))] for x in order]
    return "\n\n".join(
        [
            "## Licences",
            table(["licence", "sources", "selected", "share"], lines, labels=2),
            terms(totals),
            "Responses carry, beside these, the terms of the model that wrote them.",
        ]
    )


def terms(totals: Mapping[str, int]) -> str:
    """What a set of so many questions under each licence may be used for, as a whole."""
    strict = [name for name in sorted(totals) if noncommercial(name)]
    alike = [name for name in sorted(totals) if re.search(r"(?i)\bSA\b", name)]
    said = "A set of several licences carries the strictest terms of its parts." * (len(totals) > 1)
    if strict:
        count = sum(totals[name] for name in strict)
        said += (
            f" {cell(count)} of {cell(sum(totals.values()))} questions are licensed for non-commercial use alone "
            f"({escape(', '.join(strict))}), and so is the set as a whole; the rest is not."
        )
    else:
        said += " No question is licensed for non-commercial use alone."
    if alike:
        said += f" What is made of the set must be shared under the same terms ({escape(', '.join(alike))})."
    return said.strip()


def noncommercial(name: str) -> bool:
    return re.search(r"(?i)\bNC\b|non-?commercial", name) is not None


def stand_ins(facts: CardData) -> str:
    """Where each source comes from, and which of the paper's sources another stands in for or is absent."""
    if not facts.scale.sources:
        return ""
    known = {name: facts.scale.sources[name] for name in facts.domain_of if name in facts.scale.sources}
    lines = []
    for name, source in known.items():
        gated = "yes" if source.hub and source.hub.gated else "no"
        read = facts.read.get(name, {}).get("revision")
        lines.append([name, source.hub and source.hub.path, read, gated, source.stands_in_for])
    return "\n\n".join(
        [
            "## Where the sources come from",
            table(["source", "on the Hub", "what was read", "gated there", "stands in for"], lines, labels=5),
            absent(known),
        ]
    )


def absent(known: Mapping[str, Source]) -> str:
    """The paper's sources that neither are among `known` nor have a stand-in there."""
    here = set(known) | {source.stands_in_for for source in known.values()}
    missing = [f"{source.title} ({cell(source.selected)})" for name, source in PUBLISHED.items() if name not in here]
    if not missing:
        return "Every source of the paper's table A4 is here or has a stand-in."
    return f"Neither here nor stood in for, of the paper's table A4 with its count of questions: {join_names(missing)}."


def examples(facts: CardData) -> str:
    """Ten questions of the set, domains in turn, each domain in a fixed order that looks random.

    What safety questions ask is not printed: they are harmful requests.
    """
    order = sorted(facts.chosen, key=lambda question: stable_hash(question.id))
    turns = [[q for q in order if q.domain == domain] for domain in facts.domains]
    shown = [part[i] for i in range(EXAMPLES) for part in turns if i < len(part)][:EXAMPLES]
    lines = []
    for question in shown:
        text = shorten(facts.asked(question), EXAMPLE_LENGTH) if question.domain != "safety" else "(not printed)"
        lines.append([question.id, text, ", ".join(question.units)])
    return "## Ten questions\n\n" + table(["id", "question", "units"], lines, labels=3)


def files(facts: CardData) -> str:
    """The files behind the card with the hash of their settings and of their content."""
    layout, trainset = facts.layout, facts.layout.trainset(facts.name)
    # By the file beside which its step's provenance lies.
    recorded = {
        layout.pool: layout.pool, layout.decontaminated: layout.decontaminated, layout.skills: layout.skills,
        layout.annotated: layout.annotated, layout.units: layout.annotated, layout.proficiency: layout.proficiency,
        layout.unit_proficiency: layout.proficiency, trainset: trainset,
    }  # fmt: skip
    paths = [path for path in recorded if path.exists()]
    lines = [[p.relative_to(layout.root).as_posix(), _settings(recorded[p]), _content(p)] for p in paths]
    return "## Files\n\n" + table(["file", "settings", "SHA-256"], lines, labels=3)


def _settings(path: Path) -> str | None:
    origin = provenance_path(path)
    return read_stored(origin, Provenance)["config_hash"] if origin.exists() else None


def _content(path: Path) -> str:
    return sha256(path)[:HASH_LENGTH]
