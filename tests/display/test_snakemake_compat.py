"""Snakemake still has what gdpo.display.snakemake_compat uses of it."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest
import snakemake

USES = {  # module, attribute -> its parameters, or None of what is no function
    ("snakemake.cli", "get_argument_parser"): ["profiles"],
    ("snakemake.workflow", "Workflow.dag"): None,
    ("snakemake.workflow", "Workflow.rules"): None,
    ("snakemake.workflow", "Workflow.current_basedir"): None,
    ("snakemake.workflow", "Workflow.modifier"): None,
    ("snakemake.workflow", "Workflow.persistence"): None,
    ("snakemake.workflow", "Workflow.local_exec"): None,
    ("snakemake.workflow", "Workflow.async_run"): ["self", "coro"],
    ("snakemake.dag", "DAG.jobs"): None,
    ("snakemake.dag", "DAG.needrun_jobs"): ["self", "exclude_finished"],
    ("snakemake.dag", "DAG.needrun"): ["self", "job"],
    ("snakemake.dag", "DAG.jobid"): ["self", "job"],
    ("snakemake.persistence", "PersistenceBase.has_metadata"): ["self", "job"],
    ("snakemake.persistence", "PersistenceBase.finished"): ["self", "job"],
    ("snakemake.modules", "WorkflowModifier.is_main_snakefile"): ["self"],
    ("snakemake.jobs", "Job.wildcards_dict"): None,
    ("snakemake.jobs", "Job.output"): None,
    ("snakemake.jobs", "Job.rule"): None,
    ("snakemake.rules", "Rule.name"): None,
    ("snakemake.rules", "Rule.is_producer"): ["self", "requested_output"],
    ("snakemake.logging", "ColorizingTextHandler"): ["nocolor", "stream", "formatter", "filter"],
    ("snakemake.logging", "DefaultFilter"): ["quiet", "debug_dag", "verbose", "dryrun", "printshellcmds"],
}


@pytest.mark.parametrize(("module", "attribute"), USES, ids=[attribute for _, attribute in USES])
def test_snakemake_has_what_is_used_of_it(module: str, attribute: str) -> None:
    moved = f"snakemake {snakemake.__version__} has moved {module}.{attribute}; see gdpo.display.snakemake_compat"
    try:
        found = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except (ImportError, AttributeError):
        pytest.fail(moved)
    wanted = USES[module, attribute]
    parameters = list(inspect.signature(found).parameters) if wanted else None
    assert parameters == wanted, f"{moved}: parameters {parameters}, expected {wanted}"


def test_finished_is_awaited() -> None:
    """So that Workflow.async_run takes it."""
    from snakemake.persistence import PersistenceBase

    assert inspect.iscoroutinefunction(PersistenceBase.finished)


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "path", ["Snakefile", *(f"workflow/rules/{p.name}" for p in (ROOT / "workflow/rules").iterdir())]
)
def test_rules_use_nothing_private_of_snakemake(path: str) -> None:
    """What they need of the workflow and of jobs, beside the language, they have from snakemake_compat."""
    text = re.sub("#.*", "", (ROOT / path).read_text(encoding="utf-8"))
    used = set(re.findall(r"\b(workflow|job|dag|persistence)\.([a-z_]\w*)", text))
    used -= {("workflow", "rst")}  # report: "workflow/report/workflow.rst"
    assert not used, f"{path}: {used}"
    assert not re.search(r"^\s*(from|import) snakemake\b", text, re.MULTILINE)
