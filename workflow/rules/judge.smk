# The safety judges' verdicts on answers known to be safe or to be no refusal; a made-up world has none.

if SCALE.sources:

    rule judge:
        output:
            LAYOUT.judged,
        log:
            f"{ROOT}/logs/judge.log",
        conda:
            ENVIRONMENT
        resources:
            **needs("judge", computes=lambda wildcards: SCALE.judge.backend != "rules"),
        params:
            settings=fingerprint([VERSION["judge"], SCALE.judge]),
        shell:
            "gdpo judge {SCALE_ARGS} {MIRROR_ARGS} --log {log}"
