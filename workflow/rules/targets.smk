# A target on the command line that no rule makes ends the call with one sentence, which names the closest one.
import sys

from gdpo.display import targets

NAMED = (SCALE.models, SCALE.trainsets, SCALE.methods, SCALE.benchmarks, SCALE.tables)
try:
    targets.check(
        targets.requested(),
        list(workflow.rules),
        [name for names in (*NAMED, FIGURES) for name in names],
        SCALE.name,
    )
except UserError as error:
    sys.exit(f"gdpo: {error}")
