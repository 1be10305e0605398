"""GDPOTrainer on its own: rows in, one clear sentence for bad ones, the loss it says it has, TRL's conventions."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from gdpo.groups import DataError, completion_ids, prompt_ids
from gdpo.objective import gdpo_loss
from gdpo.trainer import GDPOConfig, GDPOTrainer

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


@pytest.mark.parametrize("changes", LAYOUTS)
def test_scores_one_by_one(changes, student, tmp_path):
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


def test_logs_what_it_did(student, tmp_path):
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
    assert logged["kl"] == pytest.approx(torch.cat(squares).mean().item(), rel=1e-3)
    assert 0 < logged["rewards/accuracies"] <= 1 and logged["rewards/margins"] != 0
    assert logged["num_tokens"] == 2 * made.state.log_history[0]["num_tokens"]


def test_accumulation_and_chunks_change_nothing(student, tmp_path):
    """Six groups at once, in float64, against one by one accumulated and two sequences a forward."""
    rows, weights = [*ROWS, *ROWS], []
    for name, changes in {
        "whole": {"per_device_train_batch_size": 6},
        "split": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 6, "max_forward_tokens": 12},
    }.items():
        made = trainer(student, tmp_path / name, rows, model=double(student), optim="sgd", **changes)
        made.train()
        weights.append(torch.cat([p.detach().flatten() for p in made.model.parameters()]))
    start = torch.cat([p.flatten() for p in double(student).parameters()])
    assert not torch.equal(weights[0], start)
    assert torch.allclose(weights[0], weights[1], rtol=0, atol=1e-10)


def test_a_given_reference(student, tmp_path):
    """A reference that is not the start: the first loss is not -1/2."""
    torch.manual_seed(1)
    other = AutoModelForCausalLM.from_config(AutoModelForCausalLM.from_pretrained(student).config)
    made = GDPOTrainer(str(student), other, config(tmp_path), ROWS)
    made.train()
    assert abs(made.state.log_history[0]["loss"] + 0.5) > 1e-4


def test_learns_the_order(student, tmp_path):
    made = trainer(student, tmp_path, num_train_epochs=30)
    made.train()
    last = made.state.log_history[-2]
    assert last["rewards/accuracies"] == 1.0 and last["log_ratios/best"] > last["log_ratios/worst"]


def test_resumes(student, tmp_path):
    """Killed at step 3 and resumed from the checkpoint of step 2, the weights are those of a whole run."""

    class Kill(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 3

    saving = {"save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 1, "num_train_epochs": 2}
    rows = Dataset.from_list([row | {"prompt": "1 +"} for row in ROWS])
    whole = trainer(student, tmp_path / "whole", rows, **saving)
    whole.train()
    trainer(student, tmp_path / "cut", rows, callbacks=[Kill()], **saving).train()
    resumed = trainer(student, tmp_path / "cut", rows, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-2"))
    assert resumed.state.global_step == whole.state.global_step == 6
    for mine, theirs in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_equal_rewards_are_left_out(student, tmp_path):
    made = trainer(student, tmp_path, [*ROWS, ROWS[0] | {"rewards": [1.0, 1.0, 1.0]}])
    assert made.skipped_groups == 1 and len(made.train_dataset) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": None}, "row 1: expected a column 'rewards', found prompt, completions"),
        ({"rewards": [1.0]}, "row 1: expected a reward per completion, found 2 completions and 1 rewards"),
        ({"rewards": [1.0, float("nan")]}, r"row 1, rewards\[1\]: expected a finite number, found nan"),
        ({"completions": ["4", " "]}, r"row 1, completions\[1\]: expected text, found ' '"),
        ({"completions": ["4"], "rewards": [1.0]}, "row 1, completions: expected at least 2, found 1"),
        ({"prompt": "1 " * 40}, "row 1, prompt: expected fewer than max_length=32 tokens, found 40"),
    ],
)
def test_bad_rows(change, message, student, tmp_path):
    with pytest.raises(DataError, match=message):
        trainer(student, tmp_path, [ROWS[0], ROWS[1] | change], max_length=32)


def test_no_group_with_a_pair(student, tmp_path):
    with pytest.raises(ValueError, match="expected a group with two different rewards, found none"):
        trainer(student, tmp_path, [ROWS[0] | {"rewards": [1.0, 1.0, 1.0]}])


def test_completions_end_once(student):
    """A completion that already ends with the end token gets no second one, and its text stays verbatim."""
    tokenizer = AutoTokenizer.from_pretrained(student)
    end = tokenizer.eos_token_id
    assert completion_ids(tokenizer, "4 2") == [*tokenizer("4 2")["input_ids"], end]
    assert completion_ids(tokenizer, "4 2 <|end|>") == completion_ids(tokenizer, "4 2")


def test_long_completions_are_cut(student, tmp_path):
    made = trainer(
        student, tmp_path, [{"prompt": "1", "completions": ["2 " * 9, "3"], "rewards": [0, 1]}], max_length=4
    )
    assert [len(ids) for ids in made.train_dataset[0]["sequences"]] == [3, 2]
