"""Where the probability goes in language models, by reading: the measured part of `default.py`.

    python docs/objective/default_models.py tiny
    python docs/objective/default_models.py smollm2 CHECKPOINT MIRROR

Trains with GDPOTrainer and writes `default_tiny.csv` or `default_smollm2.csv`, one row for a step at which the trained
groups were scored, and `default_start.csv`, what the first step does, from the Gram matrix of the completions'
gradients. Each run's rows are written when it ends; a run that stands in the file is not repeated. `tiny` needs
`results/tiny/groups/metakl.jsonl` and what comes before it; `smollm2` the checkpoint of smol.yaml and its mirror.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from gdpo.core.files import read_csv, read_jsonl, write_csv
from gdpo.core.provenance import recorded
from gdpo.core.records import Question
from gdpo.grading.grade import grade_many
from gdpo.models.sampling_hf import ignored_generation_defaults
from gdpo.trainer.chat_template import rendered
from gdpo.trainer.dataset import tokenize_groups
from gdpo.trainer.gdpo_trainer import GDPOConfig, GDPOTrainer
from gdpo.trainer.objective import advantages, gdpo_loss

HERE = Path(__file__).parent
ADVANTAGES = ("literal", "unweighted", "shifted", "reciprocal", "gap")
PAIRS = ("adjacent", "all")
REWARDS = ("two levels", "many levels")
BETA = 0.1
SEED = 0
GRAM_GROUPS = 40  # of tiny's groups; all of SmolLM2's
HELD_OUT_EVERY = 4  # of tiny's questions
RESULTS = Path("results/tiny")
STUDENTS = {"tiny-s": "Tiny-S", "tiny-m": "Tiny-M"}
TINY_RATES = {1e-4: "low", 3e-4: "middle", 1e-3: "high"}
SMOL_RATES = {2e-4: "middle", 1e-3: "high", 5e-5: "not judged"}  # the last is no cell of criterion.md
SMOL_GROUPS = 6
SOLUTIONS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
PLAIN_TOKENS = 96
COMMANDS = {
    "tiny": "python docs/objective/default_models.py tiny",
    "smollm2": "python docs/objective/default_models.py smollm2 CHECKPOINT MIRROR",
}

Reading = tuple[str, str, str]  # advantage, pairs, link
Levels = list[dict[str, float | None]]  # a group's mean log-ratio of each level


@dataclass
class Task:
    """A model's groups and what is measured beside them.

    `rows` are GDPOTrainer's, without rewards; `right` and `tokens` say which completions are right and how long each
    is. `held_out` and `plain` are (prompt, text) pairs of token ids.
    """

    name: str
    family: str
    checkpoint: Path
    rows: list[dict[str, Any]]
    right: list[list[bool]]
    tokens: list[list[int]]
    held_out: list[tuple[list[int], list[int]]]
    plain: list[tuple[list[int], list[int]]]
    settings: dict[str, Any]
    lora: bool = False
    questions: list[Question] = field(default_factory=list)

    def rewarded(self, kind: str) -> list[dict[str, Any]]:
        """The rows with rewards: 1 where right; of many levels up to a quarter more where short, or less where long."""
        rows = []
        for row, right, tokens in zip(self.rows, self.right, self.tokens, strict=True):
            middle = statistics.median(tokens)
            extra = [0.25 * max(-1.0, 1 - count / middle) if kind == "many levels" else 0.0 for count in tokens]
            rewards = [float(verdict) + more for verdict, more in zip(right, extra, strict=True)]
            rows.append(row | {"rewards": rewards})
        return rows


class Recorder(GDPOTrainer):
    """GDPOTrainer that keeps the log-ratio of each group's levels, of every batch."""

    seen: Levels

    def _measure(self, log_ratios: Tensor, rewards: Tensor, mask: Tensor, tokens: dict[str, int]) -> None:
        super()._measure(log_ratios, rewards, mask, tokens)
        for ratios, own, there in zip(log_ratios.tolist(), rewards.tolist(), mask.tolist(), strict=True):
            pairs = [(ratio, reward) for ratio, reward, real in zip(ratios, own, there, strict=True) if real]
            self.seen.append(levels(pairs))


def levels(pairs: list[tuple[float, float]]) -> dict[str, float | None]:
    """The mean log-ratio of a group's best, worst and other completions, from (log-ratio, reward)."""
    top, bottom = max(reward for _, reward in pairs), min(reward for _, reward in pairs)
    chosen = {
        "best": [ratio for ratio, reward in pairs if reward == top],
        "worst": [ratio for ratio, reward in pairs if reward == bottom],
        "rest": [ratio for ratio, reward in pairs if bottom < reward < top],
    }
    return {name: statistics.fmean(values) if values else None for name, values in chosen.items()}


def summary(seen: Levels) -> dict[str, float | str]:
    """Means over groups, standard errors, and the shares of groups whose best or worst rises."""
    best, worst = ([float(group[name] or 0.0) for group in seen] for name in ("best", "worst"))
    rest = [group["rest"] for group in seen if group["rest"] is not None]
    margin = [high - low for high, low in zip(best, worst, strict=True)]
    row: dict[str, float | str] = {"groups": len(seen)}
    for name, values in (("best", best), ("worst", worst), ("margin", margin)):
        row[name] = statistics.fmean(values)
        row[f"{name}_error"] = statistics.stdev(values) / len(values) ** 0.5
    row["rest"] = statistics.fmean(rest) if rest else ""
    row |= {
        f"{name}_moves": statistics.fmean(v > 0 for v in values) for name, values in (("best", best), ("worst", worst))
    }
    return row


# ---------------------------------------------------------------------- beside the groups


@torch.no_grad()
def per_token(model: torch.nn.Module, texts: list[tuple[list[int], list[int]]]) -> float:
    """The mean log-probability of a token of the texts, given their prompts, in nats."""
    total, count = 0.0, 0
    for prompt, text in texts:
        total += log_prob(model, prompt, text).item()
        count += len(text)
    return total / count if count else 0.0


def log_prob(model: torch.nn.Module, prompt: list[int], text: list[int]) -> Tensor:
    """log pi(text | prompt), summed over its tokens."""
    logits = model(torch.tensor([prompt + text])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(text)[:, None]).sum()


@torch.no_grad()
def right_answers(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, questions: list[Question]) -> list[float]:
    """1 or 0 for each question, answered greedily."""
    if not questions:
        return []
    prompts = [rendered(tokenizer, [{"role": "user", "content": question.question}]) for question in questions]
    tokenizer.padding_side = "left"
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with ignored_generation_defaults(model):
        found = model.generate(**inputs, do_sample=False, max_new_tokens=32)
    texts = tokenizer.batch_decode(found[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    verdicts = grade_many(list(zip(questions, texts, strict=True)))
    return [float(verdict == "right") for verdict in verdicts]


# ---------------------------------------------------------------------- training


def run(task: Task, kind: str, rate: float, rate_name: str, reading: Reading) -> list[dict[str, Any]]:
    """One training run; its rows of the CSV."""
    advantage, pairs, link = reading
    rows = task.rewarded(kind)
    with tempfile.TemporaryDirectory() as directory:
        trainer = Recorder(
            model=str(task.checkpoint),
            args=GDPOConfig(
                directory,
                learning_rate=rate,
                beta=BETA,
                advantage=advantage,
                pairs=pairs,
                link=link,
                seed=SEED,
                model_init_kwargs={"dtype": "float32"},
                weight_decay=0.0,
                use_cpu=True,
                dataloader_pin_memory=False,
                gradient_checkpointing=False,
                bf16=False,
                report_to=[],
                disable_tqdm=True,
                save_strategy="no",
                **task.settings,
            ),
            train_dataset=rows,
            eval_dataset=rows,
            peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear") if task.lora else None,
        )
        trainer.seen = []
        model, tokenizer = trainer.model.eval(), trainer.processing_class
        before = {name: per_token(model, getattr(task, name)) for name in ("held_out", "plain")}
        answered = right_answers(model, tokenizer, task.questions)
        trainer.train()
        steps = trainer.state.global_step
        size = len(trainer.train_dataset)  # of SmolLM2's groups a batch holds all, so that every step scores them
        seen = [trainer.seen[at : at + size] for at in range(0, len(trainer.seen), size)] if task.lora else []
        trainer.seen = []
        trainer.evaluate()
        model.eval()
        after = {name: per_token(model, getattr(task, name)) for name in ("held_out", "plain")}
        gains = [b - a for a, b in zip(answered, right_answers(model, tokenizer, task.questions), strict=True)]
        curve = [*enumerate(seen), (steps, trainer.seen)]
    head = {"family": task.family, "model": task.name, "rewards": kind, "rate": rate, "rate_name": rate_name}
    head |= dict(zip(("advantage", "pairs", "link"), reading, strict=True))
    found = [head | {"step": step} | summary(list(groups)) for step, groups in curve]
    for row in found:
        row |= {name: after[name] - before[name] if row["step"] == steps else "" for name in ("held_out", "plain")}
        judged = bool(gains) and row["step"] == steps
        row["outcome"] = statistics.fmean(gains) if judged else ""
        row["outcome_error"] = statistics.stdev(gains) / len(gains) ** 0.5 if judged else ""
    return found


# ---------------------------------------------------------------------- the first step


def first_moves(reading: Reading, rewards: list[float]) -> Tensor:
    """Minus the gradient of the loss at log-ratio 0, over beta: what a group's completions are pushed by, (G,)."""
    advantage, pairs, link = reading
    ratios = torch.zeros(1, len(rewards), dtype=torch.float64, requires_grad=True)
    given = torch.tensor([rewards], dtype=torch.float64)
    gdpo_loss(ratios, given, beta=1.0, pairs=pairs, link=link, advantage=advantage).backward()
    return -ratios.grad[0]


def gradients(task: Task) -> tuple[Tensor, list[list[int]]]:
    """The Gram matrix of all distinct completions' gradients, and each completion's place in it, by group.

    With LoRA these are the gradients at its start, where the second factor, which is 0, alone has one.
    """
    from peft import get_peft_model

    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(task.checkpoint, dtype=torch.float32, use_safetensors=True).eval()
    if task.lora:
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear")).eval()
    trained = [p for name, p in model.named_parameters() if p.requires_grad and "lora_A" not in name]
    tokenizer = AutoTokenizer.from_pretrained(task.checkpoint)
    slopes, places = [], []
    for group in tokenize_groups(task.rewarded("two levels")[:GRAM_GROUPS], tokenizer):
        places.append([len(slopes) + place for place in group["index"]])
        for sequence in group["sequences"]:
            found = torch.autograd.grad(log_prob(model, group["prompt_ids"], sequence), trained, allow_unused=True)
            slopes.append(torch.cat([slope.flatten() for slope in found if slope is not None]))
    stacked = torch.stack(slopes)
    return (stacked @ stacked.T).double(), places


def start_rows(task: Task) -> list[dict[str, Any]]:
    """Rows of `default_start.csv`: a small step on all groups together, by rewards and reading (sigmoid)."""
    gram, places = gradients(task)
    groups = [torch.tensor(own) for own in places]
    rows = []
    for kind, advantage, pairs in itertools.product(REWARDS, ADVANTAGES, PAIRS):
        rewards = [row["rewards"] for row in task.rewarded(kind)[:GRAM_GROUPS]]
        moves = torch.zeros(len(gram), dtype=torch.float64)
        cosines, alike, sizes = [], [], []
        for own, values in zip(groups, rewards, strict=True):
            push = first_moves((advantage, pairs, "sigmoid"), values)
            moves.index_add_(0, own, push)
            block = gram[own][:, own]
            z = advantages(torch.tensor([values], dtype=torch.float64))[0]
            cosines.append((push @ block @ z / ((push @ block @ push) * (z @ block @ z)).sqrt()).item())
            size = block.diag().sqrt()
            top, bottom = values.index(max(values)), values.index(min(values))
            alike.append((block[top, bottom] / (size[top] * size[bottom])).item())
            sizes.append((size[bottom] / size[top]).item())
        change = gram @ moves
        seen = [
            levels(list(zip(change[own].tolist(), values, strict=True)))
            for own, values in zip(groups, rewards, strict=True)
        ]
        found = {name: float(value) for name, value in summary(seen).items() if value != ""}
        unit = abs(found["margin"])
        rows.append(
            {
                "model": task.name,
                "rewards": kind,
                "advantage": advantage,
                "pairs": pairs,
                "groups": len(groups),
                "distinct_rewards": statistics.fmean(len(set(values)) for values in rewards),
                "cosine_best_worst": statistics.fmean(alike),
                "norm_worst_over_best": statistics.fmean(sizes),
                "best": found["best"] / unit,
                "worst": found["worst"] / unit,
                "best_rises": found["best_moves"],
                "worst_rises": found["worst_moves"],
                "grpo": statistics.fmean(cosines),
            }
        )
    return rows


# ---------------------------------------------------------------------- the two families


def tiny_task(student: str) -> Task:
    """Tiny's groups with right and wrong completions; every fourth question is held out."""
    questions = {row["id"]: Question(**row) for _, row in read_jsonl(RESULTS / "trainsets" / "metakl.jsonl")}
    checkpoint = RESULTS / "models" / student
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    rows, right, held_out, asked = [], [], [], []
    for number, (_, group) in enumerate(read_jsonl(RESULTS / "groups" / "metakl.jsonl")):
        written = [bool(text.strip()) for text in group["completions"]]
        texts = list(itertools.compress(group["completions"], written))
        verdicts = [part["verdict"] == "right" for part in itertools.compress(group["parts"], written)]
        row = {"prompt": group["prompt"], "completions": texts}
        if number % HELD_OUT_EVERY == 0:
            asked.append(questions[group["id"]])
            if True in verdicts:
                held_out.append(tokens_of(tokenizer, row, verdicts.index(True)))
        elif 0 < sum(verdicts) < len(verdicts):
            rows.append(row)
            right.append(verdicts)
    settings = {
        "num_train_epochs": 3,
        "per_device_train_batch_size": 32,
        "per_device_eval_batch_size": 32,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "linear",
        "max_length": 128,
        "logging_steps": 1,
    }
    tokens = [[len(tokenizer(text).input_ids) for text in row["completions"]] for row in rows]
    return Task(STUDENTS[student], "tiny", checkpoint, rows, right, tokens, held_out, [], settings, questions=asked)


def smollm2_task(checkpoint: Path, mirror: Path) -> Task:
    """GSM8K questions with four distinct published solutions, some right: the shortest ones; the next are held out."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    found = []
    for _, row in read_jsonl(mirror / "gsm8k_model_solutions" / "test.jsonl"):
        texts, verdicts = zip(*((row[key]["solution"], row[key]["is_correct"]) for key in SOLUTIONS), strict=True)
        if len(set(texts)) == len(texts) and 0 < sum(verdicts) < len(verdicts):
            prompt = [{"role": "user", "content": row["question"]}]
            tokens = [len(tokenizer(text).input_ids) for text in texts]
            length = len(tokenizer(row["question"]).input_ids) + max(tokens)
            found.append((length, len(found), {"prompt": prompt, "completions": list(texts)}, list(verdicts), tokens))
    found.sort(key=lambda item: item[:2])
    _, _, rows, right, tokens = zip(*found[:SMOL_GROUPS], strict=True)
    others = [(row, verdicts) for _, _, row, verdicts, _ in found[SMOL_GROUPS : 2 * SMOL_GROUPS]]
    held_out = [tokens_of(tokenizer, row, verdicts.index(True)) for row, verdicts in others]
    texts = [row["question"] for _, row in read_jsonl(mirror / "mmlu" / "val.jsonl") if len(row["question"]) > 200]
    ids = [tokenizer(text).input_ids[:PLAIN_TOKENS] for text in texts[:: len(texts) // SMOL_GROUPS][:SMOL_GROUPS]]
    settings = {
        "max_steps": 4,
        "per_device_train_batch_size": SMOL_GROUPS,
        "per_device_eval_batch_size": SMOL_GROUPS,
        "lr_scheduler_type": "constant",
        "max_length": 512,
        "logging_steps": 1,
    }
    plain = [(text[:1], text[1:]) for text in ids]
    name = "SmolLM2-135M-Instruct-q4_1"
    return Task(
        name, "SmolLM2", checkpoint, list(rows), list(right), list(tokens), held_out, plain, settings, lora=True
    )


def tokens_of(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], place: int) -> tuple[list[int], list[int]]:
    """The ids of the row's prompt and of its completion at `place`, with its end."""
    pair = [row["completions"][place], row["completions"][place - 1] + " "]
    group = tokenize_groups([row | {"completions": pair, "rewards": [1.0, 0.0]}], tokenizer)[0]
    return group["prompt_ids"], group["sequences"][0]


def tiny_runs() -> Iterator[tuple[Callable[[], Task], str, float, str, Reading]]:
    every = [(name, pairs, "sigmoid") for name, pairs in itertools.product(ADVANTAGES, PAIRS)]
    every += [(name, "adjacent", "logsigmoid") for name in ADVANTAGES]
    for reading, student, kind, (rate, name) in itertools.product(every, STUDENTS, REWARDS, TINY_RATES.items()):
        if kind == "many levels" or (reading[1] == "adjacent" and reading[0] != "gap"):
            yield (lambda student=student: tiny_task(student)), kind, rate, name, reading


def smollm2_runs(checkpoint: Path, mirror: Path) -> Iterator[tuple[Callable[[], Task], str, float, str, Reading]]:
    """The readings that differ, printed pairs and link first; then all pairs."""
    two = [(name, "adjacent") for name in ("shifted", "unweighted", "literal", "reciprocal")]
    many = [*two, ("gap", "adjacent")]
    order = [
        ("two levels", 2e-4, two),
        ("many levels", 2e-4, many),
        ("two levels", 1e-3, two),
        ("many levels", 1e-3, many),
    ]
    wide = [("gap", "all"), ("unweighted", "all"), ("shifted", "all")]
    order += [
        ("two levels", 5e-5, [("unweighted", "adjacent")]),
        ("many levels", 2e-4, wide),
        ("many levels", 1e-3, wide),
    ]
    for kind, rate, readings in order:
        for reading in readings:
            yield (lambda: smollm2_task(checkpoint, mirror)), kind, rate, SMOL_RATES[rate], (*reading, "sigmoid")


# ---------------------------------------------------------------------- files


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    rounded = ({k: f"{v:.4f}" if isinstance(v, float) and k != "rate" else v for k, v in row.items()} for row in rows)
    write_csv(path, list(rows[0]), rounded)


def load(path: Path) -> list[dict[str, Any]]:
    return read_csv(path) if path.exists() else []


def measure_all(family: str, runs: list[tuple[Callable[[], Task], str, float, str, Reading]]) -> None:
    """Every run that is not in the family's file yet, and the first steps of its models."""
    path, starts = HERE / f"default_{family}.csv", HERE / "default_start.csv"
    tasks: dict[str, Task] = {}
    for make, kind, rate, rate_name, reading in runs:
        task = make()
        tasks.setdefault(task.name, task)
        if not any(row["model"] == task.name for row in load(starts)):
            save(starts, load(starts) + start_rows(task))
        key = (task.name, kind, str(rate), *reading)
        names = ("model", "rewards", "rate", "advantage", "pairs", "link")
        if any(tuple(str(row[name]) for name in names) == key for row in load(path)):
            continue
        settings = {"command": COMMANDS[family], "training": task.settings, "lora": task.lora, "groups": len(task.rows)}
        with recorded(path, f"docs/objective {family}", settings, {"training": SEED}) as extra:
            rows = run(task, kind, rate, rate_name, reading)
            save(path, load(path) + rows)
            extra["runs"] = len({tuple(str(row[name]) for name in names) for row in load(path)})
        print(json.dumps(rows[-1]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    families = parser.add_subparsers(dest="family", required=True)
    families.add_parser("tiny")
    smollm2 = families.add_parser("smollm2")
    smollm2.add_argument("checkpoint", type=Path)
    smollm2.add_argument("mirror", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    if arguments.family == "tiny":
        measure_all("tiny", list(tiny_runs()))
    else:
        measure_all("smollm2", list(smollm2_runs(arguments.checkpoint, arguments.mirror)))


if __name__ == "__main__":
    main()
