"""Every architecture of the paper goes through every method: trained, saved, loaded as it was, sampled and scored."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from gdpo.config.benchmarks import Benchmark
from gdpo.config.models import Lora, Method, Model, Objective
from gdpo.core.records import Group, Question, chat, write_records
from gdpo.evaluate import harness
from gdpo.evaluate.samples import score
from gdpo.models.checkpoints import fetch
from gdpo.models.sampling import complete
from gdpo.models.sampling_types import Sampling
from gdpo.students import train_run
from tests.trainer.architectures.families import FAMILIES, write

ASKED = [
    Question(id=f"q{n}", domain="math", source="made", question=f"What is {n} + 2?", answer=f"{n + 2}", grader="math")
    for n in range(4)
]
LETTERED = [
    Question(
        id=f"c{n}", domain="general", source="made", question=f"Which is number {n}?", answer="A", grader="letter",
        choices=["The first one", "The second", "Neither of them"],
    )
    for n in range(3)
]  # fmt: skip
LORA = Lora(r=2, alpha=4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Each family's checkpoint, as the workflow has it: linked from where it was downloaded to."""
    root = tmp_path_factory.mktemp("checkpoints")
    torch.set_num_threads(1)
    for name, family in FAMILIES.items():
        write(family, root / "hub" / name)
        fetch(Model(display=name, reference=f"dir:{root / 'hub' / name}"), root / name)
    return root


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    path = tmp_path_factory.mktemp("items")
    write_records(path / "sums.jsonl", ASKED)
    write_records(path / "letters.jsonl", LETTERED)
    return path


def groups() -> list[Group]:
    """Whole completions: with a thought, with an empty one, with none, and one that was cut off in its thought."""
    made = []
    for question in ASKED:
        texts = [
            f"<think>\nOkay, so I add.\n</think>\n\nThe answer is {question.answer}.",
            f"<think>\n\n</think>\n\n{question.answer}",
            "The answer is 9.",
            "<think>\nOkay, so I have to add",
        ]
        made.append(
            Group(id=question.id, domain="math", prompt=chat(question), completions=texts, rewards=[2.0, 1.5, 0.5, 0.0])
        )
    return made


def method(trainer: str, **changes) -> Method:
    settings = {
        "display": trainer,
        "trainer": trainer,
        "learning_rate": 1e-2,
        "epochs": 1,
        "batch_size": 2,
        "micro_batch_size": 1,
        "warmup_ratio": 0.0,
        "max_length": 256,
        "beta": 0.1 if trainer in ("dpo", "grpo") else None,
        "objective": None,
    }
    if trainer == "gdpo":
        shifted = Objective(beta=0.1, pairs="adjacent", link="sigmoid", advantage="shifted", length="sum")
        settings["objective"] = shifted
    if trainer == "grpo":
        settings |= {"group_size": 4, "max_new_tokens": 4}
    return Method(**settings | changes)


def reward_length(completions, **_):
    """A reward that any student can move: how long its answers are."""
    return [len(messages[0]["content"]) / 10 for messages in completions]


class Eye(TrainerCallback):
    """Stands where a run's watch does, and keeps what the trained model says of one text at the end."""

    paused = 0.0
    rollouts = None

    def __init__(self, ids: torch.Tensor):
        self.ids = ids

    def start_clock(self) -> None:
        pass

    @torch.inference_mode()
    def on_train_end(self, args, state, control, model=None, **_) -> None:
        model.eval()
        self.logits = model(input_ids=self.ids).logits.float()


def trained(base, out, chosen: Method, dtype: str = "float32"):
    """A run's metrics and what its model said of a text before it was saved."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    eye = Eye(torch.tensor([tokenizer("Okay, so 2 + 2 is the answer.")["input_ids"]]))
    metrics = train_run(
        base=base, method=chosen, groups=groups(), out=out, work=out.parent / "work", seed=0, dtype=dtype,
        reward_fn=reward_length, watch=eye,
    )  # fmt: skip
    return metrics, eye


def loads_as_it_was_trained(out, eye: Eye, tolerance: float) -> None:
    model = AutoModelForCausalLM.from_pretrained(out, use_safetensors=True)
    with torch.inference_mode():
        found = model(input_ids=eye.ids).logits.float()
    assert torch.allclose(found, eye.logits, rtol=0, atol=tolerance), (found - eye.logits).abs().max()


def keeps_its_settings(base, out) -> None:
    before, after = (json.loads((path / "config.json").read_text()) for path in (base, out))
    assert after == before
    assert json.loads((out / "generation_config.json").read_text()) == json.loads(
        (base / "generation_config.json").read_text()
    )
    first, second = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(out)
    assert second.chat_template == first.chat_template
    talk = [*chat(ASKED[0]), {"role": "assistant", "content": "<think>\nOkay.\n</think>\n\n2"}]
    for turns in (talk, talk[:1]):
        ends = {"add_generation_prompt": len(turns) == 1, "return_dict": False}
        assert second.apply_chat_template(turns, **ends) == first.apply_chat_template(turns, **ends)
    text = "Okay, so  12 + 2?\n\n\té <think>\nx</think>"
    assert second(text)["input_ids"] == first(text)["input_ids"]
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(second, token) == getattr(first, token)


def is_sampled_and_scored(out, items, cache) -> None:
    sampling = Sampling(samples=2, temperature=0.7, top_p=0.9, max_new_tokens=4, batch_size=4, seed=0)
    texts = complete(Model(display="", reference="dir:x"), out, [chat(q) for q in ASKED], sampling, cache)
    assert [len(pair) for pair in texts] == [2] * len(ASKED)
    assert len({text for pair in texts for text in pair}) > 1
    benchmark = Benchmark(display="", domain="math", source="made", max_new_tokens=4)
    chosen = benchmark.model_copy(update={"kind": "choose", "domain": "general"})
    asked = {"sums": (benchmark, items / "sums.jsonl"), "letters": (chosen, items / "letters.jsonl")}
    rows = harness.evaluate(out, "float32", asked, 4)
    assert [row["id"] for row in rows["sums"]] == [q.id for q in ASKED]
    assert {row["verdict"] for row in rows["sums"]} <= {"right", "wrong", "ungradable"}
    assert {row["output"] for row in rows["letters"]} <= set("ABC")
    assert score(rows["letters"])["n"] == len(LETTERED)


@pytest.mark.parametrize("trainer", ["sft", "dpo", "grpo", "gdpo"])
@pytest.mark.parametrize("name", FAMILIES)
def test_student_of_every_architecture_trains_saves_samples_and_scores(name, trainer, checkpoints, items, tmp_path):
    """Every tensor moves, Qwen2's biases and Qwen3's norms too; the checkpoint is the trained model, bit by bit."""
    base, out = checkpoints / name, tmp_path / "out"
    metrics, eye = trained(base, out, method(trainer))
    assert math.isfinite(metrics["train_loss"]) and metrics["steps"] == 2 and metrics["too_long"] == 0
    start, end = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    assert end.keys() == start.keys()
    assert {name for name in end if torch.equal(start[name], end[name])} == set()
    loads_as_it_was_trained(out, eye, 0.0)
    keeps_its_settings(base, out)
    model = AutoModelForCausalLM.from_pretrained(out)
    tied = model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    assert tied == FAMILIES[name].tied == ("lm_head.weight" not in end)
    is_sampled_and_scored(out, items, tmp_path / "cache.jsonl")


@pytest.mark.parametrize(
    "trainer", [*(pytest.param(t, marks=pytest.mark.long) for t in ("sft", "dpo", "grpo")), "gdpo"]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_is_merged(name, trainer, checkpoints, tmp_path):
    """Every linear layer but the head moves, and nothing else; merged, it computes what it did beside the weights."""
    base, out = checkpoints / name, tmp_path / "out"
    metrics, eye = trained(base, out, method(trainer, lora=LORA))
    assert math.isfinite(metrics["train_loss"])
    start, end = load_file(base / "model.safetensors"), load_file(out / "model.safetensors")
    assert end.keys() == start.keys()
    moved = {name for name in end if not torch.equal(start[name], end[name])}
    assert moved == {name for name in end if name.endswith("_proj.weight")}
    loads_as_it_was_trained(out, eye, 1e-5)
    keeps_its_settings(base, out)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bfloat16_run_is_saved_as_such(name, checkpoints, tmp_path):
    """Trained in float32 under autocast, as the paper scale trains; the checkpoint differs by bfloat16's rounding."""
    base, out = checkpoints / name, tmp_path / "out"
    metrics, eye = trained(base, out, method("gdpo"), "bfloat16")
    assert math.isfinite(metrics["train_loss"])
    end = load_file(out / "model.safetensors")
    assert {values.dtype for values in end.values()} == {torch.bfloat16}
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    loads_as_it_was_trained(out, eye, 0.05)
