"""A softmax policy over twelve outcomes trained on one group at a time, for every reading and two teachers.

    python docs/objective/policy.py [--pairs all]

Outcomes 0 to 3 are right, with rewards 2, 1.9, 1.8, 1.7; the other eight are wrong, with 1, 0.9, .., 0.3. The student
starts right half of the time. A seed draws the student's and the teacher's logits and the teacher's group of ten.
Draws `policy.png` from `policy.csv`: means over the seeds and their standard errors.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from gdpo.core.files import write_csv
from gdpo.trainer.objective import gdpo_loss

HERE = Path(__file__).parent
REWARDS = torch.tensor([2 - 0.1 * k for k in range(4)] + [1 - 0.1 * k for k in range(8)], dtype=torch.float64)
RIGHT = 4  # outcomes
STUDENT = 0.5  # how often it is right before training
TEACHERS = {"clean teacher, 87% right": 0.87, "noisy teacher, 33% right": 0.33}
ADVANTAGES = ("literal", "unweighted", "shifted", "reciprocal", "gap")
MEASURES = {
    "best": "probability of the group's best",
    "worst": "probability of the group's worst",
    "mass": "probability of the whole group",
    "reward": "expected reward",
}
SIZE = 10
BETA = 0.1
STEPS = 300
STEP = 0.02  # length of the first step in logits, the same for every reading; Adam's is free of the loss's scale too
SEEDS = 200


def policy(right: float, count: int, generator: torch.Generator) -> Tensor:
    """Logits of `count` policies, (count, 12), right with probability `right`, random within right and wrong."""
    logits = torch.randn(count, len(REWARDS), generator=generator, dtype=torch.float64)
    inside = [logits[:, :RIGHT].log_softmax(-1), logits[:, RIGHT:].log_softmax(-1)]
    shares = torch.tensor([right, 1 - right], dtype=torch.float64).log()
    return torch.cat([part + share for part, share in zip(inside, shares, strict=True)], dim=-1)


def draw_groups(teacher: Tensor, generator: torch.Generator) -> Tensor:
    """Ten outcomes from each teacher, (S, 10); a group whose rewards are all equal is drawn again."""
    groups = torch.multinomial(teacher.exp(), SIZE, replacement=True, generator=generator)
    while (tied := (groups == groups[:, :1]).all(-1)).any():
        groups[tied] = torch.multinomial(teacher[tied].exp(), SIZE, replacement=True, generator=generator)
    return groups


def measure(logits: Tensor, groups: Tensor) -> dict[str, Tensor]:
    """Each of MEASURES for each seed, (S,)."""
    probabilities = logits.softmax(-1)
    rewards = REWARDS[groups]
    inside = torch.zeros_like(probabilities).scatter_(-1, groups, 1.0)
    best, worst = (groups.gather(-1, place) for place in (rewards.argmax(-1, True), rewards.argmin(-1, True)))
    return {
        "best": probabilities.gather(-1, best).squeeze(-1),
        "worst": probabilities.gather(-1, worst).squeeze(-1),
        "mass": (probabilities * inside).sum(-1),
        "reward": probabilities @ REWARDS,
    }


def train(reference: Tensor, groups: Tensor, steps: int, pairs: str, advantage: str) -> list[dict[str, Tensor]]:
    """Gradient descent on the logits from the reference; the results of `measure` before each step and at the end."""
    logits, scale, measured = reference.clone(), None, []
    for _ in range(steps):
        measured.append(measure(logits, groups))
        logits.requires_grad_()
        log_ratios = (logits.log_softmax(-1) - reference.log_softmax(-1)).gather(-1, groups)
        loss = gdpo_loss(log_ratios, REWARDS[groups], beta=BETA, pairs=pairs, advantage=advantage)
        (slope,) = torch.autograd.grad(loss, logits)
        if scale is None:
            scale = STEP / slope.norm(dim=-1, keepdim=True)
        logits = (logits - scale * slope).detach()
    return [*measured, measure(logits, groups)]


def simulate(seeds: int, steps: int, pairs: str) -> list[dict]:
    """Rows of `policy.csv`: every tenth step of every reading and teacher."""
    rows = []
    for teacher, right in TEACHERS.items():
        generator = torch.Generator().manual_seed(0)
        reference = policy(STUDENT, seeds, generator)
        groups = draw_groups(policy(right, seeds, generator), generator)
        for advantage in ADVANTAGES:
            for step, measured in enumerate(train(reference, groups, steps, pairs, advantage)):
                if step % 10 == 0:
                    row = {"teacher": teacher, "pairs": pairs, "advantage": advantage, "step": step}
                    for name, values in measured.items():
                        row[name] = values.mean().item()
                        row[f"{name}_error"] = (values.std() / seeds**0.5).item()
                    rows.append(row)
    return rows


def save(path: Path, rows: list[dict]) -> None:
    rounded = ({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    write_csv(path, list(rows[0]), rounded)


def draw(rows: list[dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    colours = ("#D55E00", "#000000", "#0072B2", "#CC79A7", "#009E73")
    lines = ("--", "-", "-", "-.", ":")
    figure, axes = plt.subplots(2, 4, figsize=(10.5, 5.2), layout="constrained", sharex=True, sharey="col")
    for line_of_axes, teacher in zip(axes, TEACHERS, strict=True):
        for axis, name in zip(line_of_axes, MEASURES, strict=True):
            for advantage, colour, line in zip(ADVANTAGES, colours, lines, strict=True):
                mine = [row for row in rows if (row["teacher"], row["advantage"]) == (teacher, advantage)]
                steps, values, errors = ([row[key] for row in mine] for key in ("step", name, f"{name}_error"))
                axis.plot(steps, values, line, color=colour, lw=1.6, label=advantage)
                low, high = ([v + sign * e for v, e in zip(values, errors, strict=True)] for sign in (-1, 1))
                axis.fill_between(steps, low, high, color=colour, alpha=0.12, lw=0)
            axis.axhline(mine[0][name], color="#888888", lw=0.8)
            axis.grid(alpha=0.25)
        line_of_axes[0].set_ylabel(teacher)
    for above, below, (name, title) in zip(*axes, MEASURES.items(), strict=True):
        above.set_title(title, fontsize=9)
        below.set_xlabel("step")
        if name != "reward":
            below.set_ylim(bottom=0)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", choices=["adjacent", "all"], default="adjacent")
    parser.add_argument("--out", type=Path, default=HERE)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    rows = simulate(SEEDS, STEPS, arguments.pairs)
    name = "policy" if arguments.pairs == "adjacent" else "policy_all"
    save(arguments.out / f"{name}.csv", rows)
    draw(rows, arguments.out / f"{name}.png")
    for row in rows:
        if row["step"] in (0, 100, STEPS):
            print(
                "{teacher:24}  {advantage:10}  step {step:<3}  best {best:.3f}  worst {worst:.3f}  mass {mass:.3f}  "
                "reward {reward:.3f} +- {reward_error:.3f}".format(**row)
            )


if __name__ == "__main__":
    main()
