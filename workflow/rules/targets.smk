# What was asked for: a target that no rule makes is one sentence, with the closest that one does.
import os
import sys
from difflib import get_close_matches
from pathlib import Path

from snakemake.cli import get_argument_parser


def is_made(target):
    return any(r.name == target or r.is_producer(target) for r in workflow.rules)


def corrected(target):
    """`target` with one of its parts replaced by a name of the scale that is close to it."""
    entries = (SCALE.models, SCALE.trainsets, SCALE.methods, SCALE.benchmarks)
    known = {name for names in (*entries, SCALE.tables, FIGURES) for name in names}
    parts = Path(target).parts
    for place, part in enumerate(parts):
        stem, end = os.path.splitext(part)
        for name in get_close_matches(stem, known, n=1):
            yield str(Path(*parts[:place], name + end, *parts[place + 1 :]))


def closest(target):
    """The target nearest to `target`; None where none is near."""
    for path in filter(is_made, corrected(target)):
        return path
    alone = [r.name for r in workflow.rules if not r.output]
    made = [str(path) for r in workflow.rules for path in r.output]
    plain = [path for path in made if "{" not in path]
    return next(iter(get_close_matches(target, [*alone, *plain], n=1)), None)


def asked():
    """The targets on the command line, which Snakemake tells no Snakefile; none where it was not called by one.

    Profiles are left out: a relative path to one is no more found from --directory.
    """
    if Path(sys.argv[0]).name not in ("snakemake", "__main__.py"):
        return []
    found = sorted(get_argument_parser().parse_args(sys.argv[1:]).targets)
    return [path if os.path.isabs(path) else os.path.relpath(path) for path in found]


for target in asked():
    if not is_made(target) and not Path(target).exists():
        close = closest(target)
        hint = (
            f"did you mean '{close}'?" if close else "docs/reproducing.md lists what is"
        )
        sys.exit(f"gdpo: {target}: not made at scale {SCALE.name}; {hint}")
