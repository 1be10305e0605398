"""Malformed files between steps, and stored results that reports and `gdpo verify` read."""

from __future__ import annotations

from tests.robustness.malformed.case import LOOP, QUESTION, RUN, Case, lines


def at_step(name: str, arguments: str, says: str, **files: str | bytes) -> Case:
    return Case(name, f"{arguments} --scale micro", says, {f"results/micro/{at}": text for at, text in files.items()})


GROUP = {
    "id": "a",
    "domain": "math",
    "prompt": [{"role": "user", "content": "1"}],
    "completions": ["2"],
    "rewards": [1],
}
DRIFT = "drift --student tiny-s --trainset none --method origin --seeds 0"
CONTAMINATION = "source,benchmark,exact,near,dropped,spared\n"
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
        r"line 1: found lengths \[1, 2\], expected a reward per completion",
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
        r"decontaminated\.jsonl, line 1: found .*, expected a JSON object",
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
        r"proficiency\.csv: found .*, expected UTF-8 CSV",
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
        r"contamination\.csv, row 1, near: found 'x', expected a number",
        **CARD,
        **{"contamination.csv": "source,benchmark,exact,near,dropped,spared\ns,all,0,x,0,0\n"},
    ),
    at_step(
        "card: a row too short",
        "metakl card",
        r"contamination\.csv, row 1: found another number, expected 6 fields",
        **CARD,
        **{"contamination.csv": "source,benchmark,exact,near,dropped,spared\ns,all\n"},
    ),
    at_step(
        "card: units of no count",
        "metakl card",
        r"units\.json, u: found others, expected 'count'",
        **CARD,
        **{"contamination.csv": CONTAMINATION, "units.json": '{"u": {}}'},
    ),
    at_step("card: no inputs", "metakl card", r"results/micro/.*: no such file"),
    at_step(
        "card: broken units",
        "metakl card",
        r"units\.json: found .*, expected JSON",
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
        "summary: broken provenance",
        "summary",
        r"provenance\.json: found .*, expected JSON",
        **{"models/x/provenance.json": "{"},
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
            ("UTF-16", lines(QUESTION).encode("utf-16"), r"decontaminated\.jsonl: found .*, expected UTF-8 JSON Lines"),
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
            ("a list for provenance", {"models/tiny-s/provenance.json": "[]"}, r"found list, expected a JSON object"),
            (
                "a hash that is a number",
                {"models/tiny-s/provenance.json": '{"config_hash": 3}'},
                r"provenance\.json, config_hash: Input should be a valid string; make the result again",
            ),
            (
                "no tokenizer",
                {"models/tiny-s/provenance.json": '{"config_hash": "a"}', "models/tiny-s/config.json": "{}"},
                r"tiny-s: found .*, expected a tokenizer",
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
    reported("samples without a verdict", r"line 1: expected either a verdict or several", samples=lines({"id": "a"})),
    reported(
        "an unknown verdict",
        r"line 1, verdict: Input should be 'right', 'wrong' or 'ungradable'",
        samples=lines({**ANSWER, "verdict": "correct"}),
    ),
    reported(
        "more outputs than verdicts",
        r"line 1: expected as many outputs as verdicts",
        samples=lines({"id": "a", "outputs": ["1", "2"], "verdicts": ["right"]}),
    ),
    reported("samples cut off", r"chain2\.jsonl, line 1: found .*, expected a JSON object", samples='{"id": "a", "out'),
    reported(
        "a score of text",
        r"0\.json, benchmarks\.chain3\.score: .*number",
        score='{"benchmarks": {"chain3": {"score": "x", "n": 1}}}',
    ),
    reported("a score that is a list", r"0\.json: found list, expected a JSON object", score="[]"),
    reported(
        "samples that a score is of are gone",
        r"0/chain3\.jsonl: no such file, expected the samples that results/micro/scores/tiny-s/.*/0\.json is of",
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
        "a record nested too deeply",
        r"provenance\.json: found brackets nested too deeply, expected a result",
        "cost",
        **{"pool.jsonl.provenance.json": f'{{"step": "sources", "settings": {"[" * 800}{"]" * 800}}}'},
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
            ("provenance cut off", '{"result": ', r"table2\.csv\.provenance\.json: found .*, expected JSON"),
            (
                "an unknown scale",
                '{"result": "results/tiyn/tables/table2.csv"}',
                r"found scale 'tiyn', .*did you mean 'tiny'",
            ),
        ]
    ),
    Case("verify: a folder", "verify .", r"\.: expected a table's CSV, Markdown or LaTeX"),
    Case("verify: no provenance", "verify results/table2.csv", r"results/table2\.csv: not made yet; .* makes it"),
    Case(
        "verify: no table", "verify results/tabel2.csv --scale micro", r"expected a table's CSV.*did you mean 'table2'"
    ),
]
