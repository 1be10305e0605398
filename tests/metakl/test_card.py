"""The data card, from a set whose every number is counted by hand (tests/metakl/small_trainset.py)."""

from __future__ import annotations

import pytest

from gdpo.config.layout import Layout
from gdpo.config.loader import load_scale
from gdpo.core.records import Question, read_records, write_records
from gdpo.metakl import steps
from gdpo.metakl.card import card, noncommercial, terms
from tests.metakl import small_trainset
from tests.refusal import refused


@pytest.fixture
def layout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return small_trainset.make()


def section(text: str, title: str) -> list[str]:
    """The lines below a heading."""
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0].split("\n")


def test_questions_are_counted_from_reading_to_selection(layout):
    """GSM8K: 8 rows, less 1 unusable and 2 repeated, are the pool's 5; 2 are benchmark items, 3 are left, 2 of the
    set's 4 come from it."""
    lines = section(card(layout, "metakl"), "Questions by source")
    assert lines[0] == (
        "| domain | source | rows read | unusable | repeated | pool | benchmark items | annotated | selected "
        "| share of the set |"
    )
    assert lines[2:] == [
        "| math | gsm8k-train | 8 | 1 | 2 | 5 | 2 | 3 | 2 | 50.0% |",
        "| general | logiqa2-dev | 2 | 0 | 0 | 2 | 0 | 2 | 1 | 25.0% |",
        "| general | mmlu-validation | 1,531 | 1,529 | 1 | 1 | 0 | 1 | 0 | 0.0% |",
        "| safety | advbench | 1 | 0 | 0 | 1 | 0 | 1 | 1 | 25.0% |",
        "| all | total | 1,542 | 1,530 | 3 | 9 | 2 | 7 | 4 | 100.0% |",
    ]


def test_dropped_questions_are_counted_by_reason_and_benchmark(layout):
    """Of the two questions dropped one is an item word for word, the other a near duplicate of items of two."""
    lines = section(card(layout, "metakl"), "What was dropped and why")
    assert lines[2:6] == [
        "| has no question or no answer that can be checked | 1 | 1,529 | 0 | 1,530 |",
        "| repeats a question of the pool | 2 | 1 | 0 | 3 |",
        "| is a benchmark's item | 1 | 0 | 0 | 1 |",
        "| is a near duplicate of one | 1 | 0 | 0 | 1 |",
    ]
    assert lines[-2:] == ["| gsm8k | 3 | 1 | 1 | 1 | 2 | 0 |", "| math500 | 2 | 1 | 0 | 1 | 1 | 0 |"]


def test_units_per_question(layout):
    """Of the pool's seven questions with units: math has 2, 1 and 6 units, general 1, 2 and 1, safety 1; 14 / 7 = 2."""
    lines = section(card(layout, "metakl"), "Units per question")
    assert lines[2:] == [
        "| pool | math | 3 | 1 | 1 | 0 | 0 | 1 | 3.00 |",
        "| pool | general | 3 | 2 | 1 | 0 | 0 | 0 | 1.33 |",
        "| pool | safety | 1 | 1 | 0 | 0 | 0 | 0 | 1.00 |",
        "| pool | all | 7 | 4 | 2 | 0 | 0 | 1 | 2.00 |",
        "| selected | math | 2 | 0 | 1 | 0 | 0 | 1 | 4.00 |",
        "| selected | general | 1 | 0 | 1 | 0 | 0 | 0 | 2.00 |",
        "| selected | safety | 1 | 1 | 0 | 0 | 0 | 0 | 1.00 |",
        "| selected | all | 4 | 1 | 2 | 0 | 0 | 1 | 2.75 |",
    ]


def test_units_by_frequency_and_by_proficiency(layout):
    """addition is in three questions left, two of them selected. Fewer than ten were measured of every unit, so those
    with as many as the commonest, 2, are shown: addition alone."""
    text = "\n".join(section(card(layout, "metakl"), "Knowledge units"))
    assert text.startswith("10 units in the pool, 7 of them in one question alone; 9 in the set.")
    assert "| addition | - | 3 | 2 |\n| logic | - | 2 | 1 |\n| reading | - | 2 | 2 |\n| counting | - | 1 | 1 |" in text
    assert text.count("with 2 measured questions or more") == 2
    assert text.count("| addition | 2 | 0.500 | 0.500 |") == 2
    assert "| division | 1 |" not in text


def test_proficiency_counts_measured_and_unmeasured_questions(layout):
    """Asked: two math questions (one right), one general (half), one safety (none): 1.5 of 4. One math question of the
    set was not asked."""
    text = card(layout, "metakl")
    lines = section(text, "Proficiency")
    display = layout.scale.model(layout.scale.proficiency.models[0]).display
    assert f"| {display} | 37.5% |" in lines
    assert "| pool | all | 7 | 4 | 3 | 57.1% |" in lines
    assert "| selected | math | 2 | 1 | 1 | 50.0% |" in lines
    assert "| selected | all | 4 | 3 | 1 | 75.0% |" in lines
    assert "Questions that were not asked take the mean of their units." in text


def test_card_without_proficiency_omits_its_sections(layout):
    layout.proficiency.unlink()
    layout.unit_proficiency.unlink()
    text = card(layout, "metakl")
    assert "## Proficiency" not in text
    assert "Mastered" not in text


def test_licences_name_the_strictest(layout):
    """Three of four selected questions stand under MIT, one under CC-BY-NC-SA-4.0; MMLU has none selected."""
    lines = section(card(layout, "metakl"), "Licences")
    assert lines[2:4] == [
        "| MIT | gsm8k-train, advbench | 3 | 75.0% |",
        "| CC-BY-NC-SA-4.0 | logiqa2-dev | 1 | 25.0% |",
    ]
    assert (
        "A set of several licences carries the strictest terms of its parts. 1 of 4 questions are licensed for "
        "non-commercial use alone (CC-BY-NC-SA-4.0), and so is the set as a whole; the rest is not. What is made of "
        "the set must be shared under the same terms (CC-BY-NC-SA-4.0)."
    ) in lines


def test_terms_by_hand():
    assert terms({"MIT": 5}) == "No question is licensed for non-commercial use alone."
    mixed = terms({"MIT": 5, "CC-BY-SA-4.0": 1})
    assert "No question is licensed for non-commercial use alone." in mixed
    assert mixed.endswith("(CC-BY-SA-4.0).")
    found = [
        noncommercial(name) for name in ("CC-BY-NC-4.0", "research, non-commercial", "NCSA", "MIT", "CC-BY-SA-4.0")
    ]
    assert found == [True, True, False, False, False]


def test_stand_ins_gates_and_absent_sources(layout):
    lines = section(card(layout, "metakl"), "Where the sources come from")
    assert lines[2:6] == [
        "| gsm8k-train | openai/gsm8k | hub:openai/gsm8k@abc | no | numina-math |",
        "| logiqa2-dev | - | mirror:logiqa2/dev.jsonl@sha256:def | no | logiqa2-train |",
        "| mmlu-validation | cais/mmlu | hub:cais/mmlu@abc | no | - |",
        "| advbench | walledai/AdvBench | hub:walledai/AdvBench@abc | yes | ultrasafety |",
    ]
    assert lines[-1].endswith(
        "OpenAI-MATH (44), CommonsenseQA (390), CommonsenseQA 2.0 (589), ALERT (27), BeaverTails (167), "
        "WildJailbreak (439), PKU-SafeRLHF (115), HH-RLHF (41) and Do-Anything-Now (330)."
    )


def test_examples_omit_harmful_requests_and_escape_cells(layout):
    text = card(layout, "metakl")
    lines = section(text, "Ten questions")[2:]
    assert len(lines) == 4
    assert "| gsm8k-train-1 | What is \\$1 + 2\\$ \\| 3? | addition, division |" in lines
    assert "| advbench-1 | (not printed) | refusing_poison |" in lines
    assert "poison a well" not in text
    assert small_trainset.BOXED not in text


def test_how_it_was_made_follows_the_settings(layout):
    text = card(layout, "metakl")
    assert "4 public data sets; of 1 of them the first so many questions." in text
    assert "near duplicates, whose own words" in text
    assert "and the sources `gsm8k-test`." in text
    assert "Asked 2 math questions, once, greedily" in text
    assert "every question of 5 units or more" in text


def test_equal_inputs_give_equal_bytes(layout):
    """The pool's provenance is written anew, at another time; a question less in the set changes the text."""
    first = card(layout, "metakl")
    small_trainset.record(layout)
    assert card(layout, "metakl") == first
    small_trainset.write_set(layout, small_trainset.CHOSEN[1:])
    assert card(layout, "metakl") != first


def test_pool_without_provenance_omits_reading_counts(layout):
    layout.pool.with_name("pool.jsonl.provenance.json").unlink()
    text = card(layout, "metakl")
    assert "| math | gsm8k-train | 5 | 2 | 3 | 2 | 50.0% |" in section(text, "Questions by source")
    assert "has no question" not in text


def test_imported_groups_have_no_card(layout):
    with refused(key="trainsets.taken", found="imported groups"):
        card(layout, "taken")


def test_questions_are_not_evaluated_as_templates(layout):
    questions = read_records(layout.trainset("metakl"), Question)
    questions = [question.model_copy(update={"question": "{{ 7 + 7 }} {% if %}"}) for question in questions]
    write_records(layout.trainset("metakl"), questions)
    assert "| gsm8k-train-1 | {{ 7 + 7 }} {% if %} | addition, division |" in section(
        card(layout, "metakl"), "Ten questions"
    )


def test_a_made_up_world_has_a_card(tmp_path, monkeypatch):
    """Micro's own steps; its questions carry this project's licence and no sources."""
    monkeypatch.chdir(tmp_path)
    scale = load_scale("micro")
    steps.benchmark(scale, None)
    steps.sources(scale, None)
    steps.decontaminate(scale)
    steps.annotate(scale)
    steps.merge(scale)
    steps.select(scale, "safety-only")
    steps.card(scale, "safety-only")
    text = Layout(scale).card("safety-only").read_text()
    size = scale.trainset("safety-only").size
    assert text.startswith(
        f"# {scale.trainset('safety-only').display}, scale micro\n\n{size} questions ({size} safety)"
    )
    assert section(text, "Licences")[2].startswith("| Apache-2.0 |")
    assert "## Where the sources come from" not in text
    assert text.endswith("|\n")
