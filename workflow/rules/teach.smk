# The teacher's completions of a training set, graded and rewarded; or groups from a user's own file.

import os

IMPORTED = [name for name, entry in SCALE.trainsets.items() if entry.select == "import"]
PARTS = [name for name, entry in SCALE.trainsets.items() if entry.derived]
ANSWERED = [name for name in SCALE.trainsets if name not in IMPORTED + PARTS]


def teacher(wildcards):
    return SCALE.respond_of(wildcards.trainset).teacher


rule respond:
    input:
        questions=LAYOUT.trainset("{trainset}"),
        teacher=lambda wildcards: LAYOUT.checkpoint(teacher(wildcards)),
    output:
        LAYOUT.responses("{trainset}"),
    log:
        f"{ROOT}/logs/respond/{{trainset}}.log",
    wildcard_constraints:
        trainset="|".join(ANSWERED),
    conda:
        sampling(teacher)
    resources:
        **needs("respond", model=teacher),
    params:
        settings=lambda wildcards: fingerprint(
            [
                VERSION["respond"],
                SCALE.respond_of(wildcards.trainset),
                *endpoint_settings(teacher(wildcards)),
            ]
        ),
    shell:
        "gdpo teach respond {SCALE_ARGS} --trainset {wildcards.trainset} --log {log}"


rule reward:
    input:
        questions=LAYOUT.trainset("{trainset}"),
        responses=LAYOUT.responses("{trainset}"),
        tokenizer=LAYOUT.model(SCALE.students[0]),
    output:
        LAYOUT.groups("{trainset}"),
    log:
        f"{ROOT}/logs/reward/{{trainset}}.log",
    wildcard_constraints:
        trainset="|".join(ANSWERED),
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([VERSION["reward"], SCALE.reward]),
    shell:
        "gdpo teach reward {SCALE_ARGS} --trainset {wildcards.trainset} --log {log}"


if IMPORTED:

    rule import_groups:
        input:
            lambda wildcards: list(
                filter(os.path.exists, SCALE.trainset(wildcards.trainset).paths)
            ),
            # A file of a mirror has the mirror's age.
            tokenizer=LAYOUT.model(SCALE.students[0]),
            benchmarks=rules.benchmark.output,
            guarded=LAYOUT.heldout_items,
        output:
            LAYOUT.groups("{trainset}"),
        log:
            f"{ROOT}/logs/import/{{trainset}}.log",
        wildcard_constraints:
            trainset="|".join(IMPORTED),
        conda:
            ENVIRONMENT
        params:
            settings=lambda wildcards: fingerprint(
                [
                    VERSION["import"],
                    SCALE.trainset(wildcards.trainset),
                    SCALE.reward,
                    SCALE.decontaminate,
                ]
            ),
        shell:
            "gdpo teach import {SCALE_ARGS} {MIRROR_ARGS} --trainset {wildcards.trainset} --log {log}"


def rewarded_in(wildcards):
    """The student whose tokens a part's own reward counts lengths in; most parts keep the rewards they have."""
    own = SCALE.trainset(wildcards.trainset).reward
    return [LAYOUT.model(SCALE.students[0])] if own else []


def part_settings(wildcards):
    """What a derived set depends on beside its parts; a plain part keeps the hash that it always had."""
    entry = SCALE.trainset(wildcards.trainset)
    if entry.select == "part" and not entry.reward:
        return VERSION["part"]
    return fingerprint([VERSION["part"], entry, SCALE.world])


if PARTS:

    rule part:
        input:
            questions=LAYOUT.trainset("{trainset}"),
            groups=lambda wildcards: [
                LAYOUT.groups(part)
                for part in SCALE.trainset(wildcards.trainset).parts
            ],
            tokenizer=rewarded_in,
        output:
            LAYOUT.groups("{trainset}"),
        log:
            f"{ROOT}/logs/part/{{trainset}}.log",
        wildcard_constraints:
            trainset="|".join(PARTS),
        conda:
            ENVIRONMENT
        params:
            settings=part_settings,
        shell:
            "gdpo teach part {SCALE_ARGS} --trainset {wildcards.trainset} --log {log}"
