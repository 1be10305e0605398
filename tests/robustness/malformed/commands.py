"""Malformed command lines."""

from __future__ import annotations

from tests.robustness.malformed.case import RUN, Case

COMMANDS = [
    Case("command: unknown", "tabel --name table1", r"found 'tabel'; did you mean 'table'"),
    Case("command: unknown below", "metakl anotate", r"found 'anotate'; did you mean 'annotate'"),
    Case("command: unknown option", "audit --scale tiny --limt 3", r"audit: found '--limt'; did you mean '--limit'"),
    Case("command: one word too many", "audit tiny", r"audit: found 'tiny'; known: "),
    Case("command: no value", "audit --scale", r"audit: .*--scale.*expected one argument"),
    Case("command: an option is missing", "table", r"table: .*required: --name"),
    Case("command: text for a number", "audit --limit few", r"--limit: expected a whole number, found 'few'"),
    Case("command: negative limit", "audit --limit -3", r"limit: found -3, expected a whole number above 0"),
    Case("command: split", f"evaluate {RUN} --split tst", r"--split: found 'tst'; did you mean 'test'"),
    Case(
        "command: student",
        f"train {RUN.replace('tiny-s', 'tiny-x')} --scale micro",
        r"--student: found 'tiny-x'; did you mean 'tiny-",
    ),
    Case(
        "command: trainset",
        f"train {RUN.replace('metakl', 'metalk')} --scale micro",
        r"trainset: found 'metalk'; did you mean 'metakl",
    ),
    Case(
        "command: method",
        f"train {RUN.replace('sft', 'stf')} --scale micro",
        r"methods: found 'stf'; did you mean 'sft'",
    ),
    Case(
        "command: rate",
        f"train {RUN.replace('sft', 'sft~fast')} --scale micro",
        r"method: found 'sft~fast', expected .*learning rate",
    ),
    Case("command: seed", f"train {RUN[:-1]}zero --scale micro", r"--seeds: expected a whole number, found 'zero'"),
    Case("command: negative seed", f"train {RUN[:-1]}-1 --scale micro", r"seeds: found -1, expected"),
    Case(
        "command: drift's student",
        "drift --student x --trainset none --method origin --seeds 0 --scale micro",
        r"student: found 'x'; known",
    ),
    Case(
        "command: reward's trainset",
        "teach reward --trainset metalk --scale micro",
        r"trainsets: found 'metalk'; did you mean 'metakl",
    ),
    Case(
        "command: card's trainset",
        "metakl card --trainset metalk --scale micro",
        r"trainsets: found 'metalk'; did you mean 'metakl",
    ),
    Case(
        "command: answer's model",
        "metakl answer --model tiny-z --scale micro",
        r"models: found 'tiny-z'; did you mean 'tiny-",
    ),
    Case(
        "command: part of none",
        "teach part --trainset metakl --scale micro",
        r"trainsets\.metakl\.select: found 'metakl', expected 'part'",
    ),
    Case("command: table", "table --name tabel1 --scale micro", r"tables: found 'tabel1'; did you mean 'table1'"),
    Case("command: show", "show --name table22 --scale micro", r"tables: found 'table22'; did you mean 'table2'"),
    Case("command: publish", "publish --name clams --scale micro", r"found 'clams'; did you mean 'claims'"),
    Case("command: figure", "figure --name lenghts --scale micro", r"figure: found 'lenghts'.*did you mean 'lengths'"),
    Case(
        "command: no such mirror",
        "metakl sources --scale smol --mirror nowhere",
        r"mirror: found 'nowhere', expected a directory",
    ),
    Case(
        "command: log is a folder",
        "audit --log d",
        r"d: found 'Is a directory', expected the path of a file",
        {"d/x": ""},
    ),
    Case(
        "command: log below a file", "audit --log f/a.log", r"f: found 'File exists', expected a directory", {"f": ""}
    ),
    Case("command: no whole number", "audit --limit 1.5", r"--limit: expected a whole number, found '1\.5'"),
    Case("command: thousands of digits", f"audit --limit {'9' * 5000}", r"--limit: expected a whole number, found '9"),
    Case(
        "command: huge seed",
        f"train {RUN[:-1]}{'9' * 20} --scale micro",
        r"--seeds: found 9+, expected whole numbers from 0 to",
    ),
    Case("command: workers", "plan --workers 0 --scale micro", r"--workers: found 0, expected a whole number above 0"),
    Case(
        "command: plan into a file",
        "plan --out f --scale micro",
        r"f: found 'File exists', expected a directory",
        {"f": ""},
    ),
    Case("command: no scale", "audit --scale .yaml", r"\.yaml: no such scale; known: .*micro"),
    Case(
        "command: out is a file",
        "metakl sources --scale micro",
        r"results/micro: found 'Not a directory', expected",
        {"results": "x"},
    ),
]
