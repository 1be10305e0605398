# Base models, and the matrix of runs: one job trains all seeds of a cell, so that imports are paid once.


rule model:
    output:
        directory(LAYOUT.model("{model}")),
    log:
        f"{ROOT}/logs/model/{{model}}.log",
    # The teacher takes longest and everything waits for it.
    priority: lambda wildcards: int(wildcards.model == SCALE.respond.teacher)
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["model"], SCALE.model_settings(wildcards.model)]
        ),
    shell:
        "gdpo model {TOLD} --name {wildcards.model} --log {log}"


def run_settings(wildcards):
    method = SCALE.method(wildcards.method, wildcards.student, wildcards.trainset)
    return fingerprint([VERSION["train"], method])


def cell_outputs(path, seeds):
    return [str(path(Run("{student}", "{trainset}", "{method}", s))) for s in seeds]


# A method with a rate of its own (NAME~RATE) belongs to the sweep and has the sweep's seeds.
for part, seeds, method in [
    ("", SCALE.seeds, "[^/~]+"),
    ("_sweep", SCALE.sweep.seeds, "[^/~]+~[^/~]+"),
]:

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
        output:
            [directory(path) for path in cell_outputs(LAYOUT.run, seeds)],
        log:
            f"{ROOT}/logs/train/{{student}}/{{trainset}}/{{method}}.log",
        wildcard_constraints:
            method=method,
        resources:
            gpu=SCALE.gpus,
        params:
            settings=run_settings,
            seeds=seeds,
        shell:
            "gdpo train {TOLD} --student {wildcards.student} --trainset {wildcards.trainset}"
            " --method {wildcards.method} --seeds {params.seeds} --log {log}"
