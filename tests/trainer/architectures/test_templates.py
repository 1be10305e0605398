"""What each family's published template and special tokens do to prompts, endings and thoughts, the same everywhere."""

# ruff: noqa: RUF001 (DeepSeek's own bars)

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer
from trl import GRPOTrainer

from gdpo.config.benchmarks import Benchmark
from gdpo.config.models import Model, Reward
from gdpo.core.records import Question, chat, write_records
from gdpo.evaluate import harness
from gdpo.evaluate.drift import Drift
from gdpo.evaluate.model import Student
from gdpo.models.choice_likelihood import Scorer
from gdpo.models.sampling import complete
from gdpo.models.sampling_hf import Generator
from gdpo.models.sampling_types import Sampling
from gdpo.students import train_run
from gdpo.students.common import padding_tokenizer
from gdpo.students.watch import ValidationReward
from gdpo.teach.reward import reward
from gdpo.trainer.dataset import DataError, completion_ids, prompt_ids, tokenize_groups
from tests.trainer.architectures.families import FAMILIES, QWEN25, R1_LLAMA, R1_QWEN, scripted, write
from tests.trainer.architectures.test_every_student import ASKED, LETTERED, groups, method, reward_length

PUBLISHED = {name: family for name, family in FAMILIES.items() if not family.tied}
R1 = {"r1-qwen-7b": R1_QWEN, "r1-llama-8b": R1_LLAMA}
USER = chat(ASKED[0])  # What is 0 + 2?
RENDERED = {
    "qwen3": "<|im_start|>user\nWhat is 0 + 2?<|im_end|>\n<|im_start|>assistant\n",
    "qwen2_5": "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\nWhat is 0 + 2?<|im_end|>\n<|im_start|>assistant\n",
    "llama3_1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nWhat is 0 + 2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "deepseek_r1_distill": "<｜begin▁of▁sentence｜><｜User｜>What is 0 + 2?<｜Assistant｜><think>\n",
}
# What the thinkers below say.
SAID = "<think>\nOkay</think>2"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    root = tmp_path_factory.mktemp("templates")
    torch.set_num_threads(1)
    for name, family in PUBLISHED.items():
        write(family, root / name)
    return root


@pytest.fixture(scope="module")
def thinkers(tmp_path_factory):
    """R1-Distill's models, which write `Okay</think>2` behind every prompt's `<think>` and newline, and end."""
    root = tmp_path_factory.mktemp("thinkers")
    for name, family in R1.items():
        script = {"Ċ": "O", "O": "k", "k": "a", "a": "y", "y": "</think>", "</think>": "2", "2": family.ends[0]}
        scripted(family, root / name, script | {family.ends[0]: "3"})
    return root


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    path = tmp_path_factory.mktemp("asked")
    write_records(path / "sums.jsonl", ASKED[:2])
    write_records(path / "letters.jsonl", LETTERED[:1])
    return path


# Prompts


@pytest.mark.parametrize("name", PUBLISHED)
def test_training_sampling_and_scoring_ask_the_same(name, checkpoints, items, tmp_path, monkeypatch):
    """Token by token: the offline methods' prompt, GRPO's, the engine's and lm-eval's; one BOS where there is any."""
    family, path = PUBLISHED[name], checkpoints / name
    tokenizer = AutoTokenizer.from_pretrained(path)
    trained = prompt_ids(tokenizer, USER)
    assert tokenizer.decode(trained) == RENDERED[family.template]
    assert trained.count(tokenizer.bos_token_id) == (1 if family.bos else 0)
    seen: dict[str, list[list[int]]] = {}

    def rollout(trainer, prompts, *_, **__):
        seen["grpo"] = prompts
        raise InterruptedError

    def answered(student, context, attention_mask, **_):
        rows = zip(context.tolist(), attention_mask.tolist(), strict=True)
        seen["lm-eval"] = [[i for i, there in zip(ids, mask, strict=True) if there] for ids, mask in rows]
        raise InterruptedError

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", rollout)
    monkeypatch.setattr(Student, "_model_generate", answered)
    with pytest.raises(InterruptedError):
        train_run(
            base=path, method=method("grpo"), groups=groups()[:2], out=tmp_path / "out", work=tmp_path / "work", seed=0,
            reward_fn=reward_length,
        )  # fmt: skip
    sums = {"sums": (Benchmark(display="", domain="math", source="made", max_new_tokens=4), items / "sums.jsonl")}
    with pytest.raises(InterruptedError):
        harness.evaluate(path, "float32", sums, 2)
    (text,) = Generator(path, "float32").prompts([USER])
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == trained
    assert trained in seen["grpo"] and trained in seen["lm-eval"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_choice_is_ranked_behind_the_same_prompt_by_both_ways(name, checkpoints):
    """By gdpo.models.choice_likelihood and by lm-eval; behind an open thought the choice is an answer: it is closed."""
    family, path = PUBLISHED[name], checkpoints / name
    student, scorer = Student(path, "float32", 2, {}), Scorer(path, "float32")
    ((before, choice),) = scorer.encode((USER, ["two"]))
    assert (before, choice) == student._encode_pair(student.apply_chat_template(USER), "two")
    closed = RENDERED[family.template] + ("\n</think>\n\n" if name in R1 else "")
    assert scorer.tokenizer.decode(before + choice) == closed + "two"


# Endings


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_completion_ends_as_the_template_ends_a_turn_and_generation_stops(name, checkpoints):
    """The tokenizer's end is the first token behind a templated answer, and among those that stop generation."""
    path = checkpoints / name
    tokenizer, generator = AutoTokenizer.from_pretrained(path), Generator(path, "float32")
    ids = completion_ids(tokenizer, "<think>\nOkay.\n</think>\n\n2", USER)
    assert ids[-1] == tokenizer.eos_token_id and ids.count(ids[-1]) == 1
    turn = tokenizer.apply_chat_template([*USER, {"role": "assistant", "content": "2"}], tokenize=False)
    assert turn.rstrip("\n").endswith("2" + tokenizer.eos_token)
    stops = generator.model.generation_config.eos_token_id
    assert tokenizer.eos_token_id in (stops if isinstance(stops, list) else [stops])
    assert Student(path, "float32", 2, {}).eot_token_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("name", "end"), [(name, end) for name, family in PUBLISHED.items() for end in family.ends], ids=str
)
def test_every_end_of_the_checkpoint_ends_generation(name, end, tmp_path, items):
    """A model that says 2, one of its ends, and then 3 for ever: only the 2 is heard, by the engine and by lm-eval."""
    path = tmp_path / "model"
    scripted(PUBLISHED[name], path, {"Ċ": "2", "2": end, end: "3", "3": "3"})
    expected = "<think>\n2" if name in R1 else "2"
    sampling = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=5, batch_size=2, seed=0)
    assert complete(Model(display="", reference="dir:x"), path, [USER], sampling, tmp_path / "c") == [[expected]]
    benchmark = Benchmark(display="", domain="math", source="made", max_new_tokens=5)
    rows = harness.evaluate(path, "float32", {"sums": (benchmark, items / "sums.jsonl")}, 2)["sums"]
    assert [row["output"] for row in rows] == [expected] * 2


def test_an_end_that_is_also_the_padding_is_learned(checkpoints, monkeypatch):
    """R1-Distill and Llama pad with what ends a text: the last token of a completion has its loss all the same."""
    seen = []

    def peek(trainer, *_, **__):
        seen.append(trainer.data_collator([trainer.train_dataset[n] for n in range(3)]))
        raise InterruptedError

    monkeypatch.setattr(Trainer, "train", peek)
    for name in ("r1-llama-8b", "llama-3.1-8b-instruct"):
        tokenizer = padding_tokenizer(checkpoints / name)
        assert tokenizer.pad_token_id == tokenizer.eos_token_id
        long = [
            group.model_copy(update={"completions": ["<think>\n" + "Okay. " * n + "</think>2", *group.completions[1:]]})
            for n, group in enumerate(groups(), start=1)
        ]
        tokenized = tokenize_groups([g.model_dump() for g in long], tokenizer)
        lengths = [len(group["sequences"][0]) for group in tokenized[:3]]
        assert len(set(lengths)) == 3
        for trainer in ("sft", "dpo"):
            with pytest.raises(InterruptedError):
                train_run(
                    base=checkpoints / name, method=method(trainer), groups=long, out=checkpoints / "out",
                    work=checkpoints / "work", seed=0,
                )  # fmt: skip
        sft, dpo = seen[-2:]
        assert (sft["labels"] == tokenizer.eos_token_id).sum(1).tolist() == [1, 1, 1]
        assert (sft["labels"] != -100).sum(1).tolist() == lengths
        assert dpo["completion_mask"][:3].sum(1).tolist() == lengths


def test_repetition_penalty_of_the_checkpoint_is_ignored(tmp_path, items):
    """Qwen2.5's is 1.05. A model that would say 2 for ever, and 3 by a logit of 0.97 as much, says 2 for ever."""
    path = tmp_path / "model"
    scripted(QWEN25, path, {"Ċ": "2", "2": "2"})
    generator = Generator(path, "float32")
    assert json.loads((path / "generation_config.json").read_text())["repetition_penalty"] == 1.05
    head, vocabulary = generator.model.lm_head.weight, generator.tokenizer.get_vocab()
    with torch.no_grad():
        head[vocabulary["3"]] = 0.97 * head[vocabulary["2"]]
    advice = (path / "generation_config.json").read_text()
    generator.model.save_pretrained(path)
    (path / "generation_config.json").write_text(advice)
    sampling = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=5, batch_size=1, seed=0)
    assert complete(Model(display="", reference="dir:x"), path, [USER], sampling, tmp_path / "c") == [["22222"]]
    benchmark = Benchmark(display="", domain="math", source="made", max_new_tokens=5)
    rows = harness.evaluate(path, "float32", {"sums": (benchmark, items / "sums.jsonl")}, 2)["sums"]
    assert [row["output"] for row in rows] == ["22222"] * 2
    tokenizer = padding_tokenizer(path)
    watched = ValidationReward(tokenizer, generator.prompts([USER]), None, every=1, max_new_tokens=5, batch_size=1)
    advised = AutoModelForCausalLM.from_pretrained(path)
    assert watched._answers(advised, list(watched.prompts)) == ["22222"]


# Thoughts


def test_only_r1_distills_template_opens_a_thought(checkpoints):
    """Qwen3 thinks by default, but opens its thought itself; switched off, its template writes an empty one."""
    prompts = {name: Generator(checkpoints / name, "float32").prompts([USER])[0] for name in PUBLISHED}
    assert {name for name, prompt in prompts.items() if prompt.endswith("<think>\n")} == set(R1)
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "qwen3-8b")
    off = tokenizer.decode(prompt_ids(tokenizer, USER, enable_thinking=False))
    assert off == RENDERED["qwen3"] + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("name", PUBLISHED)
def test_prompt_and_completion_are_one_whole_turn(name, checkpoints):
    """Whatever a template opens, `<think>` stands there once, and what a model generates is what it is trained on."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / name)
    prompt, end = RENDERED[PUBLISHED[name].template], tokenizer.eos_token
    texts = ["<think>\nOkay.\n</think>\n\n2", "<think>Okay", "2"]
    rows = [{"prompt": USER, "completions": texts, "rewards": [2, 1, 0]}]
    (group,) = tokenize_groups(rows, tokenizer)
    found = [tokenizer.decode(group["prompt_ids"] + ids) for ids in group["sequences"]]
    if name in R1:
        thought = ["Okay.\n</think>\n\n2", "Okay", "\n</think>\n\n2"]
        assert found == [prompt + rest + end for rest in thought]
    else:
        assert found == [prompt + text + end for text in texts]
    assert all(text.count("<think>") <= 1 for text in found)


@pytest.mark.parametrize("name", R1)
def test_r1_completion_is_restored_by_every_sampler(name, thinkers, items, tmp_path):
    """The engine, lm-eval, the watch and GRPO's reward hear the tag that the template wrote; so the form is right."""
    path, heard = thinkers / name, {}
    tokenizer = padding_tokenizer(path)
    greedy = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=9, batch_size=4, seed=0)
    heard["engine"] = complete(Model(display="", reference="dir:x"), path, [USER], greedy, tmp_path / "c")[0]
    benchmark = Benchmark(display="", domain="math", source="made", max_new_tokens=9)
    rows = harness.evaluate(path, "float32", {"sums": (benchmark, items / "sums.jsonl")}, 2)["sums"]
    assert [row["verdict"] for row in rows] == ["right", "wrong"]  # 0 + 2 and 1 + 2
    heard["lm-eval"] = [row["output"] for row in rows]
    watched = ValidationReward(tokenizer, Generator(path, "float32").prompts([USER]), None, 1, 9, 4)
    heard["watch"] = watched._answers(Generator(path, "float32").model, list(watched.prompts))

    def hear(prompts, completions, completion_ids, **_):
        heard["grpo"] = [messages[-1]["content"] for messages in completions]
        assert all("<think>" not in tokenizer.decode(ids) for ids in completion_ids)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train_run(
            base=path, method=method("grpo", max_new_tokens=9), groups=groups()[:2], out=tmp_path / "out",
            work=tmp_path / "work", seed=0, reward_fn=hear,
        )  # fmt: skip
    assert {where: set(texts) for where, texts in heard.items()} == {where: {SAID} for where in heard}
    settings = Reward(correctness=1, format=0.5, length=0.5, knee=100, limit=200, think="required")
    assert reward("right", SAID, 9, settings).total == 2.0
    # How far a model has drifted is measured along what it wrote, and the end.
    wrote = tokenizer("Okay</think>2", add_special_tokens=False)["input_ids"]
    assert Drift(path, "float32").measure(path, [(USER, SAID)])["tokens"] == len(wrote) + 1


def test_cut_off_thought_gives_no_answer(thinkers, items):
    """Three tokens are inside the thought, whose tag tells that what follows no `</think>` is none."""
    benchmark = Benchmark(display="", domain="math", source="made", max_new_tokens=3)
    rows = harness.evaluate(thinkers / "r1-qwen-7b", "float32", {"sums": (benchmark, items / "sums.jsonl")}, 2)["sums"]
    assert [(row["output"], row["verdict"]) for row in rows] == [("<think>\nOka", "ungradable")] * 2


def test_messages_behind_a_thought_that_the_template_opens_are_refused(checkpoints):
    """R1-Distill's template drops an assistant's thought: answers as messages would lose theirs without a word."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "r1-qwen-7b")
    with pytest.raises(DataError, match=r"does not render the prompt as a prefix .* or completions as text"):
        completion_ids(tokenizer, [{"role": "assistant", "content": "<think>\nOkay.\n</think>\n\n2"}], USER)


def test_begun_reply_is_continued_verbatim(checkpoints):
    """Behind text, or behind the beginning of a reply, a completion is what its writer put there."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoints / "r1-qwen-7b")
    begun = [*USER, {"role": "assistant", "content": "The answer"}]
    for prompt in (begun, RENDERED["deepseek_r1_distill"]):
        assert tokenizer.decode(completion_ids(tokenizer, " is 2", prompt)) == " is 2" + tokenizer.eos_token


def test_a_benchmarks_question_is_asked_as_a_training_question(checkpoints):
    """A question that ends in white space is not asked in two ways either."""
    spaced = Question(id="s", domain="math", source="made", question="What is 1 + 1? \n", answer="2", grader="math")
    for name, family in PUBLISHED.items():
        student = Student(checkpoints / name, "float32", 1, {})
        rendered = student.apply_chat_template(chat(spaced))
        assert student.tok_encode(rendered) == prompt_ids(student.tokenizer, chat(spaced)), family.template
