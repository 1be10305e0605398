# Tables, figures and claims read finished results; they train nothing.
from pathlib import Path

from gdpo.report import claims, figures, numbers, tables

KINDS = {
    kind: [name for name, table in SCALE.tables.items() if table.kind == kind]
    for kind in dict.fromkeys(table.kind for table in SCALE.tables.values())
}
FIGURES = figures.names(SCALE)
ENDS = ["pdf", "png", "csv"]


def table_settings(wildcards):
    shown = [SCALE.tables[wildcards.table], SCALE.bootstrap_draws, SCALE.bootstrap_seed]
    named = [SCALE.trainsets, SCALE.benchmarks, [m.display for m in SCALE.models.values()]]
    return fingerprint([VERSION["table"], shown, named])


def table_files(kind, stem):
    return [str(path) for path in tables.files(SCALE.tables[KINDS[kind][0]], Path(stem))]


for kind in KINDS:

    rule:
        name:
            f"table_{kind}"
        input:
            lambda wildcards: tables.inputs(LAYOUT, wildcards.table),
        output:
            table_files(kind, f"{ROOT}/tables/{{table}}"),
        log:
            f"{ROOT}/logs/table/{{table}}.log",
        wildcard_constraints:
            table="|".join(KINDS[kind]),
        params:
            settings=table_settings,
        shell:
            "gdpo table {TOLD} --name {wildcards.table} --log {log}"

    # results/TABLE.csv is the active scale's: a change of scale or limit makes it again, from finished parts.
    rule:
        name:
            f"publish_{kind}"
        input:
            table_files(kind, f"{ROOT}/tables/{{table}}"),
        output:
            report(
                table_files(kind, "results/{table}"),
                category="Tables",
                caption="../report/table.rst",
                labels={"table": "{table}"},
            ),
        log:
            f"{ROOT}/logs/publish/{{table}}.log",
        wildcard_constraints:
            table="|".join(KINDS[kind]),
        params:
            scale=SCALE.name,
        shell:
            "gdpo publish {TOLD} --name {wildcards.table} --log {log}"


rule figure:
    input:
        lambda wildcards: figures.inputs(LAYOUT, wildcards.figure),
    output:
        expand(f"{ROOT}/figures/{{{{figure}}}}.{{end}}", end=ENDS),
    log:
        f"{ROOT}/logs/figure/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["figure"], *figures.drawn(SCALE, wildcards.figure)]
        ),
    shell:
        "gdpo figure {TOLD} --name {wildcards.figure} --log {log}"


rule claims:
    input:
        claims.inputs(LAYOUT),
    output:
        expand(f"{ROOT}/claims.{{end}}", end=["csv", "md"]),
    log:
        f"{ROOT}/logs/claims.log",
    params:
        settings=fingerprint([VERSION["claims"], claims.settings(SCALE)]),
    shell:
        "gdpo claims {TOLD} --log {log}"


# The learning-rate sweep of the scale; its outcome is data kept under workflow/config/sweep/.
rule sweep:
    input:
        [LAYOUT.score(run, "validation") for run in LAYOUT.sweep_runs()],
    output:
        touch(f"{ROOT}/sweep.done"),
    log:
        f"{ROOT}/logs/sweep.log",
    params:
        settings=fingerprint(SCALE.sweep),
    shell:
        "gdpo sweep {TOLD} --log {log}"
