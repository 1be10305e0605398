#!/usr/bin/env bash
# Snakemake runs this in an environment that it has just made: the package itself, from the checkout whose rules asked
# for the environment. Without it a job would run the `gdpo` of the shell that Snakemake was called from.
set -euo pipefail
: "${GDPO_CHECKOUT:?found unset, expected the path of the checkout, which workflow/rules/jobs.smk sets}"
python -m pip install --quiet --disable-pip-version-check --no-deps --editable "$GDPO_CHECKOUT"
