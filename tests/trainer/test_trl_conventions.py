"""What a user of TRL's trainers expects of GDPOTrainer: arguments, data sets, settings, logs and cards in their forms.

docs/trl_tests.md lists the subjects of TRL's own DPO tests with the test here that holds each.
"""

from __future__ import annotations

import doctest
import json
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDatasetDict
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    HfArgumentParser,
    LlamaConfig,
    LlamaForSequenceClassification,
    TrainingArguments,
)
from transformers.utils import logging as transformers_logging
from trl import TrlParser

import gdpo
from gdpo.core.errors import ArgumentError
from gdpo.trainer.dataset import DataError, Dropped, prompt_ids, tokenize_groups
from gdpo.trainer.gdpo_config import CHOICES, GDPOConfig
from gdpo.trainer.gdpo_trainer import GDPOTrainer
from gdpo.trainer.model_card import CITATION, TITLE
from gdpo.trainer.objective import gdpo_loss
from gdpo.trainer.rows import as_rows
from tests.refusal import refused

ROWS = [
    {"prompt": "1 +", "completions": ["2", "3 4", "2"], "rewards": [1.0, 0.0, 1.0]},
    {"prompt": "2 + 2", "completions": ["4", "5 5 5 5"], "rewards": [2.0, 1.0]},
    {"prompt": "9 =", "completions": ["9", "= 9", "8", "7 7"], "rewards": [1.0, 0.5, 0.2, 0.1]},
]
CHAT = [{"role": "user", "content": "2 + 2"}]


def config(path, **changes) -> GDPOConfig:
    settings = {"per_device_train_batch_size": 3, "learning_rate": 1e-2, "num_train_epochs": 1, "logging_steps": 1}
    fixed = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    return GDPOConfig(str(path), **settings | fixed | changes)


def trainer(student, path, rows=ROWS, given=None, **changes) -> GDPOTrainer:
    return GDPOTrainer(str(student), args=config(path, **changes), train_dataset=rows, **(given or {}))


def weights(model) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(made, before) -> set[str]:
    return {name for name, value in weights(made.model).items() if not torch.equal(value, before[name])}


@pytest.fixture
def said(caplog):
    """What transformers' logger warns of."""
    transformers_logging.enable_propagation()
    yield lambda: [record.getMessage() for record in caplog.records]
    transformers_logging.disable_propagation()


# Data sets in all their forms

KINDS = {
    "list": lambda rows: rows,
    "dataset": Dataset.from_list,
    "stream": lambda rows: Dataset.from_list(rows).to_iterable_dataset(),
    "generator": lambda rows: (row for row in rows),
    "dataset_dict": lambda rows: DatasetDict({n: Dataset.from_list(rows) for n in ("one", "two")}),
    "stream_dict": lambda rows: IterableDatasetDict(
        {n: Dataset.from_list(rows).to_iterable_dataset() for n in ("one", "two")}
    ),
    "dict_of_lists": lambda rows: {n: rows for n in ("one", "two")},
    "dict_of_streams": lambda rows: {n: Dataset.from_list(rows).to_iterable_dataset() for n in ("one", "two")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_evaluate_with_each_kind_of_eval_dataset(kind, student, tmp_path):
    """Given at once or to `evaluate` before training, a set scores the same; named sets are logged by their names."""
    held = trainer(student, tmp_path, given={"eval_dataset": KINDS[kind](ROWS[1:])})
    late = trainer(student, tmp_path)
    metrics = held.evaluate()
    again = late.evaluate(KINDS[kind](ROWS[1:]))
    names = ["eval_one_", "eval_two_"] if "dict" in kind else ["eval_"]
    for name in names:
        assert metrics[f"{name}loss"] == again[f"{name}loss"] == pytest.approx(-0.5, abs=1e-5)
        assert f"{name}kl" in metrics and f"{name}rewards/accuracies" in metrics
    assert [key for key in metrics if key.endswith("_loss")] == [f"{name}loss" for name in names]


def test_init_without_eval_dataset(student, tmp_path):
    assert trainer(student, tmp_path).eval_dataset is None


def test_train_with_several_eval_sets(student, tmp_path):
    """Each set is evaluated during training, with numbers of its own, and after it by name or all at once."""
    sets = {"first": ROWS[:1], "rest": ROWS[1:]}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_rest_loss", "save_strategy": "epoch"}
    made = trainer(student, tmp_path, given={"eval_dataset": sets}, eval_strategy="epoch", num_train_epochs=2, **best)
    made.train()
    logged = [entry for entry in made.state.log_history if "eval_first_loss" in entry or "eval_rest_loss" in entry]
    assert [sum(name in entry for entry in logged) for name in ("eval_first_kl", "eval_rest_kl")] == [2, 2]
    assert not any(key.startswith("eval_kl") for entry in logged for key in entry)
    metrics = made.evaluate()
    assert metrics["eval_first_loss"] != metrics["eval_rest_loss"]
    assert made.evaluate("rest")["eval_loss"] == metrics["eval_rest_loss"] == pytest.approx(made.state.best_metric)


def test_train_with_a_stream(student, tmp_path, said):
    """A stream is read once, to its end, with a sentence, and trains as the same rows do; no `max_steps` is needed."""
    ends = []
    for kind in ("stream", "list"):
        made = trainer(student, tmp_path / kind, KINDS[kind](ROWS))
        made.train()
        ends.append(torch.cat([p.flatten() for p in made.model.parameters()]))
    assert torch.equal(*ends)
    assert "train_dataset: the stream's 3 rows are read once and kept in memory" in said()


def test_a_formatted_stream_and_a_torch_data_set_are_rows():
    stream = as_rows("train_dataset", Dataset.from_list(ROWS).to_iterable_dataset().with_format("torch"))
    assert isinstance(stream, list) and stream[0]["rewards"] == [1.0, 0.0, 1.0]

    class Torch(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, place):
            return ROWS[place]

    assert as_rows("train_dataset", Torch()) == ROWS[:2]


@pytest.mark.parametrize(
    ("given", "key", "found", "hint"),
    [
        (None, "train_dataset", "none", None),
        (5, "train_dataset", "int", None),
        ("rows.jsonl", "train_dataset", "str", None),
        (DatasetDict({"train": Dataset.from_list(ROWS)}), "train_dataset", "DatasetDict", "choose one of train"),
    ],
)
def test_train_dataset_required(given, key, found, hint, student, tmp_path):
    with refused(DataError, key=key, found=found, expected="a list or a datasets.Dataset of groups") as caught:
        trainer(student, tmp_path, given)
    assert caught.value.hint == hint


@pytest.mark.parametrize("row", [{"prompt": "1", "chosen": "2", "rejected": "3"}, {"chosen": "1 2", "rejected": "1 3"}])
def test_preference_rows_are_refused_with_how_to_make_groups(row, student, tmp_path):
    with refused(DataError, hint="completions=[chosen, rejected], rewards=[1, 0]"):
        trainer(student, tmp_path, [row])


@pytest.mark.parametrize("form", ["text", "messages"])
def test_train_dataset_format(form, student, tmp_path):
    """Plain text and conversations, the completions of which are messages or text."""
    rows = ROWS
    if form == "messages":
        answers = [[{"role": "assistant", "content": text}] for text in ("4", "5 5")]
        rows = [{"prompt": CHAT, "completions": c, "rewards": [1.0, 0.0]} for c in (answers, ["4", "5 5"])]
    made = trainer(student, tmp_path, rows)
    before = weights(made.model)
    made.train()
    assert changed(made, before) == set(before)


# Empty completions, prompts that are too long


def test_empty_completions_are_refused_or_dropped_and_counted(student, tmp_path, said):
    """Of these groups the first loses one completion; the second keeps one alone, and goes; the third stays."""
    message = [[{"role": "assistant", "content": text}] for text in ("4", " ", "5")]
    rows = [
        {"prompt": "1 +", "completions": ["2", "", "3"], "rewards": [1.0, 0.5, 0.0]},
        {"prompt": "1 +", "completions": ["2", " \n"], "rewards": [1.0, 0.0]},
        {"prompt": CHAT, "completions": message, "rewards": [1.0, 0.5, 0.0]},
    ]
    with refused(DataError, key="row 0, completions[1]", found="''", expected="text", hint="empty_completions='drop'"):
        trainer(student, tmp_path, rows)
    with refused(DataError, key="row 0, completions[1]", hint="empty_completions='drop'"):
        trainer(student, tmp_path, rows[2:])
    made = trainer(student, tmp_path, rows, empty_completions="drop")
    assert made.groups.dropped == {"train_dataset": Dropped(empty_completions=3, small_groups=1)}
    assert [group["rewards"] for group in made.train_dataset] == [[1.0, 0.0], [1.0, 0.0]]
    dropped = "train_dataset: 3 empty completions are dropped, and 1 groups that have fewer than two without them"
    assert dropped in said()


def test_fully_truncated_groups_are_refused_or_dropped_and_counted(student, tmp_path, said):
    rows = [*ROWS, ROWS[0] | {"prompt": "1 " * 8}]
    settings = {"max_length": 8}
    with refused(
        DataError, key="row 3, prompt", found=8, expected="fewer than max_length=8 tokens", hint="long_prompts"
    ):
        trainer(student, tmp_path, rows, **settings)
    made = trainer(student, tmp_path, rows, long_prompts="drop", **settings, given={"eval_dataset": {"e": rows}})
    one = Dropped(long_prompts=1)
    assert made.groups.dropped == {"train_dataset": one, "eval_dataset['e']": one}
    assert len(made.train_dataset) == len(made.eval_dataset["e"]) == 3
    assert "train_dataset: 1 groups are dropped, whose prompts have max_length=8 tokens or more" in said()
    with refused(DataError, key="rewards", found="none"):
        trainer(student, tmp_path, rows[3:], long_prompts="drop", **settings)


# Settings


@pytest.mark.parametrize("parser", [HfArgumentParser, TrlParser])
def test_model_init_kwargs_as_json(parser, student, tmp_path):
    line = ["--output_dir", str(tmp_path), "--model_init_kwargs", '{"dtype": "float64"}', "--empty_completions", "drop"]
    (args,) = parser(GDPOConfig).parse_args_into_dataclasses([*line, "--use_cpu", "True", "--report_to", "none"])
    assert args.model_init_kwargs == {"dtype": "float64"} and args.empty_completions == "drop"
    made = GDPOTrainer(str(student), args=args, train_dataset=ROWS)
    assert made.model.dtype == torch.float64
    assert json.loads(args.to_json_string())["model_init_kwargs"] == {"dtype": "float64"}


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ('{"dtype": ', "'{\"dtype\": '"),
        ("[1]", "[1]"),
        ({"trust_remote_code": True}, "trust_remote_code=True"),
        ('{"use_safetensors": false}', "use_safetensors=False"),
    ],
)
def test_bad_model_init_kwargs(given, found, tmp_path):
    with refused(ArgumentError, key="model_init_kwargs", found=found):
        config(tmp_path, model_init_kwargs=given)


def test_model_with_code_of_its_own_is_refused(student, tmp_path):
    """TRL runs it where `trust_remote_code=True` is set; here nothing does, and the code is not read."""
    path = tmp_path / "remote"
    path.mkdir()
    settings = {"model_type": "remote", "auto_map": {"AutoConfig": "code.Remote", "AutoModelForCausalLM": "code.Model"}}
    (path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    (path / "code.py").write_text("raise SystemExit('this code was run')", encoding="utf-8")
    with refused(
        ArgumentError, key="model", found=str(path), expected="a causal language model without code of its own"
    ):
        trainer(path, tmp_path)


DPO_SETTINGS = {
    "loss_type": ["sigmoid", "sft"], "loss_weights": [1.0], "use_weighting": True, "ld_alpha": 0.5,
    "f_divergence_type": "forward_kl", "sync_ref_model": True, "label_smoothing": 0.1, "pad_to_multiple_of": 8,
    "truncation_mode": "keep_end", "trust_remote_code": True,
}  # fmt: skip


@pytest.mark.parametrize("name", DPO_SETTINGS)
def test_settings_of_other_objectives_are_refused_by_name(name, tmp_path):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        config(tmp_path, **{name: DPO_SETTINGS[name]})


READINGS = [  # every advantage, with pairs, links and lengths in turn
    (
        CHOICES["pairs"][number % 2],
        CHOICES["link"][number // 2 % 2],
        advantage,
        CHOICES["length"][(number + 1) // 2 % 2],
    )
    for number, advantage in enumerate(CHOICES["advantage"])
]


def test_train_readings(student, tmp_path):
    """Each reading of the objective starts at the link of 0, and trains every weight."""
    model = AutoModelForCausalLM.from_pretrained(student)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for pairs, link, advantage, length in READINGS:
        model.load_state_dict(start)
        reading = {"pairs": pairs, "link": link, "advantage": advantage, "length": length}
        args = config(tmp_path, **reading)
        made = GDPOTrainer(model, args=args, train_dataset=ROWS, processing_class=str(student))
        made.train()
        first = made.state.log_history[0]["loss"]
        assert first == pytest.approx(-0.5 if link == "sigmoid" else 0.6931, abs=1e-3), reading
        assert changed(made, start) == set(dict(model.named_parameters())), reading


def test_train_model_dtype(student, tmp_path):
    made = trainer(student, tmp_path, model_init_kwargs={"dtype": torch.bfloat16}, learning_rate=0.1)
    before = weights(made.model)
    made.train()
    assert {p.dtype for p in made.model.parameters()} == {torch.bfloat16}
    assert changed(made, before) and made.state.log_history[0]["loss"] == pytest.approx(-0.5, abs=1e-2)


# Models and tokenizers


def test_models_and_tokenizer_by_path(student, tmp_path):
    """By path, as text or as a Path, they are what they are as objects: the same reference scores, the same weights."""
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(student).config)
    other.save_pretrained(tmp_path / "other")
    tokenizer, ends = AutoTokenizer.from_pretrained(student), []
    for name, ref_model, processing_class in (
        ("object", other, tokenizer),
        ("path", tmp_path / "other", Path(student)),
    ):
        made = GDPOTrainer(Path(student), ref_model, config(tmp_path / name), ROWS, processing_class=processing_class)
        made.train()
        ends.append((made.train_dataset["ref_log_probs"], torch.cat([p.flatten() for p in made.model.parameters()])))
    assert ends[0][0] == ends[1][0] and torch.equal(ends[0][1], ends[1][1])
    same = GDPOTrainer(str(student), str(student), config(tmp_path / "same"), ROWS)
    plain = GDPOTrainer(str(student), args=config(tmp_path / "plain"), train_dataset=ROWS)
    assert same.train_dataset["ref_log_probs"] == plain.train_dataset["ref_log_probs"] != ends[0][0]


def test_reference_by_path_is_like_the_policy(student, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.bfloat16, attn_implementation="eager")
    made = GDPOTrainer(model, str(student), config(tmp_path, precompute_ref_log_probs=False), ROWS)
    assert made.ref_model.dtype == torch.bfloat16 and made.ref_model.config._attn_implementation == "eager"
    made.train()
    assert made.state.log_history[0]["loss"] == pytest.approx(-0.5, abs=1e-2)


@pytest.mark.parametrize("name", ["model", "ref_model", "processing_class"])
def test_paths_without_a_model_are_refused(name, student, tmp_path):
    given = {"model": str(student)} | {name: "no such model"}
    with refused(ArgumentError, key=name, found="'no such model'", expected="the path or Hub name of a"):
        GDPOTrainer(args=config(tmp_path), train_dataset=ROWS, **given)


def test_train_with_explicit_ref_model(student, tmp_path):
    """A live reference that was given stays what it is."""
    reference = AutoModelForCausalLM.from_pretrained(student)
    start = weights(reference)
    made = trainer(student, tmp_path, given={"ref_model": reference}, precompute_ref_log_probs=False, learning_rate=0.1)
    made.train()
    assert changed(made, start) == set(start)
    assert all(torch.equal(value, start[name]) for name, value in weights(reference).items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_train_with_peft_config(checkpointing, student, tmp_path):
    """The adapter learns, every weight of it, and nothing below it; also where activations are recomputed."""
    lora = LoraConfig(r=2, target_modules=["q_proj", "down_proj"])
    changes = {"gradient_checkpointing": True} if checkpointing else {}
    made = trainer(student, tmp_path, given={"peft_config": lora}, num_train_epochs=3, **changes)
    before = weights(made.model)
    made.train()
    assert changed(made, before) == {name for name in before if "lora_" in name} != set()


def test_adapter_on_the_head_is_trained(student, tmp_path):
    """TRL refuses one, since it reads the head's weight below it; here the adapter counts in the loss and learns."""
    lora = LoraConfig(r=2, target_modules=["lm_head"])
    torch.manual_seed(0)
    settings = AutoModelForCausalLM.from_pretrained(student).config.to_dict() | {"tie_word_embeddings": False}
    model = AutoModelForCausalLM.from_config(LlamaConfig(**settings))
    made = GDPOTrainer(
        model, args=config(tmp_path, num_train_epochs=3), train_dataset=ROWS, processing_class=str(student),
        peft_config=lora,
    )  # fmt: skip
    before = weights(made.model)
    made.train()
    assert {name for name in before if "lora_" in name} == changed(made, before) != set()
    assert made.state.log_history[0]["loss"] == pytest.approx(-0.5, abs=1e-5)


def vision_model():
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = shape | {"num_key_value_heads": 1, "head_dim": 8, "vocab_size": 17}
    return Gemma3ForConditionalGeneration(
        Gemma3Config(text_config=text, vision_config=shape | {"image_size": 8, "patch_size": 4}, mm_tokens_per_image=4)
    )


def test_models_that_take_images_are_refused(student, tmp_path):
    with refused(ArgumentError, key="model", found="takes images", expected="a causal language model of text alone"):
        GDPOTrainer(vision_model(), args=config(tmp_path), train_dataset=ROWS, processing_class=str(student))


@pytest.mark.parametrize(
    ("row", "key"),
    [
        (ROWS[0] | {"images": ["a picture"]}, "row 0, images"),
        (ROWS[0] | {"image": "a picture"}, "row 0, image"),
        ({**ROWS[0], "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text"}]}]}, "row 0, prompt"),
    ],
)
def test_images_are_refused(row, key, student, tmp_path):
    with refused(DataError, key=key, expected="text alone"):
        trainer(student, tmp_path, [row])
    assert trainer(student, tmp_path, [ROWS[0] | {"images": []}]).groups.dropped == {"train_dataset": Dropped()}


# Tools

TOOLS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|> ' }}"
    "{% if 'tool_calls' in m %}{% for c in m['tool_calls'] %}{{ c['function']['arguments']['a'] ~ ' + ' }}{% endfor %}"
    "{% else %}{{ m['content'] + ' ' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|> ' }}{% endif %}"
)


@pytest.mark.parametrize("as_dataset", [False, True])
def test_tool_calls_without_content(as_dataset, student, tmp_path):
    """A call has no content: the key is absent, or None as `datasets.Dataset` fills it. Digits are words 7 to 16, "+"
    is 5, <|user|> and <|assistant|> are 2 and 3. The tools may be JSON, as in TRL's data."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.chat_template = TOOLS

    def call(a):
        return {
            "role": "assistant",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": a}}}],
        }

    completions = [[call(1)], [{"role": "assistant", "content": "3"}], [call(2), {"role": "user", "content": "4"}]]
    rows = [
        {"prompt": CHAT, "completions": completions, "rewards": [1.0, 0.5, 0.0], "tools": json.dumps([{"name": "f"}])}
    ]
    if as_dataset:
        rows = Dataset.from_list(rows)
        assert rows[0]["completions"][1][0]["tool_calls"] is None
    (group,) = tokenize_groups(rows, tokenizer)
    assert group["prompt_ids"] == [2, 9, 5, 9, 3]
    assert group["sequences"] == [[8, 5], [10], [9, 5, 2, 11]]
    if as_dataset:
        trainer(student, tmp_path, rows, given={"processing_class": tokenizer}).train()
    with refused(DataError, key="row 0, completions[0]", expected="text"):
        tokenize_groups([{"prompt": CHAT, "completions": [[{"role": "assistant"}]] * 2, "rewards": [1, 0]}], tokenizer)


def test_tools_as_json_reach_the_template(student):
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.chat_template = "{{ tools[0]['name'] }}"
    row = {"prompt": CHAT, "completions": ["4", "5"], "rewards": [1, 0], "tools": '[{"name": "7"}]'}
    assert tokenize_groups([row], tokenizer)[0]["prompt_ids"] == [14]
    assert prompt_ids(tokenizer, CHAT, tools=[{"name": "8"}]) == [15]


# Rewards


def test_reward_functions_log_once(student, tmp_path):
    """What functions log stands in the first entry after they ran: of train_dataset, and of each evaluation's set."""

    def words(completions, trainer_state, log_extra, log_metric, **_):
        counts = [len(c.split()) for c in completions]
        log_extra("words", counts)
        log_metric("longest", max(counts))
        return counts

    rows = [{"prompt": row["prompt"], "completions": row["completions"]} for row in ROWS]
    given = {"reward_funcs": words, "eval_dataset": {"e": rows[:1]}}
    made = trainer(student, tmp_path, rows, given=given, num_train_epochs=2)
    assert made.groups.reward_columns["train_dataset"] == {"words": [1, 2, 1, 1, 4, 1, 2, 1, 2]}
    made.train()
    first, second = made.state.log_history[:2]
    assert first["rewards/words/mean"] == pytest.approx(15 / 9) and first["longest"] == pytest.approx(8 / 3)
    assert "rewards/words/mean" not in second and "longest" not in second
    metrics = made.evaluate()
    assert metrics["eval_e_rewards/words/mean"] == pytest.approx(4 / 3) and metrics["eval_e_longest"] == 2
    assert "eval_e_longest" not in made.evaluate()


def test_reward_model_of_the_trainer(student, tmp_path):
    """A reward model by path with a weight of -2: the rewards are -2 times its scores."""
    torch.manual_seed(0)
    shape = {"vocab_size": 17, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    judge = LlamaForSequenceClassification(LlamaConfig(**shape, num_attention_heads=2, num_labels=1, eos_token_id=1))
    judge.save_pretrained(tmp_path / "judge")
    tokenizer = AutoTokenizer.from_pretrained(student)
    rows = [{"prompt": "1 +", "completions": ["2", "3 4"]}]
    given = {"reward_funcs": str(tmp_path / "judge"), "reward_processing_classes": tokenizer}
    made = trainer(student, tmp_path, rows, given=given, reward_weights=[-2.0])
    ids = [tokenizer("1 +" + text, return_tensors="pt")["input_ids"] for text in ("2", "3 4")]
    with torch.no_grad():
        scores = [-2 * judge.eval()(input_ids=i).logits.item() for i in ids]
    assert made.train_dataset[0]["rewards"] == pytest.approx(scores, abs=1e-5)


def test_compute_metrics(student, tmp_path):
    """It is given log-ratios and rewards, (groups, largest group), -100 where a group has fewer completions."""
    seen = []

    def compute_metrics(given):
        seen.append(given)
        return {"groups": float(len(given.predictions))}

    given = {"eval_dataset": ROWS, "compute_metrics": compute_metrics}
    made = trainer(student, tmp_path, given=given, per_device_eval_batch_size=2)
    metrics = made.evaluate()
    assert metrics["eval_groups"] == 3 and metrics["eval_loss"] == pytest.approx(-0.5, abs=1e-5)
    rewards = [[1.0, 0.0, 1.0, -100], [2.0, 1.0, -100, -100], [1.0, 0.5, 0.2, 0.1]]
    assert seen[0].label_ids == pytest.approx(torch.tensor(rewards).numpy(), abs=1e-6)
    assert seen[0].predictions == pytest.approx(torch.tensor(rewards).eq(-100).float().numpy() * -100, abs=1e-5)


# Tags, cards and the package


@pytest.mark.parametrize("lora", [False, True])
def test_tag_added(lora, student, tmp_path):
    given = {"peft_config": LoraConfig(r=2, target_modules=["q_proj"])} if lora else {}
    assert "gdpo" in trainer(student, tmp_path, given=given).model.model_tags


def test_model_card_cites_the_method(student, tmp_path):
    """It is written beside the checkpoints, and again as one likes; a directory is no base model of a Hub."""
    made = trainer(student, tmp_path / "mine", save_strategy="steps", save_steps=1, link="logsigmoid")
    made.train()
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert CITATION in card and TITLE in card and "arxiv.org/abs/2511.12113" in card
    assert '\nmodel_name: "mine"\ntags: ["generated_from_trainer", "gdpo"]\n---' in card and "base_model" not in card
    assert "`link=logsigmoid`" in card and "`beta=0.1`" in card
    made.model.config._name_or_path = "org/base"
    made.create_model_card("other", dataset_name="org/data", tags="math")
    card = (tmp_path / "mine" / "README.md").read_text(encoding="utf-8")
    assert 'base_model: "org/base"\ndatasets: "org/data"' in card and '"gdpo", "math"]' in card and "# other" in card


def test_citation_is_that_of_the_repository():
    cited = Path("CITATION.cff").read_text(encoding="utf-8")
    assert f'title: "{TITLE}"' in cited and "year: 2026" in cited


def test_public_names_are_documented():
    """The three public names have Args for each of their own parameters, and an example; the package is typed."""
    own = {f.name for f in fields(GDPOConfig)} - {f.name for f in fields(TrainingArguments)}
    parameters = {
        GDPOTrainer: set(GDPOTrainer.__init__.__annotations__) - {"return"},
        GDPOConfig: own,
        gdpo_loss: set(gdpo_loss.__annotations__) - {"return"},
    }
    for public, names in parameters.items():
        assert getattr(gdpo, public.__name__) is public
        text = public.__doc__
        args = text[text.index("Args:") :]
        assert "Example:" in text
        assert [name for name in sorted(names) if f"{name}:" not in args and f"{name}," not in args] == []
    assert (Path(gdpo.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("public", [GDPOTrainer, GDPOConfig, gdpo_loss])
def test_examples_of_the_public_names_run(public, student, tmp_path, monkeypatch):
    """Each docstring's example, with the student in place of the Hub's model, gives what it says."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    examples = doctest.DocTestParser().get_examples(public.__doc__.replace("Qwen/Qwen3-0.6B", str(student)))
    assert len(examples) > 1
    names: dict = {}
    for example in examples:
        try:
            found = eval(example.source, names)
        except SyntaxError:
            exec(example.source, names)
        else:
            assert example.want in ("", f"{found!r}\n")
