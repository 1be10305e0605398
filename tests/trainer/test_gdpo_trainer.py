"""GDPOTrainer on its own: rows in, one clear sentence for bad ones, the loss it says it has, TRL's conventions."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM, TrainerCallback

from gdpo.core.errors import FIELDS, ArgumentError
from gdpo.trainer.dataset import DataError, completion_ids, prompt_ids
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.objective import gdpo_loss
from gdpo.trainer.samplers import FilledSampler, SeededShuffle, append_dummy_group
from tests.refusal import refused

ROWS = [
    {"prompt": "1 +", "completions": ["2", "3 4", "2"], "rewards": [1.0, 0.0, 1.0]},
    {"prompt": [{"role": "user", "content": "2 + 2"}], "completions": ["4", "5 5 5 5"], "rewards": [2, 1]},
    {"prompt": "9 =", "completions": ["9", "= 9", "8", "7 7"], "rewards": [1.0, 0.5, 0.2, 0.1]},
]


def config(path, **changes) -> GDPOConfig:
    settings = {"per_device_train_batch_size": 3, "learning_rate": 1e-2, "num_train_epochs": 1, "logging_steps": 1}
    fixed = {"use_cpu": True, "report_to": [], "save_strategy": "no", "disable_tqdm": True}
    return GDPOConfig(str(path), **settings | fixed | changes)


def trainer(student, path, rows=ROWS, callbacks=None, model=None, **changes) -> GDPOTrainer:
    """A trainer of `student`; a float64 `model` may be given for exact comparisons."""
    return GDPOTrainer(
        model=model or str(student),
        args=config(path, **changes),
        train_dataset=rows,
        processing_class=AutoTokenizer.from_pretrained(student),
        callbacks=callbacks,
    )


def double(student):
    return AutoModelForCausalLM.from_pretrained(student, dtype=torch.float64)


def weights(made) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in made.model.parameters()])


def naive_log_prob(model, tokenizer, prompt, completion) -> torch.Tensor:
    start, reply = prompt_ids(tokenizer, prompt), completion_ids(tokenizer, completion)
    with torch.no_grad():
        steps = model(torch.tensor([start + reply])).logits[0].log_softmax(-1)
    return sum(steps[len(start) + i - 1, token] for i, token in enumerate(reply))


LAYOUTS = [
    {},
    {"max_forward_tokens": 1},
    {"share_prompts": "always"},
    {"share_prompts": "never", "bucket_by_length": False},
    {"max_logits": 1},
]
LOGGED = {
    "loss", "learning_rate", "grad_norm", "epoch", "step", "num_tokens", "rewards/accuracies", "rewards/margins",
    "log_ratios/best", "log_ratios/worst", "log_ratios/best_falls", "log_ratios/worst_rises", "kl", "padding_share",
    "useful_tokens_per_second",
}  # fmt: skip


@pytest.mark.parametrize("changes", LAYOUTS)
def test_layout_does_not_change_reference_log_probs(changes, student, tmp_path):
    """However a batch is laid out, each completion gets what a forward of its own gives it."""
    made = trainer(student, tmp_path, **changes)
    reference, tokenizer = AutoModelForCausalLM.from_pretrained(student), made.processing_class
    for row, group in zip(ROWS, made.train_dataset, strict=True):
        for completion, place in zip(row["completions"], group["index"], strict=True):
            expected = naive_log_prob(reference, tokenizer, row["prompt"], completion)
            assert group["ref_log_probs"][place] == pytest.approx(expected.item(), rel=1e-5)


def test_a_repeated_completion_is_scored_once(student, tmp_path):
    made = trainer(student, tmp_path)
    assert made.train_dataset[0]["index"] == [0, 1, 0] and len(made.train_dataset[0]["sequences"]) == 2
    batch = made.data_collator([made.train_dataset[0]])
    assert sum(len(forward["targets"]) for forward in batch["forwards"]) == batch["tokens"]["useful"] == 2 + 3


@pytest.mark.parametrize("lora", [False, True])
def test_starts_at_the_reference(lora, student, tmp_path):
    """Before the first step every log-ratio is 0, so the loss is -sigmoid(0) and nothing is ordered yet."""
    from peft import LoraConfig

    peft_config = LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.5) if lora else None
    made = GDPOTrainer(str(student), args=config(tmp_path), train_dataset=ROWS, peft_config=peft_config)
    made.train()
    first = made.state.log_history[0]
    assert first["loss"] == pytest.approx(-0.5, abs=1e-5)
    assert first["kl"] == pytest.approx(0, abs=1e-8)
    assert first["log_ratios/best"] == pytest.approx(0, abs=1e-5)


def test_logged_metrics_match_single_log_ratios(student, tmp_path):
    """After a step, the log's numbers are those of log-ratios taken one by one."""
    made = trainer(student, tmp_path, num_train_epochs=2, lr_scheduler_type="constant", learning_rate=1e-2)
    seen = []
    compute = made.compute_loss

    def spy(model, inputs, **given):
        seen.append([p.detach().clone() for p in model.parameters()])
        return compute(model, inputs, **given)

    made.compute_loss = spy
    made.train()
    policy, reference = (AutoModelForCausalLM.from_pretrained(student) for _ in range(2))
    for parameter, value in zip(policy.parameters(), seen[1], strict=True):
        parameter.data = value
    ratios, losses, squares = [], [], []
    for row in ROWS:
        pair = [
            [naive_log_prob(m, made.processing_class, row["prompt"], c) for c in row["completions"]]
            for m in (policy, reference)
        ]
        log_ratios = torch.stack(pair[0]) - torch.stack(pair[1])
        ratios.append(log_ratios)
        squares.append(log_ratios.square() / 2)
        rewards = torch.tensor([row["rewards"]], dtype=torch.float32)
        losses.append(gdpo_loss(log_ratios[None], rewards, beta=0.1, advantage="shifted"))
    logged = made.state.log_history[1]
    assert logged["loss"] == pytest.approx(sum(losses).item() / 3, rel=1e-4)
    assert logged["log_ratios/best"] == pytest.approx(sum(r[0] for r in ratios).item() / 3, rel=1e-3)
    assert logged["log_ratios/worst"] == pytest.approx(
        (ratios[0][1] + ratios[1][1] + ratios[2][3]).item() / 3, rel=1e-3, abs=1e-5
    )
    places = [(0, 1), (0, 1), (0, 3)]
    falls = [r[best].item() < 0 for r, (best, _) in zip(ratios, places, strict=True)]
    rises = [r[worst].item() > 0 for r, (_, worst) in zip(ratios, places, strict=True)]
    assert logged["log_ratios/best_falls"] == pytest.approx(sum(falls) / 3)
    assert logged["log_ratios/worst_rises"] == pytest.approx(sum(rises) / 3)
    assert logged["kl"] == pytest.approx(torch.cat(squares).mean().item(), rel=1e-3)
    assert 0 < logged["rewards/accuracies"] <= 1 and logged["rewards/margins"] != 0
    assert logged["num_tokens"] == 2 * made.state.log_history[0]["num_tokens"]


def test_accumulation_and_split_forwards_train_the_same(student, tmp_path):
    """Six groups at once, in float64, against one by one accumulated and two sequences a forward."""
    rows, ends = [*ROWS, *ROWS], []
    for name, changes in {
        "whole": {"per_device_train_batch_size": 6},
        "split": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6, "max_forward_tokens": 12},
    }.items():
        made = trainer(student, tmp_path / name, rows, model=double(student), optim="sgd", **changes)
        made.train()
        ends.append(weights(made))
    start = torch.cat([p.flatten() for p in double(student).parameters()])
    assert not torch.equal(ends[0], start)
    assert torch.allclose(ends[0], ends[1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"max_activation_tokens": 1}])
def test_recomputed_activations_train_the_same(changes, student, tmp_path):
    """In float64, by plain gradient descent: activations kept, against checkpointed layers and forwards made again."""
    ends = []
    for name, given in {"kept": {}, "again": changes}.items():
        made = trainer(student, tmp_path / name, model=double(student), optim="sgd", **given)
        made.train()
        ends.append(weights(made))
    assert torch.allclose(ends[0], ends[1], rtol=0, atol=1e-12)
    assert not torch.allclose(ends[0], weights(trainer(student, tmp_path, model=double(student))), atol=1e-6)


@pytest.mark.parametrize("lora", [False, True])
def test_live_and_precomputed_reference_train_the_same(lora, student, tmp_path):
    from peft import LoraConfig

    ends = []
    for cached in (True, False):
        made = GDPOTrainer(
            str(student),
            args=config(tmp_path / str(cached), precompute_ref_log_probs=cached, num_train_epochs=3),
            train_dataset=ROWS,
            peft_config=LoraConfig(r=2, target_modules="all-linear") if lora else None,
        )
        made.train()
        ends.append(weights(made))
    assert torch.allclose(ends[0], ends[1], rtol=0, atol=1e-6)


def test_every_step_is_logged(student, tmp_path):
    made = trainer(student, tmp_path, per_device_train_batch_size=1)
    made.train()
    *steps, summary = made.state.log_history
    assert [entry["step"] for entry in steps] == [1, 2, 3] and "train_loss" in summary
    for entry in steps:
        assert set(entry) - {"log_ratios/rest"} == LOGGED  # a group of two rewards has no rest
        assert 0 <= entry["padding_share"] <= 0.05 and entry["useful_tokens_per_second"] > 0


def test_evaluate_is_the_mean_over_groups(student, tmp_path):
    """Three groups in batches of two: the loss is the mean over groups, not over batches; groups may be unseen ones."""
    made = GDPOTrainer(
        str(student),
        args=config(tmp_path, per_device_eval_batch_size=2, num_train_epochs=3),
        train_dataset=ROWS[:2],
        eval_dataset=[*ROWS, ROWS[0] | {"rewards": [1.0, 1.0, 1.0]}],
    )
    assert made.evaluate()["eval_loss"] == pytest.approx(-0.5, abs=1e-5)
    made.train()
    metrics = made.evaluate()
    reference = AutoModelForCausalLM.from_pretrained(student)
    losses = []
    for row in ROWS:
        scores = [
            torch.stack([naive_log_prob(model, made.processing_class, row["prompt"], c) for c in row["completions"]])
            for model in (made.model, reference)
        ]
        rewards = torch.tensor([row["rewards"]], dtype=torch.float32)
        losses.append(gdpo_loss((scores[0] - scores[1])[None], rewards, beta=0.1, advantage="shifted").item())
    assert metrics["eval_loss"] == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert metrics["eval_loss"] != pytest.approx(-0.5, abs=1e-3)
    logged = made.state.log_history[-1]
    assert logged["eval_rewards/accuracies"] > 0.5 and "eval_kl" in logged and "num_tokens" not in logged


def test_evaluation_during_training_does_not_change_training(student, tmp_path):
    ends = []
    for strategy in ("no", "steps"):
        made = GDPOTrainer(
            str(student),
            args=config(tmp_path / strategy, per_device_train_batch_size=1, eval_strategy=strategy, eval_steps=1),
            train_dataset=ROWS,
            eval_dataset=ROWS,
        )
        made.train()
        ends.append((weights(made), [e["num_tokens"] for e in made.state.log_history if "loss" in e]))
    assert torch.equal(ends[0][0], ends[1][0]) and ends[0][1] == ends[1][1]


def test_reward_functions_train_like_given_rewards(student, tmp_path):
    """The rewards 2 x words - 1 of each completion, from two functions and other columns, train as if given."""
    rows = [{"prompt": row["prompt"], "completions": row["completions"], "worth": -1.0} for row in ROWS]

    def words(completions, **_):
        texts = [c if isinstance(c, str) else c[0]["content"] for c in completions]
        return [len(text.split()) for text in texts]

    def worth(prompts, worth, **_):
        assert len(prompts) == len(worth)
        return worth

    made = GDPOTrainer(
        str(student), args=config(tmp_path / "f", reward_weights=[2.0, 1.0]), train_dataset=rows,
        reward_funcs=[words, worth],
    )  # fmt: skip
    given = [row | {"rewards": [2 * len(c.split()) - 1 for c in row["completions"]]} for row in rows]
    other = trainer(student, tmp_path / "r", given)
    assert made.train_dataset["rewards"] == other.train_dataset["rewards"]
    made.train()
    other.train()
    assert torch.equal(weights(made), weights(other))


def test_dummy_group_has_no_weight_in_loss_and_log(student, tmp_path):
    """What fills up the last batches of several processes changes neither the loss nor what is logged."""
    made = trainer(student, tmp_path)
    rows = made.train_dataset.to_list()
    blank = append_dummy_group(made.train_dataset)[3]
    losses, logged = [], []
    for batch in (rows, [*rows, blank, blank]):
        inputs = made.on_device(made.data_collator(batch))
        groups = made.items_in_step([inputs], inputs["rewards"].device)
        assert groups == 3
        loss = made.compute_loss(made.model.train(), inputs, num_items_in_batch=groups)
        losses.append(torch.autograd.grad(loss, list(made.model.parameters()), allow_unused=True))
        logged.append(
            {name: float(value) for name, value in made._sums["train"].items() if "/" in name or name == "groups"}
        )
        made._sums["train"].clear()
    for one, other in zip(*losses, strict=True):
        assert torch.allclose(one, other, atol=1e-7)
    assert logged[0] == pytest.approx(logged[1], abs=1e-6)


def test_given_reference_model_is_used(student, tmp_path):
    """A reference that is not the start: the first loss is not -1/2."""
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(student).config)
    made = GDPOTrainer(str(student), other, config(tmp_path), ROWS)
    made.train()
    assert abs(made.state.log_history[0]["loss"] + 0.5) > 1e-4


def test_training_learns_the_order_of_rewards(student, tmp_path):
    made = trainer(student, tmp_path, num_train_epochs=30)
    made.train()
    last = made.state.log_history[-2]
    assert last["rewards/accuracies"] == 1.0 and last["log_ratios/best"] > last["log_ratios/worst"]


def neox(student):
    """A GPT-NeoX with the student's words, whose head transformers saves by another name than the model has for it."""
    torch.manual_seed(0)
    words = len(AutoTokenizer.from_pretrained(student))
    shape = {"vocab_size": words, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    return GPTNeoXForCausalLM(GPTNeoXConfig(**shape, num_attention_heads=2, bos_token_id=None, eos_token_id=1))


@pytest.mark.parametrize("build", [AutoModelForCausalLM.from_pretrained, neox], ids=["llama", "gpt-neox"])
def test_resumed_training_equals_uninterrupted(build, student, tmp_path):
    """Killed at step 3 and resumed from the checkpoint of step 2, the weights are those of a whole run."""

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 3

    saving = {"save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 1, "num_train_epochs": 2}
    rows = Dataset.from_list([row | {"prompt": "1 +"} for row in ROWS])
    whole = trainer(student, tmp_path / "whole", rows, model=build(student), **saving)
    whole.train()
    trainer(student, tmp_path / "cut", rows, model=build(student), callbacks=[Kill()], **saving).train()
    resumed = trainer(student, tmp_path / "cut", rows, model=build(student), **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert resumed.state.global_step == whole.state.global_step == 6
    assert torch.equal(weights(resumed), weights(whole))
    tokens = [[entry["num_tokens"] for entry in made.state.log_history[:6]] for made in (whole, resumed)]
    assert tokens[0] == tokens[1] == sorted(set(tokens[0]))


def test_num_tokens_resumes_from_an_unlogged_checkpoint(student, tmp_path):
    """Saved at step 3 before anything was logged, the number of tokens goes on from there."""
    saving = {"save_strategy": "steps", "save_steps": 3, "logging_steps": 4, "per_device_train_batch_size": 1}
    whole = trainer(student, tmp_path, num_train_epochs=2, **saving)
    whole.train()
    resumed = trainer(student, tmp_path, num_train_epochs=2, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert resumed.state.log_history[-1]["num_tokens"] == whole.state.log_history[-1]["num_tokens"] > 0


def test_load_best_model_loads_every_weight(student, tmp_path):
    """The best model that is loaded at the end is the saved one, also where it is saved by other names."""
    best = {"load_best_model_at_end": True, "metric_for_best_model": "kl", "greater_is_better": False}
    steps = {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 3}
    made = GDPOTrainer(
        neox(student),
        args=config(tmp_path, **best, **steps),
        train_dataset=ROWS[2:],
        eval_dataset=ROWS[2:],
        processing_class=AutoTokenizer.from_pretrained(student),
    )
    made.train()
    saved = GPTNeoXForCausalLM.from_pretrained(made.state.best_model_checkpoint)
    assert made.state.best_model_checkpoint.endswith("checkpoint-1")  # where the policy is nearest to its start
    assert torch.equal(weights(made), torch.cat([p.flatten() for p in saved.parameters()]))


def quality(metrics) -> dict[str, float]:
    """Without what depends on the clock."""
    return {k: v for k, v in metrics.items() if not any(w in k for w in ("per_second", "runtime", "preparation"))}


def test_evaluate_with_eval_dataset(student, tmp_path):
    """With the reference at hand other groups can be evaluated, and again; its sentence says what to do without it."""
    live = trainer(student, tmp_path / "live", precompute_ref_log_probs=False)
    first, again = live.evaluate(ROWS[2:]), live.evaluate(ROWS[2:])
    assert first["eval_loss"] == pytest.approx(-0.5, abs=1e-5) and quality(first) == quality(again)
    cached = trainer(student, tmp_path / "cached")
    assert quality(cached.evaluate(ROWS[2:])) == pytest.approx(quality(first), abs=1e-6)  # the policy is at its start
    cached.train()
    with refused(DataError, key="eval_dataset", problem="the reference is freed after its pass"):
        cached.evaluate(ROWS[2:])
    live.train()
    assert live.evaluate(ROWS[2:])["eval_loss"] != pytest.approx(-0.5, abs=1e-3)


def test_evaluate_with_eval_dataset_of_an_adapter(student, tmp_path):
    """Below an adapter the start stays the reference. One that was given is freed, and so is one below that moves."""
    from peft import LoraConfig, get_peft_model

    def adapted():
        return get_peft_model(AutoModelForCausalLM.from_pretrained(student), LoraConfig(r=2, target_modules=["q_proj"]))

    def made(name, model, ref_model=None):
        return GDPOTrainer(
            model, ref_model, args=config(tmp_path / name), train_dataset=ROWS, processing_class=tokenizer
        )

    tokenizer = AutoTokenizer.from_pretrained(student)
    stays = made("stays", adapted())
    assert stays.evaluate(ROWS[2:])["eval_loss"] == pytest.approx(-0.5, abs=1e-5)
    stays.train()
    assert stays.evaluate(ROWS[2:])["eval_kl"] > 0
    with refused(DataError, key="eval_dataset", problem="the reference is freed after its pass"):
        made("given", adapted(), AutoModelForCausalLM.from_pretrained(student)).evaluate(ROWS[2:])
    moves = adapted()
    moves.get_input_embeddings().weight.requires_grad_(True)
    moved = made("moves", moves)
    assert moved.evaluate(ROWS[2:])["eval_loss"] == pytest.approx(-0.5, abs=1e-5)
    moved.train()
    with refused(DataError, key="eval_dataset", problem="the reference is freed after its pass"):
        moved.evaluate(ROWS[2:])


@pytest.mark.parametrize("name", ["remove_unused_columns", "torch_compile", "use_liger_kernel"])
def test_arguments_without_effect_are_refused(name, tmp_path):
    with refused(ArgumentError, key=name, found="True", expected="False by GDPOTrainer"):
        config(tmp_path, **{name: True})


def test_tied_groups_are_skipped(student, tmp_path):
    made = trainer(student, tmp_path, [*ROWS, ROWS[0] | {"rewards": [1.0, 1.0, 1.0]}])
    assert made.skipped_groups == 1 and len(made.train_dataset) == 3


def test_only_tied_groups_are_refused(student, tmp_path):
    with refused(DataError, key="rewards", found="none", expected="a group with two different rewards"):
        trainer(student, tmp_path, [ROWS[0] | {"rewards": [1.0, 1.0, 1.0]}])


def test_samplers_order_by_seed_and_epoch_and_fill_up():
    """Seven groups and batches of four: an order for each seed and epoch, which a blank, 7, fills up."""
    order = SeededShuffle(7, seed=3)
    first, again = list(order), list(order)
    assert len(order) == len(first) == 7 and first == again and sorted(first) == list(range(7))
    filled = FilledSampler(order, 4)
    assert len(filled) == 8 and list(filled) == [*first, 7]
    filled.set_epoch(1)
    assert len({tuple(order), tuple(first), tuple(SeededShuffle(7, seed=4))}) == 3 and list(filled) == [*order, 7]
    assert first == list(SeededShuffle(7, seed=3))
    assert 8 not in list(FilledSampler(SeededShuffle(8, seed=3), 4))
    assert list(FilledSampler(range(3), 5)) == [0, 1, 2, 3, 3]


def test_fsdp_cpu_ram_efficient_loading_is_refused(student, tmp_path, monkeypatch):
    """accelerate's own loading for FSDP: the reference would be scored by weights that are no model's."""
    monkeypatch.setattr("gdpo.trainer.distributed.Trainer.create_accelerator_and_postprocess", sharded)
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    with refused(ArgumentError, key="fsdp_cpu_ram_efficient_loading", found="true", expected="false"):
        trainer(student, tmp_path)


def sharded(made):
    made.is_fsdp_enabled = True


# What is refused, in one sentence


@pytest.mark.parametrize(
    ("name", "value", "fields"),
    [
        ("pairs", "adjacnt", {"hint": "did you mean 'adjacent'? known: adjacent, all"}),
        ("link", "tanh", {"hint": "known: logsigmoid, sigmoid"}),
        ("length", "max", {"hint": "known: mean, sum"}),
        ("share_prompts", "yes", {"hint": "known: always, auto, never"}),
        (
            "advantage",
            "shift",
            {"hint": "did you mean 'shifted'? known: gap, literal, reciprocal, shifted, unweighted"},
        ),
        ("beta", 0.0, {"expected": "a number above 0"}),
        ("max_forward_tokens", 0, {"expected": "a number above 0"}),
        ("max_activation_tokens", -1, {"expected": "a number above 0"}),
    ],
)
def test_bad_settings(name, value, fields, tmp_path):
    """The error is a ValueError, as a user of the trainer expects it."""
    with refused(ArgumentError) as caught:
        config(tmp_path, **{name: value})
    assert caught.value.fields == dict.fromkeys(FIELDS) | {"key": name, "found": repr(value)} | fields
    assert isinstance(caught.value, ValueError)


def test_settings_that_the_model_cannot_follow(student, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(student, attn_implementation="eager")
    expected = "a model whose attention takes a mask of its own"
    with refused(ArgumentError, key="share_prompts", found="llama with eager attention", expected=expected):
        trainer(student, tmp_path, model=model, share_prompts="always")
    assert trainer(student, tmp_path, model=model).data_collator.packing.share == "never"
    with refused(ArgumentError, key="padding_free", found="sdpa", expected="a flash attention implementation"):
        trainer(student, tmp_path, padding_free=True)


def test_model_as_its_own_ref_model_is_refused(student, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(student)
    with refused(ArgumentError, key="ref_model", expected="another object than model"):
        GDPOTrainer(model, model, config(tmp_path), ROWS)


def test_prompt_learning_is_refused(student, tmp_path):
    from peft import PromptTuningConfig

    given = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with refused(ArgumentError, found="prompt learning", expected="an adapter of weights such as LoRA"):
        GDPOTrainer(str(student), args=config(tmp_path), train_dataset=ROWS, peft_config=given)


@pytest.mark.parametrize(
    ("rows", "key", "found", "expected"),
    [
        (None, "train_dataset", "none", "a list or a datasets.Dataset of groups"),
        ({"train": ROWS}, "train_dataset", "dict", "a list or a datasets.Dataset of groups"),
        ([ROWS[0], {"prompt": "1"}], "row 1", "prompt", "a column 'completions'"),
        (Dataset.from_list([{"prompt": "1", "completions": ["2"]}]), "row 0", "prompt", "a column 'rewards'"),
    ],
)
def test_bad_data(rows, key, found, expected, student, tmp_path):
    with refused(DataError, key=key, found=found, expected=expected):
        trainer(student, tmp_path, rows)
