# Pool -> units -> proficiency of the base models -> training sets (paper, MetaKL).


rule benchmark:
    output:
        expand(
            f"{ROOT}/benchmarks/{{split}}/{{name}}.jsonl",
            split=["test", "validation"],
            name=SCALE.benchmarks,
        ),
    log:
        f"{ROOT}/logs/benchmark.log",
    params:
        settings=fingerprint(
            [VERSION["benchmark"], SCALE.benchmarks, SCALE.world, SCALE.sources]
        ),
    shell:
        "gdpo benchmark {TOLD} {MIRROR} --log {log}"


rule pool:
    input:
        rules.benchmark.output,
    output:
        LAYOUT.pool,
    log:
        f"{ROOT}/logs/pool.log",
    params:
        settings=fingerprint([VERSION["pool"], SCALE.world, SCALE.sources]),
    shell:
        "gdpo metakl pool {TOLD} {MIRROR} --log {log}"


rule annotate:
    input:
        LAYOUT.pool,
    output:
        LAYOUT.annotated,
        LAYOUT.units,
    log:
        f"{ROOT}/logs/annotate.log",
    params:
        settings=VERSION["annotate"],
    shell:
        "gdpo metakl annotate {TOLD} --log {log}"


rule answer:
    input:
        questions=LAYOUT.annotated,
        model=LAYOUT.model("{model}"),
    output:
        LAYOUT.answers("{model}"),
    log:
        f"{ROOT}/logs/answer/{{model}}.log",
    resources:
        gpu=SCALE.gpus,
    params:
        settings=fingerprint([VERSION["answer"], SCALE.proficiency]),
    shell:
        "gdpo metakl answer {TOLD} --model {wildcards.model} --log {log}"


rule proficiency:
    input:
        LAYOUT.annotated,
        [LAYOUT.answers(model) for model in SCALE.proficiency.models],
    output:
        LAYOUT.proficiency,
        LAYOUT.unit_proficiency,
    log:
        f"{ROOT}/logs/proficiency.log",
    params:
        settings=VERSION["proficiency"],
    shell:
        "gdpo metakl proficiency {TOLD} --log {log}"


def selected_from(wildcards):
    trainset = SCALE.trainset(wildcards.trainset)
    if trainset.select in ("union", "part"):
        return [LAYOUT.trainset(part) for part in trainset.parts]
    measured = [LAYOUT.proficiency, LAYOUT.unit_proficiency]
    return [LAYOUT.annotated] + (measured if trainset.select == "metakl" else [])


rule select:
    input:
        selected_from,
    output:
        LAYOUT.trainset("{trainset}"),
    log:
        f"{ROOT}/logs/select/{{trainset}}.log",
    params:
        settings=lambda wildcards: fingerprint(
            [
                VERSION["select"],
                SCALE.trainset(wildcards.trainset),
                SCALE.selection,
                SCALE.retained,
            ]
        ),
    shell:
        "gdpo metakl select {TOLD} --trainset {wildcards.trainset} --log {log}"
