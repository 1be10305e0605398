"""Malformed data that is brought along: imported groups, and sources with their mirror."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import yaml

from gdpo.config.loader import load_scale
from tests.robustness.malformed.case import Case

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
    imported("no file", None, r"mine\.jsonl: no such file, expected JSON Lines"),
    imported(
        "no JSON",
        "{}\nhello\n",
        r"mine\.jsonl, line 1, prompt: found no values, expected one|line 2: found .*, expected a JSON object",
    ),
    imported("no JSON at once", rows({}) + "hello\n", r"mine\.jsonl, line 2: found .*, expected a JSON object"),
    imported("a list", "[1]\n", r"mine\.jsonl, line 1: found list, expected a JSON object"),
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
        r"line 1: found .*, expected a JSON object",
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
    imported(
        "only a BOM",
        b"\xef\xbb\xbf",
        r"mine\.jsonl: found no row|line 1: found .*, expected a JSON object",
    ),
    imported("BOM", b"\xef\xbb\xbf" + rows({}).encode(), r"mine\.jsonl, line 1: found .*BOM.*, expected a JSON object"),
    imported("not UTF-8", b'{"prompt": "caf\xe9"}\n', r"mine\.jsonl: found .*, expected UTF-8 JSON Lines"),
    imported(
        "too deep",
        "[" * 200_000 + "\n",
        r"mine\.jsonl, line 1: found brackets nested too deeply, expected a JSON object",
    ),
    imported(
        "a huge line cut off",
        '{"prompt": "' + "a" * 1_000_000,
        r"mine\.jsonl, line 1: found Unterminated.*, expected a JSON object",
    ),
    imported(
        "half a character",
        r'{"prompt": "\ud800", "completions": ["b", "c"], "rewards": [1, 2]}' + "\n",
        r"mine\.jsonl, line 1: .*half of a character",
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
    source("manifest is no JSON", r"m/manifest\.json: found .*, expected JSON", manifest="{"),
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
    source("empty", r"sources\.own: found no question by reader 'fields'", content=""),
    source("no JSON", r"m/own\.jsonl, line 2: found .*, expected a JSON object", content=ROW + "x\n"),
    source("wrong columns", r"m/own\.jsonl, line 1, .*question", content='{"q": "1"}\n'),
    source("wrong type", r"m/own\.jsonl, line 1, .*answer", content='{"question": "1", "answer": [1]}\n'),
    source("unknown reader", r"sources\.own\.reader: found 'gsm9k'; (did you mean|known)", reader="gsm9k", fields={}),
    source("misspelt", r"sources\.own\.licens: unknown key; did you mean 'licence'", licens="MIT"),
    source(
        "not zipped",
        r"own\.jsonl\.gz: found .*, expected UTF-8 JSON|found 'own\.jsonl\.gz'",
        mirror="own.jsonl.gz",
    ),
]
