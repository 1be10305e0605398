# Tables read samples and scores; they train nothing.


def table_files(stem):
    return [
        f"{stem}{kind}.{end}" for kind in ("", "_retention") for end in ("csv", "md")
    ]


def scored(table):
    runs = LAYOUT.selected_runs(SCALE.tables[table])
    return [
        path
        for run in runs
        for path in (LAYOUT.score(run, "test"), LAYOUT.samples(run, "test"))
    ]


def table_settings(table):
    shown = [SCALE.tables[table], SCALE.bootstrap_draws, SCALE.bootstrap_seed]
    named = [
        SCALE.trainsets,
        SCALE.benchmarks,
        [model.display for model in SCALE.models.values()],
    ]
    return fingerprint([VERSION["table"], shown, named])


rule table:
    input:
        lambda wildcards: scored(wildcards.table),
    output:
        table_files(f"{ROOT}/tables/{{table}}"),
    log:
        f"{ROOT}/logs/table/{{table}}.log",
    wildcard_constraints:
        table="|".join(SCALE.tables),
    params:
        settings=lambda wildcards: table_settings(wildcards.table),
    shell:
        "gdpo table {TOLD} --name {wildcards.table} --log {log}"


# results/TABLE.csv is the active scale's: a change of scale or limit makes it again, from finished parts.
rule publish:
    input:
        table_files(f"{ROOT}/tables/{{table}}"),
    output:
        report(table_files("results/{table}"), category="Tables"),
    log:
        f"{ROOT}/logs/publish/{{table}}.log",
    wildcard_constraints:
        table="|".join(SCALE.tables),
    params:
        scale=SCALE.name,
    shell:
        "gdpo publish {TOLD} --name {wildcards.table} --log {log}"


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
