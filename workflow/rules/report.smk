# Tables, figures and claims read finished results; they train nothing.
from pathlib import Path

from gdpo.report import claims, explorer, figures, numbers, paper, published
from gdpo.report import reproduced, tables, trained_runs

KINDS = {
    kind: [name for name, table in SCALE.tables.items() if table.kind == kind]
    for kind in dict.fromkeys(table.kind for table in SCALE.tables.values())
}
FIGURES = figures.names(SCALE)
ENDS = ["pdf", "png", "csv"]


def table_settings(wildcards):
    shown = [SCALE.tables[wildcards.table], SCALE.bootstrap_draws, SCALE.bootstrap_seed]
    return fingerprint([VERSION["table"], shown, SCALE.benchmarks, SCALE.names])


def table_files(kind, stem):
    return [
        str(path) for path in tables.files(SCALE.tables[KINDS[kind][0]], Path(stem))
    ]


def shown(kind):
    """A table's files as `snakemake --report` lists them."""
    found = []
    for path in map(Path, table_files(kind, "results/{table}")):
        part = path.stem.removeprefix("{table}").removeprefix("_") or kind
        labels = {"table": "{table}", "part": part, "format": path.suffix[1:]}
        flags = {"category": "Tables", "subcategory": "{table}", "labels": labels}
        found.append(report(str(path), caption="../report/table.rst", **flags))
    return found


def fragments(kind, table):
    """The LaTeX that a paper inputs."""
    found = table_files(kind, f"paper/tables/{table}")
    return [path for path in found if path.endswith(".tex")]


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
        conda:
            ENVIRONMENT
        params:
            settings=table_settings,
        shell:
            "gdpo table {SCALE_ARGS} --name {wildcards.table} --log {log}"

    # results/TABLE.csv is the active scale's: a change of scale or limit makes it again, from finished parts.
    rule:
        name:
            f"publish_{kind}"
        input:
            table_files(kind, f"{ROOT}/tables/{{table}}"),
        output:
            shown(kind),
            fragments(kind, "{table}"),
        log:
            f"{ROOT}/logs/publish/{{table}}.log",
        wildcard_constraints:
            table="|".join(KINDS[kind]),
        conda:
            ENVIRONMENT
        params:
            scale=SCALE.name,
        shell:
            "gdpo publish {SCALE_ARGS} --name {wildcards.table} --log {log}"


rule figure:
    input:
        lambda wildcards: figures.inputs(LAYOUT, wildcards.figure),
    output:
        expand(f"{ROOT}/figures/{{{{figure}}}}.{{end}}", end=ENDS),
    log:
        f"{ROOT}/logs/figure/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        ENVIRONMENT
    params:
        settings=lambda wildcards: fingerprint(
            [VERSION["figure"], *figures.drawn(SCALE, wildcards.figure)]
        ),
    shell:
        "gdpo figure {SCALE_ARGS} --name {wildcards.figure} --log {log}"


rule publish_figure:
    input:
        expand(f"{ROOT}/figures/{{{{figure}}}}.{{end}}", end=["pdf", "png"]),
    output:
        pdf="paper/figures/{figure}.pdf",
        png=report(
            "paper/figures/{figure}.png",
            category="Figures",
            caption="../report/figure.rst",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{ROOT}/logs/publish/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        ENVIRONMENT
    params:
        scale=SCALE.name,
    shell:
        "gdpo publish {SCALE_ARGS} --name {wildcards.figure} --log {log}"


rule claims:
    input:
        claims.inputs(LAYOUT),
    output:
        expand(f"{ROOT}/claims.{{end}}", end=["csv", "md"]),
    log:
        f"{ROOT}/logs/claims.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([VERSION["claims"], claims.settings(SCALE)]),
    shell:
        "gdpo claims {SCALE_ARGS} --log {log}"


rule publish_claims:
    input:
        rules.claims.output,
    output:
        report(
            expand("results/claims.{end}", end=["csv", "md"]),
            category="Claims",
            caption="../report/claims.rst",
        ),
    log:
        f"{ROOT}/logs/publish/claims.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE.name,
    shell:
        "gdpo publish {SCALE_ARGS} --name claims --log {log}"


def reported():
    """What the report shows, made before what it cost is added up."""
    made = [
        path
        for kind, names in KINDS.items()
        for name in names
        for path in table_files(kind, f"{ROOT}/tables/{name}")
    ]
    return (
        made
        + expand(f"{ROOT}/figures/{{figure}}.png", figure=FIGURES)
        + rules.claims.output
    )


rule cost:
    input:
        reported(),
        [LAYOUT.score(run, "test") for run in LAYOUT.teacher_runs()],
    output:
        f"{ROOT}/cost.csv",
    log:
        f"{ROOT}/logs/cost.log",
    conda:
        ENVIRONMENT
    params:
        settings=VERSION["cost"],
    shell:
        "gdpo cost {SCALE_ARGS} --log {log}"


rule runs:
    input:
        trained_runs.inputs(LAYOUT),
    output:
        LAYOUT.runs,
    log:
        f"{ROOT}/logs/runs.log",
    conda:
        ENVIRONMENT
    params:
        settings=VERSION["runs"],
    shell:
        "gdpo runs {SCALE_ARGS} --log {log}"


# A page over the results, which opens from disk.
rule explore:
    input:
        explorer.inputs(LAYOUT),
    output:
        directory(LAYOUT.explorer),
    log:
        f"{ROOT}/logs/explore.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([VERSION["explore"], *explorer.settings(SCALE)]),
    shell:
        "gdpo explore {SCALE_ARGS} --log {log}"


# The paper's numbers and ours, cell by cell, with what it took to make ours.
rule reproduced:
    input:
        reproduced.inputs(LAYOUT),
    output:
        expand(f"{ROOT}/reproduced.{{end}}", end=["csv", "md"]),
    log:
        f"{ROOT}/logs/reproduced.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([VERSION["reproduced"], *reproduced.settings(SCALE)]),
    shell:
        "gdpo reproduced {SCALE_ARGS} --log {log}"


rule numbers:
    input:
        numbers.inputs(LAYOUT),
    output:
        f"{ROOT}/numbers.json",
    log:
        f"{ROOT}/logs/numbers.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint([VERSION["numbers"], numbers.settings(SCALE)]),
    shell:
        "gdpo numbers {SCALE_ARGS} --log {log}"


rule paper:
    input:
        paper.inputs(LAYOUT),
        expand("paper/figures/{figure}.pdf", figure=FIGURES),
    output:
        report("paper/report.pdf", category="Report", caption="../report/paper.rst"),
    log:
        f"{ROOT}/logs/paper.log",
    conda:
        ENVIRONMENT
    params:
        scale=SCALE.name,
    shell:
        "gdpo paper {SCALE_ARGS} --log {log}"


# The published numbers beside ours, where models, rows and benchmarks are the same.
rule published:
    input:
        published.inputs(LAYOUT),
    output:
        expand(f"{ROOT}/published.{{end}}", end=["csv", "md"]),
    log:
        f"{ROOT}/logs/published.log",
    conda:
        ENVIRONMENT
    params:
        settings=VERSION["published"],
    shell:
        "gdpo published {SCALE_ARGS} --log {log}"


rule audit:
    output:
        expand("results/audit.{end}", end=["csv", "md"]),
    log:
        f"{ROOT}/logs/audit.log",
    conda:
        ENVIRONMENT
    params:
        settings=VERSION["audit"],
    shell:
        "gdpo audit {SCALE_ARGS} --log {log}"


rule power:
    output:
        expand("results/power.{end}", end=["csv", "md"]),
    log:
        f"{ROOT}/logs/power.log",
    conda:
        ENVIRONMENT
    params:
        settings=VERSION["power"],
    shell:
        "gdpo power {SCALE_ARGS} --log {log}"


# The learning-rate sweep of the scale; its outcome is data kept under workflow/config/sweep/.
rule sweep:
    input:
        [LAYOUT.score(run, "validation") for run in LAYOUT.sweep_runs()],
    output:
        touch(f"{ROOT}/sweep.done"),
    log:
        f"{ROOT}/logs/sweep.log",
    conda:
        ENVIRONMENT
    params:
        settings=fingerprint(SCALE.sweep),
    shell:
        "gdpo sweep {SCALE_ARGS} --log {log}"
