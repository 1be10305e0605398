# Scores and samples: one job evaluates all seeds of a cell.
from functools import partial

SPLITS = ["test", "validation"]
[UNTRAINED] = origin("{student}")
# Scores by rules keep the hash of the versions without judges.
JUDGE = [] if SCALE.judge.backend == "rules" else [SCALE.judge]
# Where runs are measured besides their scores on test items, each needs its untrained student and what that one answered.
MEASURED = [SCALE.measures] if SCALE.measures else []


def is_measured(split):
    return bool(SCALE.measures) and split == "test"


def before(split):
    """What a run's measures compare it with."""
    found = [LAYOUT.model("{student}"), LAYOUT.samples(UNTRAINED, split)]
    return found if is_measured(split) else []


def score_settings(wildcards):
    """The settings that scores depend on, besides the model and the questions."""
    engine = SCALE.sampled_by(wildcards.student)
    return fingerprint(
        [
            VERSION["evaluate"],
            SCALE.benchmarks,
            SCALE.eval_batch_size,
            *JUDGE,
            *MEASURED,
            *engine,
        ]
    )


def items_of(split):
    return [LAYOUT.benchmark(name, split) for name in SCALE.benchmarks]


for split in SPLITS:

    rule:
        name:
            f"evaluate_origin_{split}"
        input:
            questions=items_of(split),
            model=LAYOUT.model("{student}"),
        output:
            score=str(LAYOUT.score(UNTRAINED, split)),
            samples=directory(LAYOUT.samples(UNTRAINED, split)),
            measures=(
                [str(LAYOUT.measures(UNTRAINED, split))] if is_measured(split) else []
            ),
        log:
            f"{ROOT}/logs/evaluate/{{student}}/origin-{split}.log",
        conda:
            sampling(lambda wildcards: wildcards.student)
        resources:
            **needs("evaluate", model=lambda wildcards: wildcards.student),
        params:
            settings=score_settings,
            split=split,
        shell:
            "gdpo evaluate {SCALE_ARGS} --student {wildcards.student} --trainset none --method origin"
            " --seeds 0 --split {params.split} --log {log}"


# By the end of the rule's name: the runs and the items that they are scored on; a trial's also on test items.
SCORED = {part: (part, variant.split) for part, variant in VARIANTS.items()}
if SCALE.trial:
    SCORED |= {f"{part}_test": (part, "test") for part in VARIANTS if "_sweep" in part}

for name, (part, split) in SCORED.items():
    variant = VARIANTS[part]

    rule:
        name:
            f"evaluate{name}"
        input:
            questions=items_of(split),
            groups=LAYOUT.groups("{trainset}"),
            models=cell_outputs(part, LAYOUT.run),
            before=before(split),
        output:
            scores=cell_outputs(part, partial(LAYOUT.score, split=split)),
            measures=(
                cell_outputs(part, partial(LAYOUT.measures, split=split))
                if is_measured(split)
                else []
            ),
            samples=[
                directory(path)
                for path in cell_outputs(part, partial(LAYOUT.samples, split=split))
            ],
        log:
            f"{ROOT}/logs/evaluate{name}/{{student}}/{{trainset}}/{{method}}.log",
        wildcard_constraints:
            method="|".join(variant.of or ["(?!)"]),
            trainset="|".join(SCALE.trainsets),
        conda:
            sampling(lambda wildcards: wildcards.student)
        resources:
            **needs("evaluate", model=lambda wildcards: wildcards.student),
        params:
            settings=score_settings,
            methods=method_names(part),
            seeds=variant.seeds,
            split=split,
        shell:
            "gdpo evaluate {SCALE_ARGS} --student {wildcards.student} --trainset {wildcards.trainset}"
            " --method {params.methods} --seeds {params.seeds} --split {params.split} --log {log}"


# How far the runs of the grid have moved from their student; a study over the grid needs it.
rule drift:
    input:
        questions=items_of("validation"),
        base=LAYOUT.model("{student}"),
        models=cell_outputs("_sweep", LAYOUT.run),
        samples=cell_outputs("_sweep", lambda run: LAYOUT.samples(run, "validation")),
    output:
        cell_outputs("_sweep", LAYOUT.drift),
    log:
        f"{ROOT}/logs/drift/{{student}}/{{trainset}}/{{method}}.log",
    wildcard_constraints:
        method="|".join(SCALE.methods),
        trainset="|".join(SCALE.trainsets),
    conda:
        ENVIRONMENT
    resources:
        **needs("drift"),
    params:
        settings=VERSION["drift"],
        methods=method_names("_sweep"),
        seeds=SCALE.sweep.seeds,
    shell:
        "gdpo drift {SCALE_ARGS} --student {wildcards.student} --trainset {wildcards.trainset}"
        " --method {params.methods} --seeds {params.seeds} --log {log}"
