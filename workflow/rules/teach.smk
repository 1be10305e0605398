# The teacher's completions of a training set, graded and rewarded.


rule respond:
    input:
        questions=LAYOUT.trainset("{trainset}"),
        teacher=LAYOUT.model(SCALE.respond.teacher),
    output:
        LAYOUT.responses("{trainset}"),
    params:
        settings=fingerprint([VERSION["respond"], SCALE.respond]),
    resources:
        gpu=SCALE.gpus,
    log:
        f"{ROOT}/logs/respond/{{trainset}}.log",
    shell:
        "gdpo teach respond {TOLD} --trainset {wildcards.trainset} --log {log}"


rule reward:
    input:
        questions=LAYOUT.trainset("{trainset}"),
        responses=LAYOUT.responses("{trainset}"),
        tokenizer=LAYOUT.model(SCALE.students[0]),
    output:
        LAYOUT.groups("{trainset}"),
    params:
        settings=fingerprint([VERSION["reward"], SCALE.reward]),
    log:
        f"{ROOT}/logs/reward/{{trainset}}.log",
    shell:
        "gdpo teach reward {TOLD} --trainset {wildcards.trainset} --log {log}"
