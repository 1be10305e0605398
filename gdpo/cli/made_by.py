"""Which step makes a file of a scale, so that a step that misses one can say what to run first.

tests/cli/test_made_by.py holds the table against the workflow's own, in docs/architecture.md.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gdpo.cli.parser import Arguments
from gdpo.core.errors import UserError

# A path below results/SCALE/ -> the command that writes it. A word in braces stands for a name, in both alike.
_CELL = "--student {model} --trainset {trainset} --method {method} --seeds {seed}"
_SCORED = "{model}/{trainset}/{method}/{seed}"
MAKERS = {
    "benchmarks/{split}/{benchmark}.jsonl": "benchmark",
    "guarded.jsonl": "benchmark",
    "pool.jsonl": "metakl sources",
    "decontaminated.jsonl": "metakl decontaminate",
    "contaminated.jsonl": "metakl decontaminate",
    "contamination.csv": "metakl decontaminate",
    "spared.jsonl": "metakl decontaminate",
    "word_frequencies.json": "metakl decontaminate",
    "skills.jsonl": "metakl annotate",
    "annotation_quality.csv": "metakl quality",
    "annotated.jsonl": "metakl merge",
    "units.json": "metakl merge",
    "merge_agreement.csv": "metakl merge",
    "proficiency/{model}.jsonl": "metakl answer --model {model}",
    "proficiency.csv": "metakl proficiency",
    "unit_proficiency.csv": "metakl proficiency",
    "trainsets/{trainset}.jsonl": "metakl select --trainset {trainset}",
    "{trainset}_card.md": "metakl card --trainset {trainset}",
    "export/{trainset}": "metakl export --trainset {trainset}",
    "responses/{trainset}.jsonl": "teach respond --trainset {trainset}",
    "groups/{trainset}.jsonl": "teach reward --trainset {trainset}",
    "models/{model}": "model --name {model}",
    "pretrained/{model}": "pretrain --name {model}",
    "bases.csv": "bases",
    f"runs/{_SCORED}": f"train {_CELL}",
    f"samples/{_SCORED}": f"evaluate {_CELL}",
    f"scores/{_SCORED}.json": f"evaluate {_CELL}",
    f"validation/samples/{_SCORED}": f"evaluate {_CELL} --split validation",
    f"validation/scores/{_SCORED}.json": f"evaluate {_CELL} --split validation",
    f"validation/drift/{_SCORED}.json": f"drift {_CELL}",
    "noise/{model}/{trainset}/{method}.json": (
        "noise --student {model} --trainset {trainset} --method {method} --seeds 0"
    ),
    "judge.csv": "judge",
    "tables/{table}.csv": "table --name {table}",
    "figures/{figure}.csv": "figure --name {figure}",
    "figures/{figure}.pdf": "figure --name {figure}",
    "figures/{figure}.png": "figure --name {figure}",
    "claims.csv": "claims",
    "claims.md": "claims",
    "cost.csv": "cost",
    "runs.csv": "runs",
    "explorer": "explore",
    "reproduced.csv": "reproduced",
    "reproduced.md": "reproduced",
    "numbers.json": "numbers",
    "published.csv": "published",
    "published.md": "published",
}
# Of a training set's groups that no teacher of the scale answers: `select` of the set -> its step.
GROUPS = {"import": "teach import"} | dict.fromkeys(("part", "joined", "renoted", "pretraining"), "teach part")
# Of results/, which has the tables of the scale that ran last: the stem -> the command that writes it.
PUBLISHED = {"audit": "audit", "claims": "publish --name claims"}
# Steps whose result is of many runs -> the directory of the results.
DRAWN = {"table": "tables", "figure": "figures"}


def maker(path: Path, root: Path) -> tuple[str, Path] | None:
    """The command that makes the file at `path` below a scale's `root`, and the path that it makes: perhaps a directory
    above it. None where no step makes it.
    """
    here = Path(os.path.relpath(path))
    if here.parent == Path("results") and here.suffix in (".csv", ".md", ".tex"):
        return PUBLISHED.get(here.stem, f"publish --name {here.stem.partition('_')[0]}"), here
    try:
        parts = here.relative_to(root).parts
    except ValueError:
        return None
    below = "/".join(parts)
    below = re.sub(r"\.provenance\.json$", "", below)
    for pattern, command in MAKERS.items():
        directory = "." not in pattern.rpartition("/")[2]
        names = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(pattern))
        if found := re.match(f"({names})({'(/.*)?' if directory else ''})$", below):
            return command.format(**found.groupdict()), root / found[1]
    return None


@contextmanager
def naming_the_maker(root: Path, arguments: Arguments) -> Iterator[None]:
    """Within the block, the error of a file below `root` that is missing says which command makes it.

    A missing file that a library met raises UserError, too, where a step makes that file.
    """
    try:
        yield
    except UserError as error:
        if error.path is None or error.hint or os.path.exists(error.path):
            raise
        if (hint := _hint(Path(error.path), root, arguments)) is None:
            raise
        raise UserError(**error.fields | {"hint": hint}) from error
    except FileNotFoundError as error:
        if not isinstance(error.filename, str) or (hint := _hint(Path(error.filename), root, arguments)) is None:
            raise
        raise UserError("no such file", path=error.filename, hint=hint) from error


def _hint(path: Path, root: Path, arguments: Arguments) -> str | None:
    """What makes the file at `path`, or what a table or figure is made of; None where no step does."""
    scale = shlex.quote(str(arguments.scale))
    limit = ("", "") if arguments.limit is None else (f" --limit {arguments.limit}", f" limit={arguments.limit}")
    if (world := getattr(arguments, "world", None)) is not None:
        limit = (f"{limit[0]} --world {world}", f"{limit[1]} world={world}")
    if (found := maker(path, root)) is None:
        if arguments.step not in DRAWN:
            return None
        made = root / DRAWN[arguments.step] / f"{arguments.name}.csv"
        return f"`snakemake --cores all {made} --config scale={scale}{limit[1]}` makes all that it needs"
    command, made = found
    from gdpo.config.loader import load_scale

    if command.startswith("teach reward"):
        trainset = load_scale(arguments.scale, arguments.limit, world).trainset(made.stem)
        command = command.replace("teach reward", GROUPS.get(trainset.select, "teach reward"))
    return (
        f"`gdpo {command} --scale {scale}{limit[0]}` makes it, and with all that it needs "
        f"`snakemake --cores all {shlex.quote(str(made))} --config scale={scale}{limit[1]}`"
    )
