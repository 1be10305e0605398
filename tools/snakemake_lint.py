"""`snakemake --lint` with the lints that fit this workflow; which do not stands here, with the reasons. Ours.

Takes snakemake's own arguments; its exit code is 1 where a lint found something.
"""

from __future__ import annotations

import sys

from snakemake.cli import main
from snakemake.linting.rules import RuleLinter
from snakemake.linting.snakefiles import SnakefileLinter

LEFT_OUT = [
    # A function stands beside the rules that call it; what several files call stands in workflow/rules/jobs.smk.
    (SnakefileLinter, "lint_mixed_func_and_rules"),
    # It takes a variable that is set for the jobs for one that the user must set; no rule needs any.
    (SnakefileLinter, "lint_envvars"),
    # TOLD and MIRROR are text on purpose: as params they would make results stale that they do not change.
    (RuleLinter, "lint_not_used_params"),
]

if __name__ == "__main__":
    for linter, name in LEFT_OUT:
        delattr(linter, name)  # a lint that Snakemake renamed is not left out in silence, nor forgotten here
    main(["--lint", "text", *sys.argv[1:]])
