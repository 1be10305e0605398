# Pool -> units -> proficiency of the base models -> training sets (paper, MetaKL).


rule benchmark:
    output:
        expand(
            f"{ROOT}/benchmarks/{{split}}/{{name}}.jsonl",
            split=["test", "validation"],
            name=SCALE.benchmarks,
        ),
    params:
        settings=fingerprint(
            [VERSION["benchmark"], SCALE.benchmarks, SCALE.world, SCALE.sources]
        ),
    log:
        f"{ROOT}/logs/benchmark.log",
    shell:
        "gdpo benchmark {TOLD} {MIRROR} --log {log}"


rule pool:
    input:
        rules.benchmark.output,
    output:
        LAYOUT.pool,
    params:
        settings=fingerprint([VERSION["pool"], SCALE.world, SCALE.sources]),
    log:
        f"{ROOT}/logs/pool.log",
    shell:
        "gdpo metakl pool {TOLD} {MIRROR} --log {log}"


rule annotate:
    input:
        LAYOUT.pool,
    output:
        LAYOUT.annotated,
        LAYOUT.units,
    params:
        settings=VERSION["annotate"],
    log:
        f"{ROOT}/logs/annotate.log",
    shell:
        "gdpo metakl annotate {TOLD} --log {log}"


rule answer:
    input:
        questions=LAYOUT.annotated,
        model=LAYOUT.model("{model}"),
    output:
        LAYOUT.answers("{model}"),
    params:
        settings=fingerprint([VERSION["answer"], SCALE.proficiency]),
    resources:
        gpu=SCALE.gpus,
    log:
        f"{ROOT}/logs/answer/{{model}}.log",
    shell:
        "gdpo metakl answer {TOLD} --model {wildcards.model} --log {log}"


rule proficiency:
    input:
        LAYOUT.annotated,
        [LAYOUT.answers(model) for model in SCALE.proficiency.models],
    output:
        LAYOUT.proficiency,
        LAYOUT.unit_proficiency,
    params:
        settings=VERSION["proficiency"],
    log:
        f"{ROOT}/logs/proficiency.log",
    shell:
        "gdpo metakl proficiency {TOLD} --log {log}"


def selected_from(wildcards):
    trainset = SCALE.trainset(wildcards.trainset)
    if trainset.select == "union":
        return [LAYOUT.trainset(part) for part in trainset.parts]
    measured = [LAYOUT.proficiency, LAYOUT.unit_proficiency]
    return [LAYOUT.annotated] + (measured if trainset.select == "metakl" else [])


rule select:
    input:
        selected_from,
    output:
        LAYOUT.trainset("{trainset}"),
    params:
        settings=lambda wildcards: fingerprint(
            [
                VERSION["select"],
                SCALE.trainset(wildcards.trainset),
                SCALE.selection,
                SCALE.retained,
            ]
        ),
    log:
        f"{ROOT}/logs/select/{{trainset}}.log",
    shell:
        "gdpo metakl select {TOLD} --trainset {wildcards.trainset} --log {log}"
