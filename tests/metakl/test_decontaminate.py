"""What a benchmark asks leaves the pool, and a report says which source held how much of which benchmark."""

from __future__ import annotations

from pathlib import Path

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.config.scale import Scale
from gdpo.core.files import read_csv, read_json
from gdpo.core.records import Question, read_records
from gdpo.metakl import steps
from gdpo.metakl.contamination import ItemIndex, Match, read_heldout_items
from gdpo.metakl.decontaminate import COLUMNS, Contaminated, SparedQuestion, decontaminate, report_rows
from gdpo.metakl.pool import draw_items
from gdpo.metakl.sources import catalogue
from tests.mirror import MIRROR, mirror_of, needs_mirror
from tests.refusal import refused

STORY = "A baker sells 12 loaves on Monday and twice as many on Tuesday"  # 13 words


def asks(text: str, name: str, source: str = "s") -> Question:
    return Question(id=name, domain="math", source=source, question=text, answer="1", grader="math")


BENCHMARKS = {
    "b": [asks("What is 1+1?", "b1"), asks(f"{STORY}. Then?", "b2"), asks(f"{STORY}. How many?", "b3")],
    "c": [asks("What is 1 + 1?", "c1")],
}
POOL = [
    asks("what is 1+1", "s-1"),  # b1 and c1, word for word
    asks("What is 2+2?", "s-2"),
    asks("Twelve loaves are sold by a baker on Monday and, on Tuesday, twice as many.", "t-1", "t"),  # b2 and b3
    asks(f"{STORY}, of 95 that a miller ground in 34 hours, with flour at 7 cents?", "t-2", "t"),  # other numbers
]


EXACT = {name: Match(benchmark=name[0], item=name, how="exact") for name in ("b1", "c1")}


def test_contaminated_questions_are_dropped_with_their_matches() -> None:
    found = decontaminate(POOL, ItemIndex(BENCHMARKS, texts=POOL))
    assert [question.id for question in found.clean] == ["s-2", "t-2"]
    first, second = found.dropped
    assert first == Contaminated(id="s-1", source="s", matches=[EXACT["b1"], EXACT["c1"]])
    assert second.id == "t-1"
    assert [(match.item, match.how) for match in second.matches] == [("b2", "near"), ("b3", "near")]
    assert {"baker", "loaves", "12"} <= set(second.matches[0].words.split())
    assert second.matches[0].run == "on monday and"


def test_spared_questions_are_kept_with_the_reason() -> None:
    [spared] = decontaminate(POOL, ItemIndex(BENCHMARKS, texts=POOL)).spared
    assert isinstance(spared, SparedQuestion) and spared.id == "t-2"
    assert [(item.item, item.why) for item in spared.items] == [("b2", "words"), ("b3", "words")]
    assert "miller" in spared.items[0].other.split()
    assert spared.items[0].run == STORY.lower()


def test_report_rows_by_hand() -> None:
    """Of four questions s-1 asks b1 and c1, t-1 b2 and b3, and t-2 shares words with these: a row a pair, and sums."""
    found = decontaminate(POOL, ItemIndex(BENCHMARKS, texts=POOL))
    rows = [[row[column] for column in COLUMNS] for row in report_rows(POOL, found, BENCHMARKS)]
    assert rows == [
        ["s", "b", 2, 1, 0, 1, 0, 3, 1],
        ["s", "c", 2, 1, 0, 1, 0, 1, 1],
        ["s", "all", 2, 1, 0, 1, 0, 4, 2],
        ["t", "b", 2, 0, 1, 1, 1, 3, 2],
        ["t", "all", 2, 0, 1, 1, 1, 4, 2],
        ["all", "b", 4, 1, 1, 2, 1, 3, 3],
        ["all", "c", 4, 1, 0, 1, 0, 1, 1],
        ["all", "all", 4, 1, 1, 2, 1, 4, 4],
    ]


def test_made_up_world_has_no_contamination(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scale = load_scale("micro")
    layout = Layout(scale)
    steps.benchmark(scale, None)
    steps.sources(scale, None)
    steps.decontaminate(scale)
    items = read_heldout_items(layout.heldout_items)
    assert {name: len(found) for name, found in items.items()} == dict.fromkeys(scale.benchmarks, 50 + 10)
    written = [q for split in ("test", "validation") for q in read_records(layout.benchmark("chain2", split), Question)]
    assert items["chain2"] == written
    assert layout.decontaminated.read_bytes() == layout.pool.read_bytes()
    assert read_records(layout.contaminated, Contaminated) == []


def small(tmp_path: Path) -> tuple[Scale, Path]:
    """smol with three sources of a mirror of five rows: GSM8K's both parts, and MATH-500 to protect."""
    rows = [{"question": f"What is {n} + {n}?", "answer": f"#### {2 * n}"} for n in range(1, 4)]
    mirror_of(tmp_path, *rows, file="gsm8k/train.jsonl")
    mirror_of(tmp_path, rows[0], {"question": "What is 9 + 9?", "answer": "#### 18"}, file="gsm8k/test.jsonl")
    mirror_of(tmp_path, {"problem": "What is 2 + 2?", "answer": "4"}, file="math500/test.jsonl")
    scale = load_scale("smol")
    sources = {name: scale.sources[name] for name in ("gsm8k-train", "gsm8k-test", "math500")}
    benchmark = scale.benchmarks["gsm8k"].model_copy(update={"items": 1})
    clean = scale.decontaminate.model_copy(update={"protect": ["math500"]})
    changes = {"sources": sources, "benchmarks": {"gsm8k": benchmark}, "decontaminate": clean}
    return scale.model_copy(update=changes), tmp_path


def test_heldout_items_include_protected_sources(tmp_path: Path, monkeypatch) -> None:
    """One item is scored, but both of the benchmark's are kept from training, and MATH-500's too."""
    monkeypatch.chdir(tmp_path)
    scale, mirror = small(tmp_path)
    layout = Layout(scale)
    steps.benchmark(scale, mirror)
    steps.sources(scale, mirror)
    steps.decontaminate(scale)
    assert len(read_records(layout.benchmark("gsm8k", "test"), Question)) == 1
    items = {name: [item.id for item in found] for name, found in read_heldout_items(layout.heldout_items).items()}
    assert items == {"gsm8k": ["gsm8k-test-1", "gsm8k-test-2"], "math500": ["math500-1"]}
    assert [question.id for question in read_records(layout.decontaminated, Question)] == ["gsm8k-train-3"]
    found = {entry.id: entry.matches[0] for entry in read_records(layout.contaminated, Contaminated)}
    assert found == {
        "gsm8k-train-1": Match(benchmark="gsm8k", item="gsm8k-test-1", how="exact"),
        "gsm8k-train-2": Match(benchmark="math500", item="math500-1", how="exact"),
    }
    assert len(read_csv(layout.contamination)) == 6
    provenance = read_json(layout.pool.with_name("pool.jsonl.provenance.json"))
    assert provenance["sources"]["gsm8k-train"]["revision"].startswith("mirror:gsm8k/train.jsonl@sha256:")


def test_gated_source_leaves_an_empty_file_with_the_reason(tmp_path: Path, monkeypatch, capsys) -> None:
    """One benchmark and one protected source are gated: no items, the reason beside them, and the rest goes on."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def absent(_: object, path: str, **__: object) -> None:
        asked.append(path)
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", absent)
    scale, mirror = small(tmp_path)
    catalogue_of = catalogue()
    gated = {name: catalogue_of[name] for name in ("gpqa-diamond", "wildjailbreak-eval")}
    gpqa = scale.benchmarks["gsm8k"].model_copy(update={"source": "gpqa-diamond", "domain": "general"})
    clean = scale.decontaminate.model_copy(update={"protect": ["math500", "wildjailbreak-eval"]})
    changes = {"sources": scale.sources | gated, "benchmarks": scale.benchmarks | {"gpqa": gpqa}}
    scale = scale.model_copy(update=changes | {"decontaminate": clean})
    layout = Layout(scale)
    steps.benchmark(scale, mirror)
    assert layout.benchmark("gpqa", "test").read_bytes() == b""
    reasons = {s.hub.path: f"{s.hub.path} is gated on the Hub, which does not answer" for s in gated.values()}
    assert layout.unavailable() == {"gpqa": reasons["Idavidrein/gpqa"]}
    assert read_heldout_items(layout.heldout_items).keys() == {"gsm8k", "math500"}
    recorded = read_json(layout.heldout_items.with_name("guarded.jsonl.provenance.json"))["unavailable"]
    assert recorded == {name: reasons[source.hub.path] for name, source in gated.items()}
    read = read_json(layout.root / "benchmarks/test/gsm8k.jsonl.provenance.json")["revision"]
    assert read.startswith("mirror:gsm8k/test.jsonl@sha256:")
    assert asked == ["Idavidrein/gpqa", "allenai/wildjailbreak"]  # each once
    assert "sources.gpqa-diamond: left empty, since Idavidrein/gpqa is gated" in capsys.readouterr().err


def test_unreadable_open_source_stops_the_step(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    scale, mirror = small(tmp_path)
    scale.sources["math500"] = scale.sources["math500"].model_copy(update={"mirror": None, "hub": None})
    with refused(key="sources.math500", found="no 'hub' entry"):
        steps.benchmark(scale, mirror)


def test_draw_items_by_seed_is_nested() -> None:
    questions = [asks(f"Q{n}", f"q{n}") for n in range(100)]
    assert draw_items(questions, 3, None) == questions[:3]
    assert draw_items(questions, None, 7) == questions
    twenty, ten = draw_items(questions, 20, 7), draw_items(questions, 10, 7)
    assert [q.id for q in twenty] == sorted((q.id for q in twenty), key=lambda name: int(name[1:]))
    assert len(set(twenty_ids := [q.id for q in twenty])) == 20
    assert {q.id for q in ten} < set(twenty_ids)
    assert twenty_ids != [q.id for q in draw_items(questions, 20, 8)]
    assert max(int(name[1:]) for name in twenty_ids) >= 50  # not the first


@needs_mirror
@pytest.mark.long
def test_all_math500_items_are_matched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    scale = load_scale("smol")
    layout = Layout(scale)
    steps.benchmark(scale, MIRROR)
    steps.sources(scale, MIRROR)
    steps.decontaminate(scale)
    rows = {(row["source"], row["benchmark"]): row for row in read_csv(layout.contamination)}
    caught = rows["math-test5000", "math500"]
    assert (caught["exact"], caught["items"], caught["caught"]) == ("500", "500", "500")
    assert rows["advbench", "strongreject"]["exact"] == "25"
    kept = read_records(layout.decontaminated, Question)
    assert len(kept) >= 30_000
    assert {question.domain for question in kept} == {"math", "general", "safety"}
