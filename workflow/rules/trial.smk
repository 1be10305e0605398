# A world of the trial: all its runs, packed into three small files.
from gdpo.report.trial import gather


rule world:
    input:
        gather.inputs(LAYOUT),
    output:
        directory(LAYOUT.packed_world),
    log:
        f"{ROOT}/logs/world.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint(
            [VERSION["world"], SCALE.trial, SCALE.sweep, SCALE.benchmarks]
        ),
    shell:
        "gdpo world {SCALE_ARGS} --log {log}"
