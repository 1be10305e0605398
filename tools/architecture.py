"""`make architecture`: the pictures and tables of docs/architecture.md, drawn from the code.

The rooms and their arrows come from the import statements of every module, the allowed order from import-linter's
contract in pyproject.toml, the steps and their files from Snakemake's dry runs. With a tree as argument, its number of
rooms, floors, arrows and circles and its statements by room are printed: any two trees can be compared.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from gdpo.config.loader import load_scale  # noqa: E402
from gdpo.config.scale import Scale  # noqa: E402
from gdpo.core.errors import UserError  # noqa: E402
from gdpo.ops.plan.jobs import dry_run  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"
Graph = dict[str, set[str]]

# Together their jobs call every step but those of imported groups and of a training set's export.
DRY_RUNS = {
    "micro": ["all", "metakl", "figures", "sweep", "bases"],
    "smol": ["all", "metakl", "figures", "sweep", "results/smol/export/metakl"],
    "examples/import.yaml": ["results/imported/groups/math-cot8.jsonl"],
}


# --- rooms: packages and single modules of gdpo/, and what they import


@dataclass
class Room:
    """A package or a single module directly below gdpo/."""

    name: str
    sentence: str  # the first of its docstring
    modules: int
    statements: int
    imports: set[str] = field(default_factory=set)  # names of rooms


def rooms(package: Path) -> dict[str, Room]:
    """Every room of the package at this path, with the rooms that it imports at any place but for type checkers."""
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        first = path.relative_to(package).parts[0]
        if path.parent != package or first not in ("__init__.py", "__main__.py"):
            files[first.removesuffix(".py")].append(path)
    found = {}
    for name, paths in files.items():
        trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
        own = trees.get(package / name / "__init__.py", trees[paths[0]])
        statements = sum(isinstance(node, ast.stmt) for tree in trees.values() for node in ast.walk(tree))
        room = Room(name, first_sentence(own), len(paths), statements)
        imported = {module for path, tree in trees.items() for module in imports(tree, path, package)}
        room.imports = {module[0] for module in imported if module and module[0] in files} - {name}
        found[name] = room
    return found


def first_sentence(tree: ast.Module) -> str:
    return " ".join((ast.get_docstring(tree) or "").partition("\n\n")[0].split())


def imports(tree: ast.Module, path: Path, package: Path) -> Iterator[tuple[str, ...]]:
    """The parts, below `package`, of each module that a file imports; also of names that may be modules."""
    typing = {id(n) for i in ast.walk(tree) if is_for_type_checkers(i) for n in ast.walk(i)}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = (package.name, *path.relative_to(package).parts[: -node.level]) if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (tuple(n.split(".")[1:]) for n in names if n.split(".")[0] == package.name)


def is_for_type_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


# --- floors and circles of a graph


def circles(graph: Graph) -> list[set[str]]:
    """The sets of two or more rooms that each reach one another."""
    below = {name: reachable(graph, name) for name in graph}
    sets = {frozenset(other for other in below[name] if name in below[other]) for name in graph}
    return sorted((set(one) for one in sets if len(one) > 1), key=min)


def reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each room: one above the highest that it imports, from 0; the rooms of a circle share theirs."""
    together = {name: {name} for name in graph} | {name: one for one in circles(graph) for name in one}
    found: dict[str, int] = {}

    def floor(name: str) -> int:
        if name not in found:
            below = {other for member in together[name] for other in graph[member]} - together[name]
            found.update(dict.fromkeys(together[name], 1 + max(map(floor, below), default=-1)))
        return found[name]

    for name in graph:
        floor(name)
    return found


def reduced(graph: Graph) -> Graph:
    """The arrows without those that follow from others."""
    return {
        name: {other for other in below if not any(other in reachable(graph, b) for b in below - {other})}
        for name, below in graph.items()
    }


def measured(tree: Path) -> str:
    """The size of a tree that has gdpo/, in words: rooms, floors, arrows, circles, and statements by room."""
    found = rooms(tree / "gdpo")
    if not found:
        raise UserError(path=tree, found="no gdpo/ with modules", expected="a checkout")
    graph = {name: room.imports for name, room in found.items()}
    loose = sum((tree / "gdpo" / f"{name}.py").exists() for name in found)
    round_ = circles(graph)
    said = ["; ".join(" <-> ".join(sorted(one)) for one in round_)] if round_ else []
    lines = [
        f"rooms     {len(found):5}  packages and single modules of gdpo/, {loose} of them single modules",
        f"floors    {1 + max(floors(graph).values()):5}  rooms on the longest path of imports",
        f"arrows    {sum(map(len, graph.values())):5}  pairs of rooms of which one imports the other",
        f"circles   {len(round_):5}  {''.join(said)}".rstrip(),
        f"statements{sum(room.statements for room in found.values()):6}",
    ]
    by_size = sorted(found.values(), key=lambda room: (-room.statements, room.name))
    return "\n".join([*lines, *(f"  {room.name:20} {room.statements:6}" for room in by_size)])


# --- steps: the calls of `gdpo` that the workflow makes, and their files


@dataclass
class Step:
    """A call of `gdpo` in the workflow: the files that its jobs read and write, with their names in braces."""

    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)


def steps() -> dict[str, Step]:
    """Every step of the dry runs' jobs, by its words behind `gdpo`."""
    found: dict[str, Step] = defaultdict(Step)
    with tempfile.TemporaryDirectory() as empty:
        for name, targets in DRY_RUNS.items():
            scale = load_scale(ROOT / name if "/" in name else name)
            given = str(ROOT / name) if "/" in name else name
            text = dry_run([f"scale={given}"], targets, "--forceall", "--directory", empty)
            for command, reads, writes in jobs(text):
                step = found[command]
                step.reads |= {pattern(path, scale) for path in reads}
                step.writes |= {pattern(path, scale) for path in writes}
    return dict(found)


def jobs(text: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """The step, the inputs and the outputs of each job of a dry run's text."""
    files: dict[str, list[str]] = {}
    for line in text.splitlines():
        if re.match(r"(local)?rule \w+:$", line):
            files = {}
        elif match := re.match(r"    (input|output): (.*)", line):
            files[match[1]] = match[2].split(", ")
        elif match := re.match(r"Shell command: gdpo ([^-]*[^- ])", line):
            yield match[1], files.get("input", []), files.get("output", [])


def pattern(path: str, scale: Scale) -> str:
    """A path below results/SCALE/ with names of the scale in braces; any other begins with `./`."""
    root = f"{scale.root.as_posix()}/"
    if not path.startswith((root, "results/", "paper/")):  # what a checkout has: by its directory and ending
        known = path.removeprefix(f"{ROOT}/")
        return f"./{Path(known).parts[0]}/**/*{Path(known).suffix}"
    parts = [named(part, scale) for part in path.removeprefix(root).split("/")]
    text = "/".join(parts)
    text = text.replace("/none/origin/", "/{trainset}/{method}/")
    text = re.sub(r"^benchmarks/(test|validation)/", "benchmarks/{split}/", text)
    text = re.sub(r"(^|/)figures/[^/.]+\.", r"\1figures/{figure}.", text)
    return text if path.startswith(root) else f"./{text}"


def named(part: str, scale: Scale) -> str:
    """One part of a path, in braces where it is a name of the scale or a seed."""
    stem, dot, end = (part, "", "") if "~" in part else part.partition(".")
    kinds = {"table": scale.tables, "benchmark": scale.benchmarks, "trainset": scale.trainsets, "model": scale.models}
    kinds |= {"method": scale.methods}
    for kind, names in kinds.items():
        if stem.partition("~")[0] in names:
            return f"{{{kind}}}{dot}{end}"
    for name in scale.tables:
        if stem.startswith(f"{name}_"):
            return f"{{table}}{stem.removeprefix(name)}{dot}{end}"
    return f"{{seed}}{dot}{end}" if stem.isdigit() else part


def rule_graph() -> Graph:
    """Each rule that `all` of scale micro takes, with the rules whose files it reads, as Snakemake has them."""
    with tempfile.TemporaryDirectory() as empty:
        text = dry_run(["scale=micro"], ["all"], "--rulegraph", "mermaid-js", "--directory", empty)
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]$", text, re.MULTILINE))
    graph: Graph = {name: set() for name in names.values()}
    for first, then in re.findall(r"^\s*(id\d+) --> (id\d+)$", text, re.MULTILINE):
        if first != then:  # `select` joins sets that it has chosen
            graph[names[then]].add(names[first])
    return graph


def rule_files(found: dict[str, Step]) -> dict[str, str]:
    """Each step's file of rules, in the order in which the Snakefile includes the files and these have the steps."""
    snakefile = (ROOT / "Snakefile").read_text(encoding="utf-8")
    placed: dict[str, str] = {}
    for name in re.findall(r'^include: "workflow/rules/(\w+\.smk)"', snakefile, re.MULTILINE):
        text = (ROOT / "workflow" / "rules" / name).read_text(encoding="utf-8")
        calls = {call: text.find(f'"gdpo {call} ') for call in found}
        placed |= {call: name for call in sorted(calls, key=calls.__getitem__) if calls[call] >= 0}
    return placed


# --- the page


def rooms_picture(found: dict[str, Room], layers: list[list[str]]) -> str:
    """Mermaid: a box for each layer of the contract, an arrow for each import that follows from no other."""
    lines = ["flowchart TB"]
    for number, layer in enumerate(layers):
        lines.append(f'  subgraph floor{len(layers) - number}[" "]')
        lines += [f'    {name}["{name}"]' for name in layer]
        lines.append("  end")
    arrows = reduced({name: room.imports for name, room in found.items()})
    order = [name for layer in layers for name in layer]
    lines += [f"  {name} --> {below}" for name in order for below in sorted(arrows[name], key=order.index)]
    return block(lines)


def rooms_table(found: dict[str, Room], layers: list[list[str]]) -> str:
    order = [name for layer in layers for name in layer]
    rows = [
        [f"`{name}`", cell(room.sentence), str(room.modules), str(room.statements), listed(room.imports, order)]
        for name, room in ((name, found[name]) for name in order)
    ]
    return table(["room", "what it is", "modules", "statements", "imports"], rows)


def listed(names: Iterable[str], order: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names, key=order.index)) or "nothing"


def flow_picture(found: dict[str, Step]) -> str:
    """Mermaid: the steps on which tables of scores depend, and the files between them."""
    shown = behind("table", found)
    files = {path for name in shown for path in found[name].reads & written(found, shown)} | {"tables/{table}.csv"}
    numbers = {name: f"n{place}" for place, name in enumerate([*shown, *sorted(files)])}
    lines = ["flowchart LR"]
    lines += [f'  {numbers[name]}[["gdpo {name}"]]' for name in shown]
    lines += [f'  {numbers[path]}(["{path}"])' for path in sorted(files)]
    for name in shown:
        lines += [f"  {numbers[path]} --> {numbers[name]}" for path in sorted(found[name].reads & files)]
        lines += [f"  {numbers[name]} --> {numbers[path]}" for path in sorted(found[name].writes & files)]
    return block(lines)


def rules_picture(graph: Graph) -> str:
    """Mermaid: a box for each rule, an arrow from each to those that read its files and no other arrow says so."""
    arrows = reduced(graph)
    return block(
        ["flowchart LR", *(f"  {below} --> {name}" for name in sorted(arrows) for below in sorted(arrows[name]))]
    )


def behind(last: str, found: dict[str, Step]) -> list[str]:
    """The step `last` and all that make, in any number of steps, what it reads; in the order of the rules."""
    steps_, todo = {last}, [last]
    while todo:
        reads = found[todo.pop()].reads
        new = {name for name, step in found.items() if step.writes & reads} - steps_
        steps_ |= new
        todo += new
    return [name for name in rule_files(found) if name in steps_]


def written(found: dict[str, Step], names: Iterable[str]) -> set[str]:
    return {path for name in names for path in found[name].writes}


def steps_table(found: dict[str, Step]) -> str:
    rows = [
        [f"`gdpo {name}`", f"`{file}`", paths(found[name].reads), paths(found[name].writes)]
        for name, file in rule_files(found).items()
    ]
    return table(["step", "rules in", "reads", "writes"], rows)


def paths(patterns: set[str]) -> str:
    """The patterns in words; those that differ by their ending alone are one."""
    endings: dict[str, list[str]] = defaultdict(list)
    for path in sorted(patterns):
        stem, dot, ending = path.rpartition(".") if "." in Path(path).name else (path, "", "")
        endings[stem].append(dot + ending)
    return ", ".join(f"`{cell(stem + ', '.join(several))}`" for stem, several in endings.items()) or "none"


def block(lines: list[str]) -> str:
    return "\n".join(["```mermaid", *lines, "```"])


def cell(text: str) -> str:
    return text.replace("|", r"\|")


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def contract(root: Path) -> list[list[str]]:
    """The layers of import-linter's contract, from the top."""
    stated = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    [layers] = [one["layers"] for one in stated["contracts"] if one["type"] == "layers"]
    return [[name.strip() for name in layer.split("|")] for layer in layers]


def drawn(page: str) -> str:
    """The page with all that stands between its marks drawn anew."""
    found, layers, every = rooms(ROOT / "gdpo"), contract(ROOT), steps()
    parts = {
        "rooms": rooms_picture(found, layers),
        "rooms-table": rooms_table(found, layers),
        "rules": rules_picture(rule_graph()),
        "flow": flow_picture(every),
        "steps": steps_table(every),
    }
    for name, text in parts.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?\n?(<!-- /{name} -->)", re.DOTALL)
        if not marks.search(page):
            raise UserError(path=PAGE, found="no marks", expected=f"<!-- {name} --> and <!-- /{name} -->")
        page = marks.sub(lambda match, text=text: match[1] + text + "\n" + match[2], page)
    return page


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", nargs="?", type=Path, help="print the size of this tree and draw nothing")
    given = parser.parse_args(arguments)
    try:
        if given.tree:
            print(measured(given.tree))
        else:
            PAGE.write_text(drawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
            print(measured(ROOT))
    except UserError as error:
        print(f"architecture: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
