"""Malformed scales, and endpoints in them."""

from __future__ import annotations

from tests.robustness.malformed.case import LOOP, QUESTION, Case, lines


def scale(name: str, text: str | bytes, says: str, more: str = "", **files: str | bytes) -> Case:
    """A scale `own.yaml` that cannot be read; a text that extends nothing extends micro."""
    if isinstance(text, str) and "extends" not in text and not text.startswith("="):
        text = f"extends: micro\nscale: own\n{text}"
    text = text.removeprefix("=") if isinstance(text, str) else text
    arguments = f"metakl sources --scale own.yaml {more}".strip()
    return Case(f"scale: {name}", arguments, says, {"own.yaml": text, **files})


SCALES = [
    scale("unknown key", "seeeds: [0]", r"own\.yaml, seeeds: unknown key; did you mean 'seeds'\?"),
    scale(
        "unknown key below", "respond: {temprature: 1}", r"respond\.temprature: unknown key; did you mean 'temperature'"
    ),
    scale(
        "unknown key of an entry",
        "methods: {gdpo: {objective: {bta: 1}}}",
        r"methods\.gdpo\.objective\.bta: unknown key; did you mean 'beta'",
    ),
    scale(
        "unknown key in a list",
        "tables: {table1: {rows: [{row: x, trainsett: none}]}}",
        r"tables\.table1\.rows\.0\.trainsett: unknown key; did you mean 'trainset'",
    ),
    scale(
        "unknown key of a step",
        "needs: {tran: {memory_gb: 1, hours: 1}}",
        r"needs\.tran: found 'tran', .*; did you mean 'train'",
    ),
    scale("text for a number", "bootstrap_draws: many", r"bootstrap_draws: .*found 'many'"),
    scale("a mapping for a list", "students: {a: b}", r"students: found a dict, expected .*list"),
    scale("a list for a mapping", "models: [a]", r"models: found list, expected a mapping|models: .*found a list"),
    scale("a number for an entry", "trainsets: {metakl: 3}", r"trainsets\.metakl: .*found 3"),
    scale(
        "negative size",
        "trainsets: {metakl: {size: -1}}",
        r"trainsets\.metakl\.size: found -1, expected .*greater than 0",
    ),
    scale("infinite rate", "methods: {sft: {learning_rate: .inf}}", r"methods\.sft\.learning_rate: .*found inf"),
    scale("no number", "methods: {sft: {learning_rate: .nan}}", r"methods\.sft\.learning_rate: .*found nan"),
    scale("no seeds", "seeds: []", r"seeds: .*at least 1 item"),
    scale("negative seed", "seeds: [-1]", r"seeds\.0: found -1, expected .*greater than or equal to 0"),
    scale("no students", "students: []", r"students: .*at least 1 item"),
    scale("the same seed twice", "seeds: [0, 0]", r"seeds: found 0 a second time, expected each once"),
    scale("the same student twice", "students: [tiny-s, tiny-s]", r"students: found 'tiny-s' a second time"),
    scale("duplicate names", "models: {a: {display: A}, a: {display: B}}", r"own\.yaml, line 3: .*'a' a second time"),
    scale("unknown student", "students: [tiny-sm]", r"students: found 'tiny-sm'; did you mean 'tiny-s"),
    scale("unknown teacher", "respond: {teacher: tiny-techer}", r"did you mean 'tiny-teacher'"),
    scale("name with a slash", "models: {a/b: {display: A}}", r"models\.a/b.*: .*found 'a/b'"),
    scale("a part of itself", "trainsets: {union: {parts: [union]}}", r"trainsets\.union\.parts: found a loop"),
    scale("no part", "trainsets: {union: {parts: []}}", r"trainsets\.union\.parts: found none, expected the sets that"),
    scale("world and sources", "sources: {gsm8k-train: {}}", r"expected exactly one of 'world' and 'sources'"),
    scale("no world", "world: null", r"expected exactly one of 'world' and 'sources'"),
    scale(
        "no world to learn",
        "extends: smol\nscale: own\nmodels: {mine: {display: M, pretrain: {hidden_size: 8, layers: 1, heads: 1, "
        "examples: 1, batch_size: 1, muon_learning_rate: 1, adamw_learning_rate: 1, mix: base, seed: 0}}}",
        r"models\.mine\.pretrain: found no 'world' to learn, expected a model by 'reference'",
    ),
    scale("extends itself", "extends: own", r"own\.yaml, extends: the scale extends itself"),
    scale("a loop of two", "extends: b", r"extends: the scale extends itself", **{"b.yaml": "extends: own\n"}),
    scale(
        "a loop through a folder",
        "extends: ../FOLDER/own",
        r"extends: the scale extends itself",
    ),
    scale("extends what is not there", "extends: mirco", r"mirco\.yaml: no such scale; did you mean 'micro'"),
    scale("extends a list", "extends: [micro]", r"own\.yaml, extends: found list, expected the name of a scale"),
    scale("a tab", "=extends: micro\nrespond:\n\tseed: 1\n", r"own\.yaml, line 3: not readable as YAML: .*'\\t'"),
    scale("no YAML", "=extends: [micro\n", r"own\.yaml, line \d: not readable as YAML"),
    scale("empty", "=", r"own\.yaml: found nothing, expected a mapping at the top"),
    scale("a line break for a key", '? "\\n"\n: 1', r"own\.yaml, '\\n': unknown key; known: "),
    scale(
        "UTF-16", "extends: micro\n".encode("utf-16"), r"own\.yaml: found invalid start byte at byte 0, expected UTF-8"
    ),
    scale("BOM", b"\xef\xbb\xbfextends: micro\nseeeds: [0]\n", r"own\.yaml, seeeds: unknown key; did you mean 'seeds'"),
    scale("two documents", "---\na: b", r"own\.yaml, line 3: not readable as YAML: .*another document"),
    scale("a mapping of itself", "models: &a {b: *a}", r"models\.b: unknown key"),
    scale(
        "thousands of digits", f"bootstrap_draws: {'9' * 5000}", r"own\.yaml: found .*limit .*digits.*, expected YAML"
    ),
    scale("huge seed", f"seeds: [{'9' * 20}]", r"seeds\.0: .*less than 4294967296"),
    scale("no benchmarks", "benchmarks: null", r"benchmarks: .*at least 1 item"),
    scale("no methods", "methods: null", r"methods: .*found None"),
    scale("extends nothing", "extends: ''", r"\.yaml: no such scale"),
    scale("heads of unequal size", "models: {tiny-s: {pretrain: {heads: 7}}}", r"heads: found 7 beside hidden_size 64"),
    scale(
        "heads of odd size", "models: {tiny-s: {pretrain: {hidden_size: 34}}}", r"heads: found \d beside hidden_size 34"
    ),
    scale("an unknown mix", "models: {tiny-s: {pretrain: {mix: smal}}}", r"mix: found 'smal'; did you mean 'small'"),
    Case(
        "scale: a loop of links",
        "audit --scale own.yaml",
        r"own\.yaml: found .*links', expected a YAML file",
        {"own.yaml": LOOP},
    ),
    scale("a list", "=- a\n", r"own\.yaml: found list, expected a mapping at the top"),
    scale("not UTF-8", b"description: caf\xe9\n", r"own\.yaml: found .*expected UTF-8"),
    scale("a date that is none", "description: 2024-13-45", r"own\.yaml: found .*month.*, expected YAML"),
    scale("a tag", "description: !!python/name:os.system x", r"own\.yaml, line 3: not readable as YAML"),
    scale("too deep", "=a: " + "[" * 3000, r"own\.yaml: not readable as YAML: nested too deep"),
    scale("only a number", "=3", r"own\.yaml: found int, expected a mapping at the top"),
    scale("a size that is text, limited", "trainsets: {metakl: {size: big}}", r"trainsets\.metakl\.size", "--limit 4"),
    scale("no size, limited", "trainsets: {new: {display: N, select: domain}}", r"new\.size: .*required", "--limit 4"),
    scale("an entry that is text, limited", "trainsets: {metakl: x}", r"trainsets\.metakl: .*found 'x'", "--limit 4"),
    scale("a list for trainsets, limited", "trainsets: [x]", r"trainsets: .*found a list", "--limit 4"),
    scale("models of numbers, limited", "models: {tiny-s: 3}", r"models\.tiny-s: .*found 3", "--limit 4"),
    scale("a benchmark of text, limited", "benchmarks: {hop: x}", r"benchmarks\.hop: .*found 'x'", "--limit 4"),
    scale("items of text, limited", "benchmarks: {hop: {items: x}}", r"benchmarks\.hop\.items: .*'x'", "--limit 4"),
    scale("benchmarks in a list, limited", "benchmarks: [x]", r"benchmarks: .*found (a )?list", "--limit 4"),
    scale("a list for limited", "limited: [x]", r"limited: .*found (a )?list", "--limit 4"),
    Case("scale: not there", "audit --scale tny", r"tny\.yaml: no such scale; did you mean 'tiny'"),
    Case(
        "scale: a folder",
        "audit --scale d.yaml",
        r"d\.yaml: found 'Is a directory', expected a YAML file",
        {"d.yaml/x": ""},
    ),
]


def asked(name: str, endpoint: str, says: str) -> Case:
    text = f"extends: micro\nscale: own\nannotate: {{backend: openai, endpoint: {endpoint}}}\n"
    files = {"own.yaml": text, "results/own/decontaminated.jsonl": lines(QUESTION)}
    return Case(f"endpoint: {name}", "metakl annotate --scale own.yaml", says, files)


ENDPOINTS = [
    asked(
        "no key",
        "{base_url: 'http://127.0.0.1:9/v1', model: m, key: NO_SUCH_KEY}",
        r"found no key, expected its key in .* variable NO_SUCH_KEY",
    ),
    asked("the key itself", "{base_url: 'http://x/v1', model: m, key: sk-canary}", r"endpoint\.key: expected the NAME"),
    asked("bad address", "{base_url: 'x/v1', model: m}", r"endpoint\.base_url: .*not shown"),
    asked("key in the address", "{base_url: 'http://sk-canary@x/v1', model: m}", r"endpoint\.base_url: .*not shown"),
    asked(
        "budget without price",
        "{base_url: 'http://x/v1', model: m, budget: {money: 3}}",
        r"budget\.money: expected a 'price' beside it",
    ),
    asked(
        "negative budget", "{base_url: 'http://x/v1', model: m, budget: {tokens: -3}}", r"budget\.tokens: .*found -3"
    ),
    asked("no model", "{base_url: 'http://x/v1'}", r"endpoint\.model: .*required"),
    asked(
        "misspelt",
        "{base_url: 'http://x/v1', model: m, concurency: 3}",
        r"concurency: unknown key; did you mean 'concurrency'",
    ),
    Case(
        "endpoint: none",
        "metakl annotate --scale own.yaml",
        r"backend openai needs an 'endpoint'",
        {"own.yaml": "extends: micro\nannotate: {backend: openai}\n"},
    ),
]
