# A target on the command line that no rule makes ends the call with one sentence, which names the closest one.
# Targets of a workflow that imports this one as a module may be its own.
import sys

from gdpo.display import snakemake_compat, targets

NAMED = (SCALE.models, SCALE.trainsets, SCALE.methods, SCALE.benchmarks, SCALE.tables)
try:
    targets.check(
        [] if snakemake_compat.is_module(workflow) else targets.requested(),
        snakemake_compat.rules(workflow),
        [name for names in (*NAMED, FIGURES) for name in names],
        SCALE.name,
    )
except UserError as error:
    sys.exit(f"gdpo: {error}")
