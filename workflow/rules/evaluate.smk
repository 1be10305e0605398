# Scores and samples: one job evaluates all seeds of a cell.

SPLITS = ["test", "validation"]
BENCHMARKS = fingerprint([VERSION["evaluate"], SCALE.benchmarks, SCALE.eval_batch_size])


def asked(split):
    return [LAYOUT.benchmark(name, split) for name in SCALE.benchmarks]


for split in SPLITS:

    rule:
        name:
            f"evaluate_origin_{split}"
        input:
            questions=asked(split),
            model=LAYOUT.model("{student}"),
        output:
            score=str(LAYOUT.score(Run("{student}", "none", "origin", 0), split)),
            samples=directory(
                LAYOUT.samples(Run("{student}", "none", "origin", 0), split)
            ),
        log:
            f"{ROOT}/logs/evaluate/{{student}}/origin-{split}.log",
        resources:
            gpu=SCALE.gpus,
        params:
            settings=BENCHMARKS,
            split=split,
        shell:
            "gdpo evaluate {TOLD} --student {wildcards.student} --trainset none --method origin"
            " --seeds 0 --split {params.split} --log {log}"


for part, seeds, split, method in [
    ("", SCALE.seeds, "test", "[^/~]+"),
    ("_sweep", SCALE.sweep.seeds, "validation", "[^/~]+~[^/~]+"),
]:

    rule:
        name:
            f"evaluate{part}"
        input:
            questions=asked(split),
            groups=LAYOUT.groups("{trainset}"),
            models=cell_outputs(LAYOUT.run, seeds),
        output:
            scores=cell_outputs(lambda run: LAYOUT.score(run, split), seeds),
            samples=[
                directory(path)
                for path in cell_outputs(lambda run: LAYOUT.samples(run, split), seeds)
            ],
        log:
            f"{ROOT}/logs/evaluate/{{student}}/{{trainset}}/{{method}}.log",
        wildcard_constraints:
            method=method,
            trainset="|".join(SCALE.trainsets),
        resources:
            gpu=SCALE.gpus,
        params:
            settings=BENCHMARKS,
            seeds=seeds,
            split=split,
        shell:
            "gdpo evaluate {TOLD} --student {wildcards.student} --trainset {wildcards.trainset}"
            " --method {wildcards.method} --seeds {params.seeds} --split {params.split} --log {log}"
