"""Adjacent against all pairs at the start of training: the gradients' cosine and norms against the group's size G.

    python docs/objective/cosine.py [--model NAME DIR GROUPS]...

Writes three files and draws `cosine.png` from the first two. `cosine.csv` is about log-ratio space: the formulas of
derivations.md and the gradients of `gdpo_loss`. `cosine_models.csv` is about the parameters of real models, through
the Gram matrix of their completions' gradients. `grpo.csv` has each reading's cosine with GRPO's direction. GROUPS is a
JSONL file of rows with `prompt` and, unless the model shall sample them, `completions` and `rewards`. Rows of models
that are not measured in this run are kept.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
from pathlib import Path

import torch
from torch import Tensor

from gdpo.core.files import read_csv, write_csv
from gdpo.trainer.objective import advantages, gdpo_loss

HERE = Path(__file__).parent
SIZES = (2, 3, 4, 6, 8, 10, 16, 32)
MODEL_SIZES = (2, 3, 4, 6, 8, 10)
ADVANTAGES = ("literal", "unweighted", "shifted", "reciprocal", "gap")
PAIRS = ("adjacent", "all")
REWARDS = {  # what groups of ten look like, beside an even spread
    "even, G = 10": [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    "9 right, 1 wrong": [2] * 9 + [1],
    "7 right, 3 wrong": [2] * 7 + [1] * 3,
    "3 right, 7 wrong": [2] * 3 + [1] * 7,
    "three levels, 6-3-1": [2] * 6 + [1] * 3 + [0],
    "right with lengths, wrong alike": [2, 1.95, 1.9, 1.85, 1.8, 1.75, 1, 1, 1, 1],
    "one far below": [2, 1.95, 1.9, 1.85, 1.8, 1.75, 1.7, 1.65, 1.6, 0],
}
SEED = 0
DRAWS = 200  # subsets and orders per group and size
MAX_GROUPS = 100
MIN_DISTINCT = 4  # a group with fewer distinct completions has too few random orders
NEW_TOKENS = 48


# ---------------------------------------------------------------------- log-ratio space


def formula(levels: list[int]) -> dict[str, float]:
    """Cosine and norm ratio of the unweighted gradients, from how many completions share each reward, best first."""
    size, last = sum(levels), len(levels) - 1
    balance = [sum(levels[k + 1 :]) - sum(levels[:k]) for k in range(len(levels))]
    spread = math.sqrt(sum(many * b * b for many, b in zip(levels, balance, strict=True)))
    edge = math.sqrt(1 / levels[0] + 1 / levels[-1])
    pairs = sum(left * right for left, right in itertools.combinations(levels, 2))
    return {
        "cosine": (2 * size - levels[0] - levels[-1]) / (edge * spread),
        "norm_ratio": edge / last / (spread / pairs),
    }


def start(rewards: Tensor, pairs: str, advantage: str) -> Tensor:
    """The first step's move of a group's log-ratios, (G,): minus the gradient at log-ratio 0, divided by beta."""
    log_ratios = torch.zeros(1, len(rewards), dtype=torch.float64, requires_grad=True)
    gdpo_loss(log_ratios, rewards[None], beta=1.0, pairs=pairs, advantage=advantage).backward()
    return -log_ratios.grad[0]


def cosine(left: Tensor, right: Tensor, gram: Tensor | None = None) -> float:
    """The cosine of sum_i left_i x_i and sum_i right_i x_i; the x_i have the Gram matrix, or are orthonormal."""
    gram = torch.eye(len(left), dtype=left.dtype) if gram is None else gram
    return (left @ gram @ right / (norm(left, gram) * norm(right, gram))).item()


def norm(vector: Tensor, gram: Tensor) -> Tensor:
    return (vector @ gram @ vector).sqrt()


def even_levels(size: int, count: int | None) -> list[int]:
    """How many of `size` completions have each of `count` rewards, as evenly as possible; one each without a count."""
    count = min(size, count or size)
    return [size * (k + 1) // count - size * k // count for k in range(count)]


def log_ratio_rows() -> list[dict]:
    rows = []
    for name, count in (("distinct", None), ("4 levels", 4), ("2 levels", 2)):
        for size in SIZES:
            levels = even_levels(size, count)
            rewards = torch.tensor([-float(k) for k, many in enumerate(levels) for _ in range(many)]).double()
            adjacent, every = (start(rewards, pairs, "unweighted") for pairs in PAIRS)
            rows.append(
                {
                    "rewards": name,
                    "size": size,
                    "cosine_formula": formula(levels)["cosine"],
                    "cosine": cosine(adjacent, every),
                    "norm_ratio_formula": formula(levels)["norm_ratio"],
                    "norm_ratio": (adjacent.norm() / every.norm()).item(),
                }
            )
    return rows


def grpo_rows() -> list[dict]:
    rows = []
    for (name, values), pairs in itertools.product(REWARDS.items(), PAIRS):
        rewards = torch.tensor(values, dtype=torch.float64)
        z = advantages(rewards[None])[0]
        cosines = {advantage: cosine(start(rewards, pairs, advantage), z) for advantage in ADVANTAGES}
        rows.append({"rewards": name, "pairs": pairs, **cosines})
    return rows


# ---------------------------------------------------------------------- a real model's parameters


def compare(gram: Tensor, moves: dict[str, tuple[Tensor, Tensor, Tensor]]) -> dict[str, dict[str, float]]:
    """By reading: adjacent against all pairs, and both against GRPO, in the space of this Gram matrix, (G, G)."""
    return {
        advantage: {
            "cosine": cosine(adjacent, every, gram),
            "norm_ratio": (norm(adjacent, gram) / norm(every, gram)).item(),
            "grpo_adjacent": cosine(adjacent, z, gram),
            "grpo_all": cosine(every, z, gram),
        }
        for advantage, (adjacent, every, z) in moves.items()
    }


def directions(rewards: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """By reading: the first move of adjacent and of all pairs, and GRPO's."""
    z = advantages(rewards[None])[0]
    return {name: (start(rewards, "adjacent", name), start(rewards, "all", name), z) for name in ADVANTAGES}


def model_rows(name: str, groups: list[tuple[Tensor, Tensor | None, list[int]]]) -> list[dict]:
    """Rows of `cosine_models.csv` from `measure`'s groups.

    "ranks": distinct completions of a group, of each size, in a random order with evenly spaced rewards, so that only
    the Gram matrix differs from log-ratio space; "own": all completions with the rewards they came with.
    """
    draw = random.Random(SEED)
    ranked = {size: directions(torch.arange(size, 0, -1, dtype=torch.float64)) for size in MODEL_SIZES}
    samples: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    members: dict[tuple[str, str, int], set[int]] = {}

    def add(kind: str, size: int, group: int, compared: dict[str, dict[str, float]]) -> None:
        for advantage, values in compared.items():
            samples.setdefault((kind, advantage, size), []).append(values)
            members.setdefault((kind, advantage, size), set()).add(group)

    for group, (gram, own, places) in enumerate(groups):
        for size in MODEL_SIZES:
            for _ in range(DRAWS if len(gram) >= max(size, MIN_DISTINCT) else 0):
                chosen = draw.sample(range(len(gram)), size)
                add("ranks", size, group, compare(gram[chosen][:, chosen], ranked[size]))
        if own is not None:
            add("own", len(own), group, compare(gram[places][:, places], directions(own)))
    rows = []
    for (kind, advantage, size), values in samples.items():
        middle = {key: sum(value[key] for value in values) / len(values) for key in values[0]}
        cosines = torch.tensor([value["cosine"] for value in values], dtype=torch.float64)
        rows.append(
            {
                "model": name,
                "rewards": kind,
                "advantage": advantage,
                "size": size,
                "groups": len(members[kind, advantage, size]),
                **middle,
                "cosine_low": cosines.quantile(0.1).item(),
                "cosine_high": cosines.quantile(0.9).item(),
            }
        )
    return rows


def measure(directory: str, path: str) -> list[tuple[Tensor, Tensor | None, list[int]]]:
    """For each group: a Gram matrix, its rewards, and each completion's place among the distinct ones.

    The Gram matrix is <grad log pi(y_i|q), grad log pi(y_j|q)> of the distinct completions, over all parameters.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(SEED)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, use_safetensors=True).eval()
    measured = []
    for group in chosen_groups(path):
        prompt = tokenizer.apply_chat_template(group["prompt"], add_generation_prompt=True, return_dict=False)
        if "completions" in group:
            own = torch.tensor(group["rewards"], dtype=torch.float64)
            texts = list(dict.fromkeys(group["completions"]))
            places = [texts.index(text) for text in group["completions"]]
            answers = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
            answers = [[*answer, tokenizer.eos_token_id] for answer in answers]
        else:
            answers, own, places = sample(model, tokenizer, prompt), None, []
        gradients = []
        for answer in answers:
            loss = log_prob(model, prompt, answer)
            gradients.append([gradient.flatten() for gradient in torch.autograd.grad(loss, list(model.parameters()))])
        gram = torch.zeros(len(answers), len(answers), dtype=torch.float64)
        for parameter in zip(*gradients, strict=True):
            stacked = torch.stack(parameter)
            gram += (stacked @ stacked.T).double()
        measured.append((gram, own, places))
    return measured


def worst_gradient_is_larger(groups: list[tuple[Tensor, Tensor | None, list[int]]]) -> list[bool]:
    """For each of `measure`'s groups with rewards: whether its lowest level has the larger mean |grad log pi|^2."""
    squares = [(gram.diag()[places], own) for gram, own, places in groups if own is not None]
    return [bool(square[own == own.min()].mean() > square[own == own.max()].mean()) for square, own in squares]


def chosen_groups(path: str) -> list[dict]:
    """The file's first groups with a contrast and its first with many distinct completions, at most MAX_GROUPS each."""
    groups = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    contrast = [group for group in groups if len(set(group.get("rewards", range(2)))) > 1]
    most = sorted(contrast, key=lambda group: -len(set(group.get("completions", ()))))
    picked = {id(group): group for group in contrast[:MAX_GROUPS] + most[:MAX_GROUPS]}
    return list(picked.values())


def log_prob(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> Tensor:
    """log pi(answer | prompt), summed over its tokens."""
    logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(answer)[:, None]).sum()


def sample(model: torch.nn.Module, tokenizer, prompt: list[int], count: int = 10) -> list[list[int]]:
    """`count` distinct completions of at most NEW_TOKENS tokens at temperature 1."""
    answers: dict[tuple[int, ...], None] = {}
    while len(answers) < count:
        ids = torch.tensor([prompt] * count)
        drawn = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=NEW_TOKENS,
            pad_token_id=tokenizer.eos_token_id,
        )
        for row in drawn[:, len(prompt) :].tolist():
            end = row.index(tokenizer.eos_token_id) + 1 if tokenizer.eos_token_id in row else len(row)
            answers[tuple(row[:end])] = None
    return [list(answer) for answer in answers][:count]


# ---------------------------------------------------------------------- files and figure


def save(path: Path, rows: list[dict]) -> None:
    rounded = ({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_csv(path, list(rows[0]), rounded)


def load(path: Path) -> list[dict]:
    return read_csv(path) if path.exists() else []


def draw(rows: list[dict], models: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.3), layout="constrained")
    sizes = range(2, 33)
    styles = {"distinct": ("#0072B2", "o", "-"), "4 levels": ("#E69F00", "s", "--"), "2 levels": ("#009E73", "^", ":")}
    for name, (colour, marker, line) in styles.items():
        count = {"distinct": None, "4 levels": 4, "2 levels": 2}[name]
        curve = [formula(even_levels(size, count)) for size in sizes]
        mine = [row for row in rows if row["rewards"] == name]
        places = [row["size"] for row in mine]
        for axis, key in ((left, "cosine"), (right, "norm_ratio")):
            axis.plot(sizes, [point[key] for point in curve], line, color=colour, lw=1.2)
            axis.plot(places, [row[key] for row in mine], marker, color=colour, ms=5, label=f"{name}")
    left.set(title="Log-ratios: cosine", ylabel="cosine, adjacent against all pairs")
    right.set(title="Log-ratios: |adjacent| / |all pairs|", ylabel="ratio of gradient norms")
    left.legend(title="rewards (line: formula)", frameon=False, loc="lower left")

    small = range(2, 11)
    middle.plot(small, [formula([1] * size)["cosine"] for size in small], color="#0072B2", lw=1.2, label="formula")
    names = list(dict.fromkeys(row["model"] for row in models))
    for place, (name, colour, marker) in enumerate(zip(names, ("#D55E00", "#000000", "#CC79A7"), "Dv*", strict=False)):
        mine = [
            row for row in models if (row["model"], row["rewards"], row["advantage"]) == (name, "ranks", "unweighted")
        ]
        values = [float(row["cosine"]) for row in mine]
        ends = [
            [value - float(row["cosine_low"]) for value, row in zip(values, mine, strict=True)],
            [float(row["cosine_high"]) - value for value, row in zip(values, mine, strict=True)],
        ]
        places = [int(row["size"]) + 0.12 * (2 * place - 1) for row in mine]
        middle.errorbar(places, values, ends, fmt=marker, color=colour, ms=4.5, lw=1, label=name.replace(", ", ",\n"))
    middle.set(title="Parameters of real models: cosine", xticks=list(small))
    middle.legend(frameon=False, loc="lower left", fontsize=8)
    for axis in (left, middle, right):
        axis.set(xlabel="group size G", ylim=(0, 1.05))
        axis.grid(alpha=0.25)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", nargs=3, action="append", default=[], metavar=("NAME", "DIR", "GROUPS"))
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    rows, grpo = log_ratio_rows(), grpo_rows()
    measured = []
    for name, *where in arguments.model:
        groups = measure(*where)
        measured += model_rows(name, groups)
        larger = worst_gradient_is_larger(groups)
        print(f"{name}: the worst level has the larger mean squared gradient in {sum(larger)} of {len(larger)} groups")
    again = {name for name, *_ in arguments.model}
    earlier = [row for row in load(HERE / "cosine_models.csv") if row["model"] not in again]
    save(arguments.out / "cosine.csv", rows)
    save(arguments.out / "grpo.csv", grpo)
    if earlier or measured:
        save(arguments.out / "cosine_models.csv", earlier + measured)
    draw(rows, load(arguments.out / "cosine_models.csv"), arguments.out / "cosine.png")
    for row in rows:
        print("{rewards:9} G={size:<3} cosine {cosine:.3f}  norm ratio {norm_ratio:.3f}".format(**row))
    for row in measured:
        print(
            "{model} {rewards} {advantage} G={size} ({groups} groups): cosine {cosine:.3f} "
            "[{cosine_low:.3f}, {cosine_high:.3f}], norm ratio {norm_ratio:.3f}, "
            "with GRPO {grpo_adjacent:.3f} adjacent, {grpo_all:.3f} all".format(**row)
        )


if __name__ == "__main__":
    main()
