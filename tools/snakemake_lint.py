"""`snakemake --lint` without the three lints that do not suit this workflow, each with the reason.

Takes Snakemake's own arguments. The exit code is 1 where a lint found something.
"""

from __future__ import annotations

import sys

from snakemake.cli import main
from snakemake.linting.rules import RuleLinter
from snakemake.linting.snakefiles import SnakefileLinter

LEFT_OUT = [
    # Functions are beside the rules that call them; what several files call is in workflow/rules/jobs.smk.
    (SnakefileLinter, "lint_mixed_func_and_rules"),
    # It reports variables that the workflow sets for its jobs as variables that the user must set; no rule needs any.
    (SnakefileLinter, "lint_envvars"),
    # SCALE_ARGS and MIRROR_ARGS are no params: a change of them would make results stale that do not depend on them.
    (RuleLinter, "lint_not_used_params"),
]

if __name__ == "__main__":
    for linter, name in LEFT_OUT:
        delattr(linter, name)  # raises AttributeError where Snakemake has renamed the lint
    main(["--lint", "text", *sys.argv[1:]])
