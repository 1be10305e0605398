# Targets and includes, nothing else. `snakemake --cores all results/table2.csv --config scale=smol limit=16`
import shlex
import sys
import time

from gdpo.display import estimate, snakemake_compat, wording
from gdpo.config.loader import load_scale
from gdpo.core.hashing import fingerprint
from gdpo.core.errors import UserError, suggest
from gdpo.config.layout import VERSION, Layout, Run, origin
from gdpo.report import claims, figures

try:
    for key, value in config.items():
        if key not in ("scale", "limit", "world", "mirror"):
            known = suggest(key, ["scale", "limit", "world", "mirror"])
            raise UserError(key="--config", found=f"'{key}'", hint=known)
        if value is None or value == "":
            raise UserError(key=f"--config {key}=", found="nothing", expected="a value")
    SCALE = load_scale(
        config.get("scale", "tiny"), config.get("limit"), config.get("world")
    )
    figures.settings.load()
    claims.load(SCALE)
except UserError as error:
    sys.exit(f"gdpo: {error}")

wording.use(SCALE)
LAYOUT = Layout(SCALE)
ROOT = LAYOUT.root.as_posix()
CHECKOUT = snakemake_compat.directory(workflow)
# Arguments of every call of gdpo; text, not params, so that a mirror's path never makes a result stale.
SCALE_ARGS = " ".join(
    f"--{key} {shlex.quote(str(config[key]))}"
    for key in ("scale", "limit", "world")
    if key in config
)
MIRROR_ARGS = (
    f"--mirror {shlex.quote(str(config['mirror']))}" if "mirror" in config else ""
)
STARTED = time.time()
snakemake_compat.show_in_commands(
    workflow, SCALE_ARGS=SCALE_ARGS, MIRROR_ARGS=MIRROR_ARGS
)


report: "workflow/report/workflow.rst"


wildcard_constraints:
    model="[^/]+",
    student="[^/]+",
    trainset="[^/]+",
    method="[^/]+",
    split="test|validation",


include: "workflow/rules/jobs.smk"
include: "workflow/rules/metakl.smk"
include: "workflow/rules/teach.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/report.smk"


if SCALE.trial:

    include: "workflow/rules/trial.smk"


# What each name makes; `snakemake --cores all results/tableA7.csv` makes one table alone.
rule all:
    default_target: True
    input:
        rules.paper.output,
        rules.card.output,
        expand("results/{table}.csv", table=SCALE.tables),
        rules.publish_claims.output,
        rules.published.output,
        rules.audit.output,
        rules.power.output,
        # ours: of real data the explorer is made by `make explore` alone, until it has been tried on a finished run.
        [] if SCALE.sources else rules.explore.output,
        [rules.runs.output, rules.reproduced.output, rules.judge.output]
        if SCALE.sources
        else [],


rule metakl:
    input:
        LAYOUT.trainset("metakl"),
        rules.card.output,
        LAYOUT.quality if SCALE.annotate.backend == "taxonomy" else [],


rule tables:
    input:
        expand("results/{table}.csv", table=SCALE.tables),


rule figures:
    input:
        expand("paper/figures/{figure}.{end}", figure=FIGURES, end=["pdf", "png"]),
        [
            path
            for kind, names in KINDS.items()
            for name in names
            for path in fragments(kind, name)
        ],


include: "workflow/rules/targets.smk"


onstart:
    refuse_beside_orphans()
    record_awaited()
    estimate.plan(planned_jobs())
    print_runs()
    start_preloaded()


onsuccess:
    shell("gdpo summary {SCALE_ARGS} --since {STARTED}")


onerror:
    repeat_job_errors(log)
