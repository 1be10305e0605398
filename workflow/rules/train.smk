# Base models, and the matrix of runs: one job trains all seeds of a cell, so that imports are paid once.
from collections.abc import Callable
from typing import NamedTuple

SHIPPED = [
    name for name, model in SCALE.models.items() if model.pretrain and model.shipped
]


def tuned_from(wildcards):
    """What an expert is tuned from; nothing for a model that is pretrained or fetched."""
    tuned = SCALE.model(wildcards.model).tuned
    return [LAYOUT.model(tuned.base), LAYOUT.decontaminated] if tuned else []


rule model:
    input:
        tuned_from,
    output:
        directory(LAYOUT.model("{model}")),
    log:
        f"{ROOT}/logs/model/{{model}}.log",
    # The teacher takes longest and everything waits for it.
    priority: lambda wildcards: int(wildcards.model == SCALE.respond.teacher)
    conda:
        ENVIRONMENT
    resources:
        **needs("model", computes=lambda w: SCALE.model(w.model).tuned is not None),
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["model"], SCALE.model_settings(wildcards.model)]
        ),
    shell:
        "gdpo model {SCALE_ARGS} --name {wildcards.model} --log {log}"


# A shipped base model made anew, to be compared with it; no result needs one.
rule pretrain:
    output:
        directory(LAYOUT.pretrained("{model}")),
    log:
        f"{ROOT}/logs/pretrain/{{model}}.log",
    wildcard_constraints:
        model="|".join(SHIPPED or ["(?!)"]),
    priority: lambda wildcards: int(wildcards.model == SCALE.respond.teacher)
    conda:
        ENVIRONMENT
    resources:
        **needs("model", computes=lambda wildcards: False),
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["model"], SCALE.pretrain_settings(wildcards.model)]
        ),
    shell:
        "gdpo pretrain {SCALE_ARGS} --name {wildcards.model} --log {log}"


rule bases:
    input:
        [LAYOUT.pretrained(name) for name in SHIPPED],
    output:
        LAYOUT.bases,
    log:
        f"{ROOT}/logs/bases.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([SCALE.model_settings(name) for name in SHIPPED]),
    shell:
        "gdpo bases {SCALE_ARGS} --log {log}"


class Variant(NamedTuple):
    """What the jobs of a rule make: `methods` gives a job's methods, by the method that its wildcards name.

    `of`: the methods that the rule is for; absent, all.
    """

    methods: Callable[[str], list[str]]
    seeds: list[int]
    split: str
    of: list[str] = list(SCALE.methods)


def at_rates(rates):
    return lambda method: [f"{method}~{rate:g}" for rate in rates]


# By the end of the rule's name: a method at its seeds for the tables, or at each rate of the grid for the sweep.
VARIANTS = {"": Variant(lambda method: [method], SCALE.seeds, "test")}
GRIDS = {}  # rates -> the methods that have this grid, those of the scale's own first
for method in [None, *SCALE.methods]:
    GRIDS.setdefault(tuple(SCALE.sweep.rates(method)), []).append(method)
for number, (rates, methods) in enumerate(GRIDS.items()):
    VARIANTS[f"_sweep{number or ''}"] = Variant(
        at_rates(rates), SCALE.sweep.seeds, "validation", [m for m in methods if m]
    )
if SCALE.sweep.extended_rates:
    VARIANTS["_extended"] = Variant(
        LAYOUT.extended_methods, SCALE.sweep.seeds, "validation"
    )


def cell_outputs(part, path):
    variant = VARIANTS[part]
    return [
        str(path(Run("{student}", "{trainset}", method, seed)))
        for method in variant.methods("{method}")
        for seed in variant.seeds
    ]


def run_settings(part):
    def settings(wildcards):
        methods = [
            SCALE.method(method, wildcards.student, wildcards.trainset)
            for method in VARIANTS[part].methods(wildcards.method)
        ]
        watch = [SCALE.watch] if watched_items(part)(wildcards) else []
        return fingerprint([VERSION["train"], methods, *watch])

    return settings


def watched_items(part):
    """The validation items that a run of a comparison is watched on; none for the others."""

    def items(wildcards):
        run = Run(
            wildcards.student,
            wildcards.trainset,
            wildcards.method,
            VARIANTS[part].seeds[0],
        )
        if part or not LAYOUT.is_watched(run):
            return []
        return [LAYOUT.benchmark(name, "validation") for name in SCALE.benchmarks]

    return items


def method_names(part):
    return lambda wildcards: " ".join(VARIANTS[part].methods(wildcards.method))


for part, variant in VARIANTS.items():

    rule:
        name:
            f"train{part}"
        input:
            groups=LAYOUT.groups("{trainset}"),
            questions=lambda wildcards: (
                []
                if wildcards.trainset in IMPORTED
                else LAYOUT.trainset(wildcards.trainset)
            ),
            base=LAYOUT.model("{student}"),
            watched=watched_items(part),
        output:
            [directory(path) for path in cell_outputs(part, LAYOUT.run)],
        log:
            f"{ROOT}/logs/train{part}/{{student}}/{{trainset}}/{{method}}.log",
        wildcard_constraints:
            method="|".join(variant.of or ["(?!)"]),
            trainset="|".join(SCALE.trainsets),
        # Rollouts take longest: they must not be what a run ends with.
        priority: lambda wildcards: int(SCALE.methods[wildcards.method].trainer == "grpo")
        conda:
            ENVIRONMENT
        resources:
            **needs("train"),
        params:
            settings=run_settings(part),
            methods=method_names(part),
            seeds=variant.seeds,
        shell:
            "gdpo train {SCALE_ARGS} --student {wildcards.student} --trainset {wildcards.trainset}"
            " --method {params.methods} --seeds {params.seeds} --log {log}"


# How much a method's gradient differs between mini-batches, for the comparison's methods.
rule noise:
    input:
        groups=LAYOUT.groups("{trainset}"),
        questions=lambda wildcards: (
            []
            if wildcards.trainset in IMPORTED
            else LAYOUT.trainset(wildcards.trainset)
        ),
        base=LAYOUT.model("{student}"),
    output:
        LAYOUT.noise("{student}", "{trainset}", "{method}"),
    log:
        f"{ROOT}/logs/noise/{{student}}/{{trainset}}/{{method}}.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("noise"),
    params:
        settings=lambda wildcards: fingerprint(
            [
                VERSION["noise"],
                SCALE.watch,
                SCALE.method(
                    wildcards.method, wildcards.student, wildcards.trainset
                ).model_dump(exclude={"learning_rate"}),
            ]
        ),
        seed=SCALE.seeds[0],
    shell:
        "gdpo noise {SCALE_ARGS} --student {wildcards.student} --trainset {wildcards.trainset}"
        " --method {wildcards.method} --seeds {params.seed} --log {log}"
