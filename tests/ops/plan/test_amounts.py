"""Tokens, rates and money by numbers worked by hand, on scale micro and on paper, from a directory without results."""

from __future__ import annotations

import pytest

from gdpo.config.loader import load_scale
from gdpo.ops.plan.amounts import Amounts, Work
from gdpo.ops.plan.jobs import Job, Time
from gdpo.ops.plan.rates import Rate, Rates, label
from tests.refusal import refused


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def of(scale: str, command: str) -> list[Work]:
    return Amounts(load_scale(scale)).of(Job(f"gdpo {command} --scale {scale}"))


def test_shipped_model_is_no_work() -> None:
    """A base model that is data is copied, which is nothing to charge for."""
    job = Job("gdpo model --scale tiny --name tiny-s")
    scale = load_scale("tiny")
    assert Amounts(scale).of(job) == []
    models = scale.models | {"tiny-s": scale.model("tiny-s").model_copy(update={"reference": None})}
    (work,) = Amounts(scale.model_copy(update={"models": models})).of(job)
    assert (work.what, work.amount) == ("pretrain", 55000)


def test_tokens_of_sft() -> None:
    """96 math questions, one completion each, four epochs: 4 * 96 * (13 + 16.8) tokens; the same for either seed."""
    pieces = of("micro", "train --student tiny-s --trainset hard-only --method sft --seeds 0 1")
    assert [(work.what, work.tokens) for work in pieces] == [("train sft", pytest.approx(4 * 96 * 29.8))] * 2


def test_tokens_of_gdpo() -> None:
    """(4 + 1/3) epochs of half of 96 groups, of two completions of 13 + 16.8 tokens: 0.2 of four would be fewer."""
    (work,) = of("micro", "train --student tiny-m --trainset hard-only --method gdpo --seeds 0")
    assert work.tokens == pytest.approx(13 / 3 * 0.5 * 96 * 2 * 29.8)


def test_samples_of_a_watched_run() -> None:
    """gdpo on MetaKL takes 12 steps, 3 an epoch: looks before, after every fourth, at most 12 // 4 + 2 = 5."""
    trained, watched = of("micro", "train --student tiny-s --trainset metakl --method gdpo --seeds 0")
    assert (watched.what, watched.amount) == ("sample hf", 5 * 26 * 32)
    assert trained.kind == "train"


def test_evaluation_by_transformers_is_charged_max_new_tokens() -> None:
    """50 items of each of 13 columns, whose most new tokens add up to 164."""
    (work,) = of("micro", "evaluate --student tiny-s --trainset none --method origin --seeds 0 --split test")
    assert (work.what, work.amount) == ("evaluate hf", 50 * 164)
    assert work.tokens < work.amount


def test_evaluation_by_vllm_is_charged_sampled_tokens() -> None:
    (work,) = of("paper", "evaluate --student qwen3-8b --trainset none --method origin --seeds 0 --split test")
    assert work.what == "evaluate vllm"
    math = (30 + 40) * 16 + 500 + 1319 + 675 + 272
    assert work.amount == math * 5000 + (14042 + 1221 + 198) * 1200 + (1174 + 1400 + 313 + 2000) * 800


def test_endpoint_is_paid_once_for_a_sample() -> None:
    """MetaKL's 5,661 questions 10 times, of the larger groups 6 further ones; the union's are its parts'."""
    amounts = Amounts(load_scale("paper"))

    def asked(trainset: str) -> float:
        (work,) = amounts.of(Job(f"gdpo teach respond --scale paper --trainset {trainset}"))
        return work.prompt

    mean = (1547 * 120 + 2993 * 120 + 1121 * 150) / 5661
    assert asked("metakl") == pytest.approx(5661 * 10 * mean)
    assert asked("metakl-g16") == pytest.approx(5661 * 6 * mean)
    assert asked("metakl-g16") == 0
    assert asked("hard-only") == 817 * 10 * 120
    assert asked("safety-only") == 630 * 10 * 150
    assert asked("union") == 0


def test_sizes_of_parts_of_a_training_set() -> None:
    sizes = Amounts(load_scale("paper")).sizes
    assert sizes.trainset("metakl-math") == {"math": 1547}
    assert sum(sizes.trainset("metakl-8th").values()) == pytest.approx(708)


def test_missing_key_of_expected_is_named() -> None:
    scale = load_scale("paper")
    without = scale.model_copy(update={"expected": scale.expected.model_copy(update={"items": {}})})
    with refused(path="paper", key="expected.items.aime24", expected="how many"):
        Amounts(without).sizes.items("aime24")
    with refused(path="paper", key="expected", found="none"):
        Amounts(scale.model_copy(update={"expected": None})).sizes.groups("metakl")


def test_models_of_one_shape_share_a_label() -> None:
    scale = load_scale("tiny")
    assert label(scale, "tiny-s") == label(scale, "tiny-s-instruct") == "64x3"
    assert label(scale, "tiny-m") != label(scale, "tiny-s")


def test_measured_rate_is_preferred_to_finished_jobs() -> None:
    """Two jobs of 300 tokens in all took 6 seconds: 0.02 a token; measured, 0.5 a token and 2 seconds to begin."""
    work = Work("train sft", "tiny-s", 100, 100)
    other = Work("train dpo", "tiny-s", 100, 100)
    finished = [([work], Time(1.0)), ([Work("train sft", "tiny-s", 200, 200)], Time(5.0)), ([work, other], Time(9.0))]
    rates = Rates(load_scale("micro"), finished)
    source, rate = rates.observed(work)
    assert (source, rate.time(work).seconds) == ("finished", pytest.approx(2.0))
    rates.measured[rates.key(work)] = Rate(0.5, 2.0)
    source, rate = rates.observed(work)
    assert (source, rate.time(work).seconds) == ("measured", 52.0)
    assert rates.observed(other) is None and rates.assumed(other) is None


def test_assumed_rate_of_a_card() -> None:
    """A million trained tokens of length 0: 6 * (8,190,735,360 - 622,329,856 - 4,096) operations each.

    Less the embedding, which is looked up, and the last norm; at 35% of 312 TFLOP/s.
    """
    rates = Rates(load_scale("paper"))
    work = Work("train gdpo", "qwen3-8b", 1e6, 1e6)
    assert rates.assumed(work).time(work).seconds == pytest.approx(1e6 * 6 * 7_568_401_408 / (312e12 * 0.35))
    assert rates.assumed(Work("ask", "deepseek-r1", 1, 1)) is None
