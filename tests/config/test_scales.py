"""Every scale loads, and what is misspelt in one is named in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml

from gdpo.config.data import Annotate
from gdpo.config.endpoint import Endpoint
from gdpo.config.loader import load_scale
from gdpo.config.models import Model, Respond
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.core.project import CONFIG
from gdpo.core.records import Domain
from gdpo.metakl.sources import reader_of
from tests.refusal import refused

SCALES = ["micro", "tiny", "smol", "smol-check", "smol-gpu", "smol-hub", "paper", "gpu-first", "gpu-sizes"]


@pytest.mark.parametrize("limit", [None, 16])
@pytest.mark.parametrize("name", SCALES)
def test_every_scale_loads(name: str, limit: int | None) -> None:
    scale = load_scale(name, limit)
    assert scale.name == (f"{name}-limit16" if limit else name)
    assert all(scale.domain_benchmarks(domain) for domain in get_args(Domain))
    if limit:
        assert all(trainset.size <= limit for trainset in scale.trainsets.values())
        assert all(benchmark.items <= limit for benchmark in scale.benchmarks.values())


REAL = ["smol", "smol-check", "smol-gpu", "smol-hub", "smol-origin", "paper"]


@pytest.mark.parametrize("name", REAL)
def test_real_sources_can_be_read(name: str) -> None:
    scale = load_scale(name)
    for name, source in scale.sources.items():
        assert reader_of(name, source)
        assert source.hub or source.mirror or source.gym
    assert not any(scale.sources[benchmark.source].pool for benchmark in scale.benchmarks.values())


@pytest.mark.parametrize("name", REAL)
def test_sources_of_a_grader_share_their_instruction(name: str) -> None:
    """Contamination is found by the question's text, of which the instruction is a part."""
    sources = load_scale(name).sources.values()
    for grader in ("math", "letter", "refusal"):
        assert len({source.instruction for source in sources if source.grader == grader}) <= 1


def test_paper_scale_has_numbers_of_the_paper() -> None:
    scale = load_scale("paper")
    columns = [len(scale.domain_benchmarks(domain)) for domain in ("math", "general", "safety")]
    assert columns == [6, 3, 4]
    assert len(scale.trainsets["metakl"].sources) == 13
    assert len(scale.proficiency.models) == 5
    assert (scale.respond.group_size, scale.trainsets["metakl"].size) == (10, 5661)
    assert {n: b.samples for n, b in scale.benchmarks.items() if b.samples > 1} == {"aime24": 16, "amc23": 16}
    sft, gdpo = scale.methods["sft"], scale.methods["gdpo"]
    assert (sft.learning_rate, sft.epochs, sft.batch_size) == (1e-5, 5, 128)
    assert (gdpo.learning_rate, gdpo.objective.beta, gdpo.batch_size) == (2e-6, 0.1, 128)


@pytest.mark.parametrize("name", ["smol", "smol-check", "smol-gpu", "smol-hub"])
def test_smol_has_columns_of_the_paper_before_its_own(name: str) -> None:
    scale, paper = load_scale(name), load_scale("paper")
    ours = [column for column, benchmark in scale.benchmarks.items() if benchmark.ours]
    assert [column for column in scale.benchmarks if column not in ours] == list(paper.benchmarks)
    assert ours == ["arc-easy", "gym-chain-sum", "gym-gcd", "gym-leg-counting", "gym-family-relationships"]
    for domain in get_args(Domain):  # the paper's come first
        marks = [scale.benchmark(column).ours for column in scale.domain_benchmarks(domain)]
        assert marks == sorted(marks)


def test_teacher_of_smol_is_larger_model_tuned_here() -> None:
    scale = load_scale("smol")
    expert = scale.models[scale.respond.teacher].tuned
    assert expert.base == scale.student_set("large")[0]
    trained = {source for name, entry in scale.trainsets.items() if name != "metakl-g16" for source in entry.sources}
    assert {source for source in expert.sources if not scale.sources[source].pool} == set()
    assert set(expert.sources) - {"star1"} <= trained


def test_trainset_respond_changes_no_hash_of_trainset(tmp_path: Path) -> None:
    """The same questions are chosen, so that its results and those of sets without changes stay as they are."""
    raw = yaml.safe_load((CONFIG / "smol.yaml").read_text())
    changes = {"teacher": raw["students"][0], "temperature": 2.0}
    raw["trainsets"]["metakl"]["respond"] = changes
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(raw))
    before, after = load_scale("smol"), load_scale(path)
    assert after.respond_of("metakl") == Respond(**{**before.respond.model_dump(), **changes})
    assert after.respond_of("union") == before.respond_of("union") == before.respond
    assert fingerprint(after.trainset("metakl")) == fingerprint(before.trainset("metakl"))


@pytest.mark.parametrize("name", ["metakl-noisy", "metakl-weak"])
def test_worse_teachers_answer_same_questions(name: str) -> None:
    scale = load_scale("tiny")
    worse, clean = (scale.trainset(trainset).model_dump(exclude={"display"}) for trainset in (name, "metakl"))
    assert worse == clean
    assert scale.respond_of(name) != scale.respond


IMPORT = {"display": "I", "select": "import", "size": 1, "domain": "math", "paths": ["groups.jsonl"]}
WRONG = [
    ("students", ["smollm2-135m"], {"found": "'smollm2-135m'", "hint": "did you mean 'smollm2-135m-instruct"}),
    ("respond.teacher", "r1", {"found": "'r1'", "hint": "known: expert, gemma"}),
    ("proficiency.models", ["qwen"], {"found": "'qwen'", "hint": "known: "}),
    ("benchmarks.gsm8k.source", "gsm8k-tset", {"found": "'gsm8k-tset'", "hint": "did you mean 'gsm8k-t"}),
    ("benchmarks.gsm8k.max_tokens", 3, {"problem": "unknown key"}),
    ("trainsets.union.parts", ["hardonly"], {"found": "'hardonly'", "hint": "did you mean 'hard-only'?"}),
    ("trainsets.metakl.select", "greedy", {"found": "'greedy'", "expected": "'metakl'"}),
    ("trainsets.metakl.respond.temprature", 2.0, {"problem": "unknown key"}),
    ("trainsets.metakl.respond.temperature", 0, {"found": "0", "expected": "greater than 0"}),
    ("trainsets.metakl.respond.teacher", "r1", {"found": "'r1'", "hint": "known: expert"}),
    ("trainsets.i", IMPORT | {"respond": {"seed": 1}}, {"problem": "'respond' belongs to sets that a teacher answers"}),
    ("methods.gdpo.objective.advantage", "z", {"found": "'z'", "expected": "'literal'"}),
    ("methods.sft.learning_rate", 0, {"found": "0", "expected": "greater than 0"}),
    ("methods.sft.beta", 0.1, {"key": "methods.sft", "problem": "'beta' belongs to trainers dpo and grpo"}),
    ("reward.knee", 5000, {"key": "reward", "found": "knee 5000", "expected": "knee < limit"}),
    ("reward.length", 1.0, {"key": "reward", "expected": "correctness + format + length = 2"}),
    ("models.m", {"display": "M"}, {"expected": "exactly one of 'pretrain', 'reference', 'tuned'"}),
    ("models.m.reference", "hub:Qwen/Qwen3-8B", {"found": "'hub:Qwen/Qwen3"}),
    ("models.expert.tuned.base", "expert", {"found": "'expert', itself tuned here"}),
    ("models.expert.tuned.sources", ["gsm8k"], {"found": "'gsm8k'", "hint": "did you mean"}),
    (
        "models.expert.tuned.method.trainer",
        "dpo",
        {"key": "models.expert.tuned.method", "problem": "'beta' belongs"},
    ),
    ("benchmarks.gsm8k.samples", 2, {"key": "benchmarks.gsm8k", "problem": "needs kind: generate and a temperature"}),
    ("judge", {"backend": "guard"}, {"problem": "'reference' belongs to the backends guard and classifier"}),
    ("sources.star1.domain", "harm", {"found": "'harm'", "expected": "'safety'"}),
    ("sources.star1", "hello", {"found": "str", "expected": "a mapping"}),
    ("sources", [1], {"found": "list", "expected": "a mapping"}),
    ("tables", ["x"], {"found": "list", "expected": "a mapping"}),
    ("seeeds", [0], {"problem": "unknown key", "hint": "did you mean 'seeds'?"}),
]


@pytest.mark.parametrize(("key", "value", "fields"), WRONG, ids=[key for key, _, _ in WRONG])
def test_wrong_entry_is_named(tmp_path: Path, key: str, value: object, fields: dict[str, str]) -> None:
    raw = yaml.safe_load((CONFIG / "smol.yaml").read_text())
    *parents, last = key.split(".")
    entry = raw
    for parent in parents:
        entry = entry.setdefault(parent, {"display": "M"} if parent == "m" else {})
    entry[last] = value
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(raw))
    with refused(path=str(path), **{"key": re.compile(rf"^{re.escape(key)}$"), **fields}) as caught:
        load_scale(path)
    assert "\n" not in str(caught.value)


RENAMED = [
    ("retained: 0.5", "retained", "mastered_threshold"),
    ("selection: {reminders: 3}", "selection.reminders", "replay_per_unit"),
    ("annotate: {taxonomy: {least: 1}}", "annotate.taxonomy.least", "min_skills"),
    ("annotate: {taxonomy: {most: 1}}", "annotate.taxonomy.most", "max_skills"),
    ("merge: {endpoint: {base_url: 'http://x', model: m, asks: 2}}", "merge.endpoint.asks", "max_rephrasings"),
    ("sweep: {further: [0.1]}", "sweep.further", "extended_rates"),
    ("respond: {gold: true}", "respond.gold", "include_gold"),
    ("trainsets: {metakl: {respond: {gold: true}}}", "trainsets.metakl.respond.gold", "include_gold"),
]


@pytest.mark.parametrize(("text", "key", "new"), RENAMED, ids=[key for _, key, _ in RENAMED])
def test_renamed_key_is_refused_with_its_new_name(tmp_path: Path, text: str, key: str, new: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(f"extends: tiny\n{text}\n")
    with refused(path=str(path), key=key, problem=f"'{key.split('.')[-1]}' is called '{new}' since 0.2.0"):
        load_scale(path)


CANARY = "sk-canary-5f3a9c0b7e"
ENDPOINT = {"base_url": "http://x/v1", "model": "m"}
MISPLACED = [
    ("key", {**ENDPOINT, "key": CANARY}, ".key", "the NAME of an environment variable"),
    ("key list", {**ENDPOINT, "key": [CANARY]}, ".key", "the NAME of an environment"),
    ("base_url", {**ENDPOINT, "base_url": f"http://{CANARY}@x"}, ".base_url", "http:// or https:// and a host"),
    ("endpoint", CANARY, "", "a valid dictionary"),
    ("list", [{**ENDPOINT, "key": CANARY}], "", "a valid dictionary"),
]


@pytest.mark.parametrize(("endpoint", "key", "expected"), [m[1:] for m in MISPLACED], ids=[m[0] for m in MISPLACED])
def test_misplaced_api_key_is_not_repeated(tmp_path: Path, endpoint: object, key: str, expected: str) -> None:
    raw = yaml.safe_load((CONFIG / "smol.yaml").read_text())
    raw["models"]["m"] = {"display": "M", "endpoint": endpoint}
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(raw))
    hint = "what was found is not shown"
    with refused(path=str(path), key=f"models.m.endpoint{key}", found=None, expected=expected, hint=hint) as caught:
        load_scale(path)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("text", ["annotate: {endpoint: {key: 'CANARY}}", "key: CANARY: x", "models: [{key: CANARY}]"])
def test_api_key_in_invalid_yaml_is_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"extends: smol\n{text.replace('CANARY', CANARY)}\n")
    with pytest.raises(UserError) as caught:
        load_scale(path)
    assert CANARY not in str(caught.value)
    assert caught.value.expected or "not readable as YAML" in caught.value.problem


def test_endpoint_settings_that_change_no_answer_are_not_hashed() -> None:
    """So that a higher budget makes no finished result again; provenance still says who was asked, and where."""

    def of(**changes: object) -> Model:
        return Model(display="M", endpoint=Endpoint(**ENDPOINT | changes))

    paced = {"concurrency": 1, "timeout": 1, "attempts": 1, "backoff": 9, "key": None}
    paid = {"price": {"prompt": 1, "completion": 2}, "budget": {"money": 3}}
    assert fingerprint(of(**paced, **paid)) == fingerprint(of(budget={"tokens": 3})) == fingerprint(of())
    changed = [
        of(model="n"),
        of(base_url="http://y/v1"),
        of(max_tokens=3),
        of(temperature=1),
        of(top_p=0.5),
        of(max_rephrasings=1),
    ]
    assert len({fingerprint(model) for model in [of(), *changed]}) == 7
    assert of(**paid).model_dump()["endpoint"].items() >= ENDPOINT.items()
    asked = Annotate(backend="openai", endpoint=of(**paid).endpoint)
    assert fingerprint(asked) == fingerprint(Annotate(backend="openai", endpoint=of().endpoint))
    assert asked.model_copy(update={"backend": "source"}).endpoint.budget.money == 3


def test_annotate_fallback_is_hashed_where_used_and_needs_encoder(tmp_path: Path) -> None:
    assert "fallback" not in Annotate().model_dump()
    assert fingerprint(Annotate(fallback="taxonomy")) != fingerprint(Annotate())
    path = tmp_path / "wrong.yaml"
    path.write_text("extends: tiny\nannotate: {fallback: taxonomy}\n")
    with refused(path="wrong.yaml", key="annotate", problem="fallback taxonomy needs an 'encoder'"):
        load_scale(path)


def test_misspelt_scale_is_named() -> None:
    known = re.compile(r"did you mean 'smol'\? known: gpu-first, .*micro, paper, smol, smol-check, ")
    with refused(path="smoll.yaml", problem="no such scale", hint=known):
        load_scale("smoll")


def test_display_names_are_not_hashed() -> None:
    scale = load_scale("tiny")
    method = scale.methods["gdpo"]
    renamed = method.model_copy(update={"display": "Another"})
    faster = method.model_copy(update={"learning_rate": 1.0})
    for of in (lambda m: m, lambda m: [m], lambda m: {"a": (1, m)}, lambda m: m.model_dump()):
        assert fingerprint(of(renamed)) == fingerprint(of(method))
        assert fingerprint(of(faster)) != fingerprint(of(method))
    assert scale.names != scale.model_copy(update={"methods": {"gdpo": renamed}}).names
