# Sources -> pool without benchmark items -> skills -> units -> proficiency -> training sets (paper, MetaKL).


def endpoint_settings(model):
    """Which model answers at an endpoint, or by which engine one that is an input: nothing for transformers."""
    endpoint = SCALE.model(model).endpoint
    return endpoint.identity if endpoint else SCALE.sampled_by(model)


rule benchmark:
    output:
        expand(
            f"{ROOT}/benchmarks/{{split}}/{{name}}.jsonl",
            split=["test", "validation"],
            name=SCALE.benchmarks,
        ),
        LAYOUT.heldout_items,
    log:
        f"{ROOT}/logs/benchmark.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("benchmark"),
    params:
        settings=fingerprint(
            [
                VERSION["benchmark"],
                SCALE.benchmarks,
                SCALE.world,
                SCALE.sources,
                SCALE.decontaminate.protect,
            ]
        ),
    shell:
        "gdpo benchmark {SCALE_ARGS} {MIRROR_ARGS} --log {log}"


rule sources:
    output:
        LAYOUT.pool,
    log:
        f"{ROOT}/logs/sources.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("sources"),
    params:
        settings=fingerprint([VERSION["sources"], SCALE.world, SCALE.sources]),
    shell:
        "gdpo metakl sources {SCALE_ARGS} {MIRROR_ARGS} --log {log}"


rule decontaminate:
    input:
        pool=LAYOUT.pool,
        guarded=LAYOUT.heldout_items,
    output:
        LAYOUT.decontaminated,
        LAYOUT.contaminated,
        LAYOUT.contamination,
        LAYOUT.spared,
        LAYOUT.frequencies,
    log:
        f"{ROOT}/logs/decontaminate.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("decontaminate"),
    params:
        settings=fingerprint([VERSION["decontaminate"], SCALE.decontaminate]),
    shell:
        "gdpo metakl decontaminate {SCALE_ARGS} --log {log}"


# A taxonomy of one's own is a file like any other; ours changes with VERSION["annotate"].
TAXONOMY = [SCALE.annotate.taxonomy.file] if SCALE.annotate.taxonomy.file else []


rule annotate:
    input:
        LAYOUT.decontaminated,
        TAXONOMY,
    output:
        LAYOUT.skills,
    log:
        f"{ROOT}/logs/annotate.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("annotate"),
    params:
        settings=fingerprint([VERSION["annotate"], SCALE.annotate, SCALE.encoder]),
    shell:
        "gdpo metakl annotate {SCALE_ARGS} --log {log}"


rule quality:
    input:
        LAYOUT.decontaminated,
        TAXONOMY,
    output:
        LAYOUT.quality,
    log:
        f"{ROOT}/logs/quality.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("quality"),
    params:
        settings=fingerprint([VERSION["quality"], SCALE.annotate, SCALE.encoder]),
    shell:
        "gdpo metakl quality {SCALE_ARGS} --log {log}"


rule merge:
    input:
        LAYOUT.decontaminated,
        LAYOUT.skills,
    output:
        LAYOUT.annotated,
        LAYOUT.units,
        LAYOUT.agreement,
    log:
        f"{ROOT}/logs/merge.log",
    conda:
        ENVIRONMENT
    resources:
        **needs("merge"),
    params:
        settings=fingerprint([VERSION["merge"], SCALE.merge, SCALE.encoder]),
    shell:
        "gdpo metakl merge {SCALE_ARGS} --log {log}"


rule answer:
    input:
        questions=LAYOUT.decontaminated,
        model=lambda wildcards: LAYOUT.checkpoint(wildcards.model),
    output:
        LAYOUT.answers("{model}"),
    log:
        f"{ROOT}/logs/answer/{{model}}.log",
    conda:
        sampling(lambda wildcards: wildcards.model)
    resources:
        **needs("answer", model=lambda wildcards: wildcards.model),
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["answer"], SCALE.proficiency, *endpoint_settings(wildcards.model)]
        ),
    shell:
        "gdpo metakl answer {SCALE_ARGS} --model {wildcards.model} --log {log}"


rule proficiency:
    input:
        LAYOUT.annotated,
        [LAYOUT.answers(model) for model in SCALE.proficiency.models],
    output:
        LAYOUT.proficiency,
        LAYOUT.unit_proficiency,
    log:
        f"{ROOT}/logs/proficiency.log",
    conda:
        ENVIRONMENT
    params:
        settings=VERSION["proficiency"],
    shell:
        "gdpo metakl proficiency {SCALE_ARGS} --log {log}"


def selected_from(wildcards):
    trainset = SCALE.trainset(wildcards.trainset)
    if trainset.parts or trainset.select == "pretraining":
        return [LAYOUT.trainset(part) for part in trainset.parts]
    measured = [LAYOUT.proficiency, LAYOUT.unit_proficiency]
    return [LAYOUT.annotated] + (measured if trainset.select == "metakl" else [])


def drawn_from(trainset):
    """The world, for a set of pretraining examples, which are made from it and from no file."""
    return [SCALE.world] if SCALE.trainset(trainset).select == "pretraining" else []


rule select:
    input:
        selected_from,
    output:
        LAYOUT.trainset("{trainset}"),
    log:
        f"{ROOT}/logs/select/{{trainset}}.log",
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: fingerprint(
            [
                VERSION["select"],
                SCALE.trainset(wildcards.trainset),
                SCALE.selection,
                SCALE.mastered_threshold,
                *drawn_from(wildcards.trainset),
            ]
        ),
    shell:
        "gdpo metakl select {SCALE_ARGS} --trainset {wildcards.trainset} --log {log}"


# What a training set's card reads beside the set itself.
DESCRIBED = [LAYOUT.pool, LAYOUT.contamination, LAYOUT.annotated, LAYOUT.units]
DESCRIBED += [LAYOUT.agreement, LAYOUT.proficiency, LAYOUT.unit_proficiency]


def stated(trainset):
    """The settings that a training set's card states."""
    settings = [SCALE.decontaminate, SCALE.annotate, SCALE.encoder, SCALE.merge]
    settings += [SCALE.proficiency, SCALE.selection, SCALE.trainset(trainset)]
    return settings + [SCALE.sources, SCALE.names]


rule card:
    input:
        DESCRIBED,
        LAYOUT.trainset("metakl"),
    output:
        LAYOUT.card("metakl"),
    log:
        f"{ROOT}/logs/card.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([VERSION["card"], stated("metakl")]),
    shell:
        "gdpo metakl card {SCALE_ARGS} --log {log}"


rule export:
    input:
        DESCRIBED,
        LAYOUT.trainset("{trainset}"),
        LAYOUT.groups("{trainset}"),
    output:
        directory(LAYOUT.export("{trainset}")),
    log:
        f"{ROOT}/logs/export/{{trainset}}.log",
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["export"], stated(wildcards.trainset)]
        ),
    shell:
        "gdpo metakl export {SCALE_ARGS} --trainset {wildcards.trainset} --log {log}"
