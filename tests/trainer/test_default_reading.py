"""The study of the objective's default (docs/objective/default.py): its policies, its criterion and its decision."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from gdpo.core.files import read_csv
from gdpo.trainer.gdpo_config import GDPOConfig
from gdpo.trainer.objective import gdpo_loss

STUDY = Path(__file__).parents[2] / "docs" / "objective"


@pytest.fixture(scope="module")
def study():
    spec = importlib.util.spec_from_file_location("objective_default", STUDY / "default.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pushes(best: int, worst: int, advantage: str) -> torch.Tensor:
    """w_i n_i at the start, of `best` right and `worst` wrong completions."""
    rewards = torch.tensor([[1.0] * best + [0.0] * worst], dtype=torch.float64)
    ratios = torch.zeros_like(rewards, requires_grad=True)
    gdpo_loss(ratios, rewards, beta=1.0, advantage=advantage).backward()
    return -4 * ratios.grad[0]


@pytest.mark.parametrize(("best", "worst"), [(2, 2), (1, 3), (3, 1), (5, 5)])
def test_shared_gradients_raise_the_worst(best, worst):
    """Gradients of length 1 with the cosine c: K = (1 - c) I + c 11'. Completion i moves by (1 - c) a_i + c sum(a).

    `shifted`, m right and k wrong: g = sqrt(k/m) + sqrt(m/k) is the gap of advantages, w = g + 1 and 1, n = 1/m and
    -1/k, so sum(a) = g and the worst moves by c g - (1 - c)/k: up where c > 1/(1 + k g). `unweighted`: sum(a) = 0,
    (1 - c)/m and -(1 - c)/k. m = k = 2: g = 2, so 1/5.
    """
    gap = math.sqrt(worst / best) + math.sqrt(best / worst)
    shifted, plain = (pushes(best, worst, name) for name in ("shifted", "unweighted"))
    assert shifted.sum().item() == pytest.approx(gap) and plain.sum().item() == pytest.approx(0, abs=1e-12)
    edge = 1 / (1 + worst * gap)
    if (best, worst) == (2, 2):
        assert edge == pytest.approx(1 / 5)
    for cosine in (0.0, 0.99 * edge, 1.01 * edge, 0.58):
        gram = (1 - cosine) * torch.eye(best + worst, dtype=torch.float64) + cosine
        moved, plainly = gram @ shifted, gram @ plain
        assert moved[0] > 0 and (moved[-1] > 0) == (cosine > edge)
        assert plainly[0].item() == pytest.approx((1 - cosine) / best)
        assert plainly[-1].item() == pytest.approx(-(1 - cosine) / worst)


def test_larger_gradients_of_the_worst_lower_the_best():
    """`unweighted`, one of each, lengths 1 and s, cosine c: the best moves by 1 - c s, so it falls where s > 1/c."""
    push = pushes(1, 1, "unweighted")
    for size, sign in ((1.2, 1), (2.0, -1)):
        gram = torch.tensor([[1, 0.6 * size], [0.6 * size, size**2]], dtype=torch.float64)
        assert (gram @ push)[0].item() == pytest.approx(1 - 0.6 * size)
        assert math.copysign(1, (gram @ push)[0].item()) == sign


def test_sequences_of_the_exact_policy(study):
    """1 + 5 + 25 + 125 + 625 sequences, whose probabilities sum to 1; a uniform table gives "aa" (1/6)^3."""
    every = study.sequences()
    places = study.transitions(every)
    assert len(every) == 781
    table = torch.randn(2, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(study.log_probs(table, places).exp().sum(-1), torch.ones(2, dtype=torch.float64))
    uniform = study.log_probs(torch.zeros(1, 4, 6, 6, dtype=torch.float64), places)[0]
    assert uniform[every.index((0, 0))].item() == pytest.approx(-3 * math.log(6))
    assert uniform[every.index((0, 0, 0, 0))].item() == pytest.approx(-4 * math.log(6))


@pytest.mark.parametrize(
    ("teacher", "kind", "rate", "reading"),
    [
        ("another, 87% right", "many levels", 0.02, ("shifted", "adjacent", "sigmoid")),
        ("itself", "two levels", 0.08, ("unweighted", "adjacent", "logsigmoid")),
    ],
)
def test_exact_numbers_are_reproduced(study, teacher, kind, rate, reading):
    task = study.problem(kind, study.TEACHERS[teacher], study.SEEDS)
    measured = study.train(*task, rate, reading, study.STEPS)
    found = study.summary(measured[0], measured[-1]) | {"grpo": study.first_cosine(*task, reading).mean().item()}
    names = ("teacher", "rewards", "rate", "advantage", "pairs", "link", "step")
    key = (teacher, kind, str(rate), *reading, str(study.STEPS))
    (kept,) = [row for row in read_csv(STUDY / "default_exact.csv") if tuple(row[name] for name in names) == key]
    for name, value in found.items():
        assert float(kept[name]) == pytest.approx(value, abs=1e-3, nan_ok=True), name


def row(**changes):
    """A cell of Tiny-S that has no fault."""
    plain = {"family": "tiny", "best": 1, "worst": -1, "margin": 2, "outcome": 0, "held_out": 0, "plain": "", "grpo": 1}
    errors = {f"{name}_error": 0.1 for name in ("best", "worst", "margin", "outcome")}
    return {name: str(value) for name, value in (plain | errors | changes).items()}


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, {}),
        ({"worst": 0.15}, {}),
        ({"worst": 0.5}, {"worst rises": 0.5}),
        ({"worst": 1.5, "margin": -0.5}, {"worst rises": 1, "margin": 1}),
        ({"worst": 0.5, "held_out": -0.06}, {"worst rises": 1, "leaves": 1}),
        ({"best": -0.3}, {"best falls": 1}),
        ({"plain": -0.06}, {"leaves": 1}),
        ({"outcome": -0.3}, {"outcome": 1}),
        ({"grpo": 0.4}, {"direction": 1}),
    ],
)
def test_faults_of_a_cell(study, changes, faults):
    """Two standard errors of 0.1 are 0.2; a held-out text may lose 0.05 nats a token."""
    assert {name: value for name, value in study.faults(row(**changes)).items() if value} == faults


def test_the_rule_of_the_criterion(study):
    def rows(**rates):
        return [
            {"advantage": a, "pairs": p, "link": k, "measured": True, "excluded_by": "", "worst_in_full": False}
            | {"fault_rate": rates.get(f"{a}_{p}_{k}", 2.0)}
            for a in study.ADVANTAGES
            for p in study.PAIRS
            for k in study.LINKS
        ]

    assert study.choose(rows(shifted_adjacent_sigmoid=0.5, unweighted_adjacent_sigmoid=0.41)) == study.DEFAULT
    found = study.choose(rows(shifted_adjacent_sigmoid=0.5, unweighted_adjacent_sigmoid=0.34, gap_all_sigmoid=0.3))
    assert found == ("unweighted", "adjacent", "sigmoid")
    excluded = rows(shifted_adjacent_sigmoid=0.5, gap_adjacent_sigmoid=0.9)
    excluded[8]["excluded_by"] = "tiny"
    assert (excluded[8]["advantage"], excluded[8]["pairs"], excluded[8]["link"]) == study.DEFAULT
    assert study.choose(excluded) == ("gap", "adjacent", "sigmoid")


def test_the_default_follows_the_criterion(study):
    """`default.csv` is what the kept measurements give, and `GDPOConfig` has the reading that the rule names."""
    measured = read_csv(STUDY / "default_tiny.csv") + read_csv(STUDY / "default_smollm2.csv")
    measured = study.with_direction(measured, read_csv(STUDY / "default_start.csv"))
    judged = study.verdict(study.cells(read_csv(STUDY / "default_exact.csv"), measured))
    kept = read_csv(STUDY / "default.csv")
    for found, old in zip(judged, kept, strict=True):
        expected = {name: f"{value:.4f}" if isinstance(value, float) else str(value) for name, value in found.items()}
        assert expected == old
    fields = GDPOConfig.__dataclass_fields__
    assert study.choose(judged) == tuple(fields[name].default for name in ("advantage", "pairs", "link"))
