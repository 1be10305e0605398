"""What the workflow uses of Snakemake beyond its documented interface, all of it, each use in one function.

tests/display/test_snakemake_compat.py names each attribute and signature, and says which one a version has moved.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.core.project import PROJECT

if TYPE_CHECKING:
    from snakemake.jobs import Job
    from snakemake.rules import Rule
    from snakemake.workflow import Workflow
    from snakemake_interface_logger_plugins.settings import OutputSettingsLoggerInterface


def command_line_targets(words: Sequence[str]) -> list[str]:
    """The targets in the arguments of a `snakemake` command, which Snakemake passes on to no Snakefile.

    Profiles are left out: a relative path to one is not found from --directory.
    """
    from snakemake.cli import get_argument_parser

    return sorted(get_argument_parser().parse_args(list(words)).targets)


def directory(workflow: Workflow) -> Path:
    """The directory of the Snakefile that is being read, whichever workflow imports or includes it.

    Of a Snakefile that Snakemake reads from a repository elsewhere, that of the checkout which gdpo is imported from.
    """
    here = Path(str(workflow.current_basedir))
    return Path(os.path.normpath(here)) if here.is_dir() else PROJECT


def is_module(workflow: Workflow) -> bool:
    """Whether the Snakefile that is being read is imported by another workflow, as a `module`."""
    return not workflow.modifier.is_main_snakefile()


def show_in_commands(workflow: Workflow, **names: str) -> None:
    """Let commands that Snakemake prints use names of a Snakefile that is imported as a module.

    A job's command runs with the names of its own Snakefile. To print it, Snakemake looks them up in the outermost one,
    and stops where they are missing. Of two imports at several scales the first one's names are printed.
    """
    modifier = workflow.modifier
    while modifier is not None and not modifier.is_main_snakefile():
        modifier = modifier.parent_modifier
        if modifier is not None:
            for name, value in names.items():
                modifier.globals.setdefault(name, value)


def rules(workflow: Workflow) -> list[Rule]:
    """Every rule that has been read so far."""
    return list(workflow.rules)


def rule_name(job: Job) -> str:
    """The name of a job's rule."""
    return str(job.rule.name)


def outputs(job: Job) -> list[str]:
    return [str(path) for path in job.output]


def wildcards(job: Job) -> dict[str, str]:
    return {name: str(value) for name, value in job.wildcards_dict.items()}


def jobs(workflow: Workflow) -> list[Job]:
    """Every job of this call, finished ones included."""
    return list(workflow.dag.jobs)


def jobs_to_run(workflow: Workflow) -> list[Job]:
    return list(workflow.dag.needrun_jobs())


def is_to_run(workflow: Workflow, job: Job) -> bool:
    return bool(workflow.dag.needrun(job))


def job_number(workflow: Workflow, job: Job) -> int:
    """The number that Snakemake's log records have for a job."""
    return int(workflow.dag.jobid(job))


def runs_here(workflow: Workflow) -> bool:
    """Whether jobs are processes of this machine, not of a cluster."""
    return bool(workflow.local_exec)


def record_finished(workflow: Workflow, job: Job) -> None:
    """Record the settings of a job whose results another call has finished, where none are recorded."""
    if not workflow.persistence.has_metadata(job):
        workflow.async_run(workflow.persistence.finished(job))


def makes(rule: Rule, target: str) -> bool:
    """Whether `target` is the rule's name, or a file that it makes."""
    return bool(rule.name == target or rule.is_producer(target))


def text_handler(settings: OutputSettingsLoggerInterface) -> logging.Handler:
    """Snakemake's own handler of its log records, which writes them as text."""
    from snakemake.logging import ColorizingTextHandler, DefaultFilter

    handler: logging.Handler = ColorizingTextHandler(settings.nocolor, sys.stdout if settings.stdout else sys.stderr)
    handler.addFilter(
        DefaultFilter(settings.quiet, settings.debug_dag, settings.verbose, settings.dryrun, settings.printshellcmds)
    )
    return handler
