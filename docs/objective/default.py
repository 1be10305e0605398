"""Where the probability goes, by reading: exact policies, the verdict of `criterion.md`, and the figure.

    python docs/objective/default.py [--keep-exact]

The exact policies are over all 781 sequences of at most four of five letters. A policy is a table of logits: the next
token given the position and the token before. So sequences share parameters through their prefixes, their tokens and
their end, as a language model's completions do, and every probability is enumerated. `default_exact.csv` is computed
here; `default_models.csv` and `default_start.csv` are measured by `default_models.py` and kept. `default.csv` holds
each reading's faults by `criterion.md`.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdpo.core.files import read_csv, write_csv
from gdpo.trainer.objective import advantages, gdpo_loss

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
ADVANTAGES = ("literal", "unweighted", "shifted", "reciprocal", "gap")
PAIRS = ("adjacent", "all")
LINKS = ("sigmoid", "logsigmoid")
REWARDS = ("two levels", "many levels")
TEACHERS = {"itself": None, "another, 87% right": 0.87, "another, 33% right": 0.33}
RATES = {0.005: "low", 0.02: "middle", 0.08: "high"}  # length of the first step, the same for every reading
LETTERS = 5
LONGEST = 4
RIGHT_ANSWERS = 2  # a sequence is right where its last letter is one of the first two
SIZE = 10
BETA = 0.1
STEPS = 200
EVERY = 20
SEEDS = 100
PRINTED = ("adjacent", "sigmoid")
SHOWN = "another, 87% right"  # the teacher of the figure

# The faults of criterion.md
SIGNIFICANT = 2  # standard errors
HELD_OUT_LOSS = 0.05  # nats a token
MIN_COSINE = 0.5
EXCLUDING = ("best falls", "margin", "outcome")
EXCLUDED_SHARE = 1 / 3
BETTER_BY = 0.10  # of the fault rate
AS_GOOD = 0.05
DEFAULT = ("shifted", "adjacent", "sigmoid")
CLOSEST = ("unweighted", "shifted", "reciprocal", "gap", "literal")  # to the printed form, of equal pairs and link
FAMILIES = ("exact", "tiny", "SmolLM2")

Reading = tuple[str, str, str]  # advantage, pairs, link


# ---------------------------------------------------------------------- a policy whose sequences share parameters


def sequences() -> list[tuple[int, ...]]:
    """All sequences of at most LONGEST letters, the empty one too."""
    return [s for length in range(LONGEST + 1) for s in itertools.product(range(LETTERS), repeat=length)]


def transitions(every: list[tuple[int, ...]]) -> Tensor:
    """The places in a flattened table of each sequence's transitions, (781, 4); the place after the last is none.

    A table has LONGEST positions, LETTERS + 1 tokens before (the last stands for none) and LETTERS + 1 next (the last
    is the end). A sequence of LONGEST letters ends without a choice.
    """
    tokens = LETTERS + 1
    none = LONGEST * tokens * tokens
    places = []
    for sequence in every:
        chain = [LETTERS, *sequence, LETTERS][: LONGEST + 1]
        own = [(at * tokens + before) * tokens + after for at, (before, after) in enumerate(itertools.pairwise(chain))]
        places.append(own + [none] * (LONGEST - len(own)))
    return torch.tensor(places)


def log_probs(table: Tensor, places: Tensor) -> Tensor:
    """log pi of sequences, (S, N), from tables (S, 4, 6, 6) and transitions (N, 4) or, each its own, (S, N, 4)."""
    flat = torch.cat([table.log_softmax(-1).flatten(1), table.new_zeros(len(table), 1)], dim=-1)
    places = places.expand(len(table), *places.shape[-2:])
    return flat.gather(-1, places.flatten(1)).view(places.shape).sum(-1)


def reward(every: list[tuple[int, ...]], kind: str) -> Tensor:
    """1 where right, else 0; of many levels a shorter sequence, right or wrong, has up to half a point more."""
    right = torch.tensor([float(bool(s) and s[-1] < RIGHT_ANSWERS) for s in every], dtype=torch.float64)
    short = torch.tensor([1 - len(s) / LONGEST for s in every], dtype=torch.float64)
    return right + 0.5 * short if kind == "many levels" else right


def draw_groups(teacher: Tensor, rewards: Tensor, generator: torch.Generator) -> Tensor:
    """Ten sequences from each teacher, (S, 10); a group whose rewards are all equal is drawn again."""
    groups = torch.multinomial(teacher, SIZE, replacement=True, generator=generator)
    while (tied := (rewards[groups] == rewards[groups][:, :1]).all(-1)).any():
        groups[tied] = torch.multinomial(teacher[tied], SIZE, replacement=True, generator=generator)
    return groups


def problem(kind: str, right_share: float | None, seeds: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Students' tables (S, 4, 6, 6), groups (S, 10), transitions and rewards of all sequences."""
    generator = torch.Generator().manual_seed(0)
    every = sequences()
    places, rewards = transitions(every), reward(every, kind)
    shape = (seeds, LONGEST, LETTERS + 1, LETTERS + 1)
    student, other = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    teacher = log_probs(student if right_share is None else other, places).exp()
    if right_share is not None:
        right = reward(every, "two levels")
        share = teacher @ right
        weight = torch.where(right > 0, right_share / share[:, None], (1 - right_share) / (1 - share[:, None]))
        teacher = teacher * weight
    return student, draw_groups(teacher, rewards, generator), places, rewards


def level(values: Tensor, rewards: Tensor, which: str) -> Tensor:
    """The mean of `values` over a group's best, worst or other completions, (S,); nan where there are no others."""
    best, worst = rewards == rewards.amax(-1, True), rewards == rewards.amin(-1, True)
    chosen = {"best": best, "worst": worst, "rest": ~(best | worst)}[which]
    return (values * chosen).sum(-1) / chosen.sum(-1)


def measure(table: Tensor, reference: Tensor, groups: Tensor, places: Tensor, rewards: Tensor) -> dict[str, Tensor]:
    """Log-ratios and probabilities of the levels, the probability outside the group, the expected reward; (S,) each."""
    now, before = log_probs(table, places), log_probs(reference, places)
    ratios, own = (now - before).gather(-1, groups), rewards[groups]
    inside = torch.zeros_like(now).scatter_(-1, groups, 1.0)
    found = {name: level(ratios, own, name) for name in ("best", "worst", "rest")}
    probability = now.exp()
    top, bottom = own.amax(-1, True), own.amin(-1, True)
    masks = {"best": rewards == top, "worst": rewards == bottom, "rest": (rewards != top) & (rewards != bottom)}
    found |= {f"mass_{name}": (probability * inside * mask).sum(-1) for name, mask in masks.items()}
    found["mass_outside"] = (probability * (1 - inside)).sum(-1)
    return found | {"outcome": probability @ rewards}


def first_slope(table: Tensor, groups: Tensor, places: Tensor, move: Tensor) -> Tensor:
    """sum_i move_i grad l_i for each student, (S, 144)."""
    leaf = table.clone().requires_grad_()
    (slope,) = torch.autograd.grad((move * log_probs(leaf, places[groups])).sum(), leaf)
    return slope.flatten(1)


def train(
    student: Tensor, groups: Tensor, places: Tensor, rewards: Tensor, rate: float, reading: Reading, steps: int
) -> list[dict[str, Tensor]]:
    """Gradient descent from the student, its first step of length `rate`; `measure` before every EVERY-th step."""
    advantage, pairs, link = reading
    table, scale, measured = student.clone(), None, []
    start = log_probs(student, places[groups])
    for step in range(steps + 1):
        if step % EVERY == 0:
            measured.append(measure(table, student, groups, places, rewards))
        if step == steps:
            break
        table.requires_grad_()
        ratios = log_probs(table, places[groups]) - start
        loss = gdpo_loss(ratios, rewards[groups], beta=BETA, pairs=pairs, link=link, advantage=advantage)
        (slope,) = torch.autograd.grad(loss, table)
        if scale is None:
            scale = rate / slope.flatten(1).norm(dim=-1)[:, None, None, None]
        table = (table - scale * slope).detach()
    return measured


def first_cosine(student: Tensor, groups: Tensor, places: Tensor, rewards: Tensor, reading: Reading) -> Tensor:
    """The cosine of the reading's first step with GRPO's, in the table's parameters, (S,)."""
    advantage, pairs, link = reading
    ratios = torch.zeros(groups.shape, dtype=torch.float64, requires_grad=True)
    gdpo_loss(ratios, rewards[groups], beta=BETA, pairs=pairs, link=link, advantage=advantage).backward()
    own = first_slope(student, groups, places, -ratios.grad)
    grpo = first_slope(student, groups, places, advantages(rewards[groups]))
    return torch.cosine_similarity(own, grpo, dim=-1)


def error(values: Tensor) -> float:
    return (values.std() / len(values) ** 0.5).item()


def summary(start: dict[str, Tensor], now: dict[str, Tensor]) -> dict[str, float]:
    """A row's numbers: means over the draws of what `measure` found, and standard errors of what is judged."""
    margin, leaves = now["best"] - now["worst"], now["mass_outside"] - start["mass_outside"]
    gain = now["outcome"] - start["outcome"]
    row = {name: now[name].mean().item() for name in ("best", "worst")}
    row["rest"] = now["rest"].nanmean().item()
    row |= {"margin": margin.mean().item(), "leaves": leaves.mean().item(), "outcome": gain.mean().item()}
    judged = {"best": now["best"], "worst": now["worst"], "margin": margin, "leaves": leaves, "outcome": gain}
    row |= {f"{name}_error": error(values) for name, values in judged.items()}
    row |= {f"{name}_moves": (now[name] > 0).double().mean().item() for name in ("best", "worst")}
    return row | {name: values.mean().item() for name, values in now.items() if name.startswith("mass")}


def readings(kind: str) -> list[Reading]:
    """Those that differ: with two levels adjacent pairs are all pairs, and `gap` is `unweighted`."""
    every = list(itertools.product(ADVANTAGES, PAIRS, LINKS))
    return [r for r in every if kind == "many levels" or (r[1] == "adjacent" and r[0] != "gap")]


def simulate(seeds: int, steps: int) -> list[dict]:
    """Rows of `default_exact.csv`: the end of every run, and every EVERY-th step where `draw` shows it."""
    rows = []
    for kind, (teacher, right) in itertools.product(REWARDS, TEACHERS.items()):
        task = problem(kind, right, seeds)
        for reading in readings(kind):
            cosine = first_cosine(*task, reading).mean().item()
            for rate in RATES:
                measured = train(*task, rate, reading, steps)
                for number, found in enumerate(measured):
                    curve = RATES[rate] == "middle" and reading[1:] == PRINTED
                    if not curve and number < len(measured) - 1:
                        continue
                    row = {"teacher": teacher, "rewards": kind, "rate": rate}
                    row |= dict(zip(("advantage", "pairs", "link"), reading, strict=True))
                    row |= {"step": number * EVERY, "grpo": cosine} | summary(measured[0], found)
                    rows.append(row)
    return rows


# ---------------------------------------------------------------------- the criterion


def faults(row: dict) -> dict[str, float]:
    """What `criterion.md` counts against a cell's last row, by fault. An empty value is not measured."""

    def number(name: str) -> float:
        return float(row[name]) if row.get(name) not in (None, "") else 0.0

    def above(name: str, sign: int) -> bool:
        return sign * number(name) > SIGNIFICANT * number(f"{name}_error")

    found = {"worst rises": float(above("worst", 1)), "best falls": float(above("best", -1))}
    found["margin"] = float(not above("margin", 1))
    if row["family"] == "exact":
        found["leaves"] = float(above("leaves", 1))
    else:
        found["leaves"] = float(max(-number("held_out"), -number("plain")) > HELD_OUT_LOSS)
    found["outcome"] = float(above("outcome", -1))
    found["direction"] = float(number("grpo") < MIN_COSINE)
    if found["worst rises"] and not found["margin"] and not found["leaves"]:
        found["worst rises"] = 0.5
    return found


def cells(exact: list[dict], models: list[dict]) -> dict[Reading, dict[str, list[tuple[str, dict[str, float]]]]]:
    """By reading and family: the rate's name and the faults of each cell, at the end of its training."""
    last: dict[tuple, dict] = {}
    rates = {str(rate): name for rate, name in RATES.items()}
    for row in [{"family": "exact", "model": "exact", "rate_name": rates[str(r["rate"])]} | r for r in exact] + models:
        cell = tuple(str(row[key]) for key in ("family", "model", "rewards", "rate"))
        key = (*cell, str(row.get("teacher", "")), row["advantage"], row["pairs"], row["link"])
        if row["rate_name"] == "not judged":
            continue
        if key not in last or int(row["step"]) >= int(last[key]["step"]):
            last[key] = row
    judged: dict[Reading, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for row in last.values():
        for reading in same_loss(row):
            judged[reading][row["family"]].append((row["rate_name"], faults(row)))
    return judged


def with_direction(models: list[dict], starts: list[dict]) -> list[dict]:
    """The models' rows with `grpo`, the cosine of their first step with GRPO's, which no link changes."""
    names = ("model", "rewards", "advantage", "pairs")
    found = {tuple(row[name] for name in names): row["grpo"] for row in starts}
    return [row | {"grpo": found[tuple(row[name] for name in names)]} for row in models]


def same_loss(row: dict) -> list[Reading]:
    """The readings that a row stands for: with two levels several are one loss."""
    names, pairs = [row["advantage"]], [row["pairs"]]
    if row["rewards"] == "two levels":
        names = ["unweighted", "gap"] if row["advantage"] == "unweighted" else names
        pairs = list(PAIRS)
    return [(name, pair, row["link"]) for name in names for pair in pairs]


def verdict(judged: dict[Reading, dict[str, list[tuple[str, dict[str, float]]]]]) -> list[dict]:
    """Rows of `default.csv`: each reading's fault rate, whether it is excluded, and its faults by family and kind."""
    most = {family: max(len(found[family]) for found in judged.values()) for family in FAMILIES}
    rows = []
    for reading in itertools.product(ADVANTAGES, PAIRS, LINKS):
        found = judged[reading]
        row = dict(zip(("advantage", "pairs", "link"), reading, strict=True))
        rates, excluded = [], []
        for family in FAMILIES:
            here = found[family]
            row[f"{family}_cells"] = len(here)
            row[f"{family}_rate"] = statistics.fmean(sum(f.values()) for _, f in here) if here else ""
            rates.append(row[f"{family}_rate"])
            usable = [f for rate, f in here if rate != "high"]
            bad = sum(any(f[kind] for kind in EXCLUDING) for f in usable)
            if usable and bad >= EXCLUDED_SHARE * len(usable):
                excluded.append(family)
        row["measured"] = all(row[f"{family}_cells"] == most[family] > 0 for family in FAMILIES)
        row["fault_rate"] = statistics.fmean(rates) if "" not in rates else ""
        row["excluded_by"] = ", ".join(excluded)
        row["worst_in_full"] = any(f["worst rises"] == 1 for family in FAMILIES for _, f in found[family])
        for kind in ("worst rises", "best falls", "margin", "leaves", "outcome", "direction"):
            shares = [statistics.fmean(f[kind] for _, f in found[family]) for family in FAMILIES if found[family]]
            row[kind] = statistics.fmean(shares) if shares else ""
        rows.append(row)
    return rows


def choose(rows: list[dict]) -> Reading:
    """The default by the rule of `criterion.md`, from `verdict`'s rows."""
    by_reading = {(row["advantage"], row["pairs"], row["link"]): row for row in rows}
    present = by_reading[DEFAULT]
    usable = {reading: row for reading, row in by_reading.items() if row["measured"] and not row["excluded_by"]}
    usable = {reading: row for reading, row in usable.items() if reading[0] != "literal" or not row["worst_in_full"]}
    if not present["excluded_by"]:
        limit = present["fault_rate"] - BETTER_BY
        usable = {reading: row for reading, row in usable.items() if row["fault_rate"] <= limit}
    if not usable:
        return DEFAULT
    fewest = min(row["fault_rate"] for row in usable.values())
    near = [reading for reading, row in usable.items() if row["fault_rate"] <= fewest + AS_GOOD]
    return min(near, key=lambda r: (PAIRS.index(r[1]), LINKS.index(r[2]), CLOSEST.index(r[0])))


# ---------------------------------------------------------------------- files and figure


def save(path: Path, rows: list[dict]) -> None:
    rounded = ({k: f"{v:.4f}" if isinstance(v, float) and k != "rate" else v for k, v in row.items()} for row in rows)
    write_csv(path, list(rows[0]), rounded)


def load(path: Path) -> list[dict]:
    return read_csv(path) if path.exists() else []


def draw(exact: list[dict], models: list[dict], path: Path) -> None:
    """Best, worst, rest and outside, by column, of one exact policy, Tiny-M and SmolLM2, by row; many levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(3, 4, figsize=(10.5, 7.2), layout="constrained")
    columns = ("best", "worst", "rest", "outside")
    kept = (SHOWN, "many levels", "0.02")
    shown = [row for row in exact if (row["teacher"], row["rewards"], str(row["rate"])) == kept]
    for axis, name in zip(axes[0], columns, strict=True):
        lines(axis, shown, "step", f"mass_{name}")
        axis.set(xlabel="step", title=name if name != "outside" else "outside the group")
        axis.set_ylim(bottom=0)
    axes[0][3].set_ylim(0, 1)
    axes[0][0].set_ylabel("exact policy\nprobability")
    many = [row for row in models if row["rewards"] == "many levels"]
    tiny = [row for row in many if row["model"] == "Tiny-M"]
    smol = [row for row in many if row["family"] == "SmolLM2"]
    steps = [row for row in smol if row["rate_name"] == "middle"]
    ends = [row for row in smol if row["held_out"] != "" and row["rate_name"] != "not judged"]
    for name, middle, below in zip(columns, axes[1], axes[2], strict=True):
        outside = name == "outside"
        lines(middle, tiny, "rate", "held_out" if outside else name)
        lines(below, ends if outside else steps, "rate" if outside else "step", "held_out" if outside else name)
        middle.set(xscale="log", xlabel="learning rate")
        below.set(xscale="log" if outside else "linear", xlabel="learning rate" if outside else "update at 2e-4")
        middle.set_xticks([1e-4, 3e-4, 1e-3], ["1e-4", "3e-4", "1e-3"], minor=False)
        middle.minorticks_off()
        if outside:
            below.set_xticks([2e-4, 1e-3], ["2e-4", "1e-3"], minor=False)
            below.minorticks_off()
        for axis in (middle, below):
            axis.axhline(0, color="#888888", lw=0.8)
            if outside:
                axis.set_ylabel("held-out right answers,\nnats a token")
    axes[1][0].set_ylabel("Tiny-M, 3 epochs\nlog-ratio, nats")
    axes[2][0].set_ylabel("SmolLM2-135M, LoRA\nlog-ratio, nats")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.savefig(path, dpi=100)


def lines(axis: Axes, rows: list[dict], across: str, name: str) -> None:
    """One line for each reading with the printed pairs and link."""
    colours = ("#D55E00", "#000000", "#0072B2", "#CC79A7", "#009E73")
    for advantage, colour, style in zip(ADVANTAGES, colours, ("--", "-", "-", "-.", ":"), strict=True):
        mine = [row for row in rows if (row["advantage"], row["pairs"], row["link"]) == (advantage, *PRINTED)]
        points = sorted((float(row[across]), float(row[name])) for row in mine if row[name] != "")
        axis.plot(
            *zip(*points, strict=True),
            style,
            color=colour,
            marker="." if len(points) < 8 else "",
            lw=1.5,
            label=advantage,
        )
    axis.grid(alpha=0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--keep-exact", action="store_true", help="judge and draw the exact policies' kept rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the same sums in the same order on every machine of a kind
    if arguments.keep_exact:
        exact = load(HERE / "default_exact.csv")
    else:
        exact = simulate(SEEDS, STEPS)
        save(arguments.out / "default_exact.csv", exact)
    models = load(HERE / "default_tiny.csv") + load(HERE / "default_smollm2.csv")
    judged = verdict(cells(exact, with_direction(models, load(HERE / "default_start.csv"))))
    save(arguments.out / "default.csv", judged)
    draw(exact, models, arguments.out / "default.png")
    for row in judged:
        names = ("advantage", "pairs", "link", "fault_rate", "measured", "excluded_by")
        print("  ".join(f"{name} {row[name]}" for name in names))
    print("the default by the criterion:", *choose(judged))


if __name__ == "__main__":
    main()
