"""The workflow's jobs in plain words, by the names that the scale's tables use: "evaluating Tiny-S, MetaKL, SFT"."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gdpo.config.scale import Scale

RUN = "{student}, {trainset}, {method}"
# What a job of each rule does; a rule that is not here, such as one of a later version, is shown by its own name.
WORDS = {
    "model": "making model {model}",
    "pretrain": "pretraining model {model} anew",
    "bases": "comparing base models with the shipped ones",
    "benchmark": "writing the benchmarks' items",
    "sources": "gathering the question pool",
    "decontaminate": "dropping what a benchmark asks",
    "annotate": "naming the skills of each question",
    "quality": "measuring the taxonomy of skills",
    "merge": "merging skills into knowledge units",
    "answer": "answering the pool with {model}",
    "proficiency": "joining answers into proficiencies",
    "select": "selecting training set {trainset}",
    "card": "writing the data card of MetaKL",
    "export": "exporting training set {trainset}",
    "respond": "sampling the teacher's responses to {trainset}",
    "reward": "rewarding the responses to {trainset}",
    "import_groups": "importing the groups of {trainset}",
    "part": "taking the groups of {trainset}",
    "train": f"training {RUN}",
    "train_sweep": f"training {RUN}, at each learning rate",
    "train_extended": f"training {RUN}, at further learning rates",
    "noise": f"measuring gradient noise of {RUN}",
    "evaluate_origin_test": "evaluating {student}, untrained",
    "evaluate_origin_validation": "evaluating {student}, untrained, on validation items",
    "evaluate": f"evaluating {RUN}",
    "evaluate_sweep": f"evaluating {RUN}, at each learning rate",
    "evaluate_sweep_test": f"evaluating {RUN}, at each learning rate, on test items",
    "evaluate_extended": f"evaluating {RUN}, at further learning rates",
    "drift": f"measuring the drift of {RUN}",
    "judge": "measuring the safety judges",
    "figure": "drawing figure {figure}",
    "publish_figure": "publishing figure {figure}",
    "claims": "testing the paper's claims",
    "publish_claims": "publishing the claims",
    "cost": "adding up what everything took",
    "runs": "listing what every run took",
    "reproduced": "putting the paper's numbers beside ours",
    "numbers": "gathering the report's numbers",
    "paper": "compiling the report",
    "published": "putting published numbers beside ours",
    "audit": "auditing the published averages",
    "power": "computing what the published comparisons could have shown",
    "sweep": "choosing learning rates",
    "world": "gathering the world's runs",
}
FAMILIES = {"table_": "making {table}", "publish_": "publishing {table}"}  # rules of which each kind of table has one
NUMBER_OF_GRID = re.compile(r"_sweep\d+")  # methods with a grid of their own have rules of their own
# Wildcard -> the scale's names of what it may be; the Snakefile fills it in, in the process that displays.
NAMES: dict[str, dict[str, str]] = {}


def use(scale: Scale) -> None:
    """Call models, training sets and methods as the tables of `scale` do, from here on."""
    models = {key: entry.display for key, entry in scale.models.items()}
    trainsets = {key: entry.display for key, entry in scale.trainsets.items()}
    methods = {key: entry.display for key, entry in scale.methods.items()}
    NAMES.update(student=models, model=models, trainset=trainsets, method=methods)


def words(rule: str, wildcards: Mapping[str, str]) -> str:
    """What a job does; `wildcards` are its rule's."""
    rule = NUMBER_OF_GRID.sub("_sweep", rule)
    family = next((text for start, text in FAMILIES.items() if rule.startswith(start)), None)
    named = {key: NAMES.get(key, {}).get(value, value) for key, value in wildcards.items()}
    if text := WORDS.get(rule, family):
        return text.format_map(defaultdict(lambda: "?", named))
    return " ".join([re.sub("_+", " ", rule), *named.values()])


def duration(seconds: float) -> str:
    """A time as one says it: "8 s", "1 min 20 s", "2 h 5 min"."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def about(seconds: float) -> str:
    """A time that is estimated, no finer than it is known: tens of seconds, then minutes, then tens of minutes."""
    if seconds < 55:
        return f"{max(10, 10 * round(seconds / 10))} s"
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))} min"
    tens = round(seconds / 600)
    return f"{tens // 6} h {10 * (tens % 6)} min" if tens % 6 else f"{tens // 6} h"
