"""Measure a machine's throughput by short real pieces of a scale's steps, through the code that runs them.

Each piece is done at two sizes: the larger one's further seconds give the rate, the rest the beginning. A made-up
world's models are pretrained for a few batches and sampled from untrained, so that their answers run to the most new
tokens. A real scale's models, pool and benchmarks must have been made. Nothing but the rates is kept.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from gdpo.config.layout import Layout
from gdpo.config.models import Method
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.core.records import Group, Question, chat, read_records, write_records
from gdpo.core.terminal import say
from gdpo.ops.plan.amounts import Amounts, training_kind
from gdpo.ops.plan.jobs import Time
from gdpo.ops.plan.rates import Rate, label
from gdpo.ops.plan.sizes import Groups

PRETRAIN = (8, 8, 40)  # ours: batches, the first ones to warm up; so few that the last takes seconds
EPOCHS = (1.0, 4.0)  # ours: of two batches of groups
ITEMS = (0.25, 0.25, 1.0)  # ours: of what fits a batch
ROWS = (16, 16, 128)  # ours: conversations that are scored
CAP = 32  # ours: new tokens at most of a real model, whose tokens take seconds each on a CPU

Piece = tuple[float, Callable[[], object]]  # so many units, and the call that does them


def timed(call: Callable[[], object]) -> Time:
    """What a call takes."""
    started, cpu = time.perf_counter(), time.process_time()
    call()
    return Time(time.perf_counter() - started, time.process_time() - cpu)


def line(small: tuple[float, float], large: tuple[float, float]) -> tuple[float, float]:
    """Seconds a unit, and seconds to begin, from two (units, seconds); noise makes neither negative."""
    rate = max(0.0, large[1] - small[1]) / (large[0] - small[0])
    rate = rate or large[1] / large[0]  # a small one that took longer tells nothing
    return rate, max(0.0, small[1] - rate * small[0])


class Calibration:
    """The measured pieces of a scale: `rates` by key as in rates.Rates; `skipped` says why others are missing."""

    def __init__(self, scale: Scale, work: Path):
        self.scale, self.layout, self.work = scale, Layout(scale), work
        self.amounts = Amounts(scale)
        self.rates: dict[str, Rate] = {}
        self.skipped: dict[str, str] = {}
        self.models: dict[str, Path] = {}  # label -> checkpoint

    def measure(self) -> None:
        """Measure everything that can be measured here."""
        cells = [cell for selection in self.scale.selections.values() for cell in selection.rows]
        students = [name for names in (self.scale.students, *self.scale.student_sets.values()) for name in names]
        teacher, answering = self.scale.respond.teacher, self.scale.proficiency.models
        scored = [*students, *(cell.model for cell in cells if cell.model), teacher]
        for name in dict.fromkeys([*scored, *answering]):
            self._model(name)
        used = [self.scale.methods[cell.method] for cell in cells if cell.method in self.scale.methods]
        methods = {training_kind(method): method for method in reversed(used)}
        questions = self._questions()
        for name in self._distinct(students):
            for kind, method in methods.items():
                self._measure(kind, name, self._train(name, method, questions))
        for name in self._distinct(scored):
            self._measure("evaluate hf", name, self._evaluate(name))
            self._measure("score", name, self._score(name, questions))
        for name in self._distinct([*answering, teacher]):
            self._measure("sample hf", name, self._sample(name, questions, name == teacher))

    def _distinct(self, names: Iterable[str]) -> list[str]:
        """The first model of each label that has a checkpoint."""
        first: dict[str, str] = {}
        for name in names:
            first.setdefault(label(self.scale, name), name)
        return [name for key, name in first.items() if key in self.models]

    def _measure(self, what: str, name: str, pieces: Iterator[Piece]) -> None:
        """A rate from the last two pieces; those before them warm up. A piece that is refused is said and skipped."""
        try:
            *_, small, large = [(units, timed(call)) for units, call in pieces]
        except UserError as error:
            self._skip(f"{what}/{label(self.scale, name)}", str(error))
            return
        seconds = line((small[0], small[1].seconds), (large[0], large[1].seconds))
        self._keep(what, name, Rate(*seconds, *line((small[0], small[1].cpu), (large[0], large[1].cpu))))

    def _keep(self, what: str, name: str, rate: Rate) -> None:
        key = f"{what}/{label(self.scale, name)}"
        self.rates[key] = rate
        say(
            f"calibrate {key}: {rate.seconds:.3g} s a unit and {rate.begin:.2f} s to begin; "
            f"{rate.cpu:.3g} and {rate.cpu_begin:.2f} of the CPU"
        )

    def _skip(self, key: str, reason: str) -> None:
        self.skipped[key] = reason
        say(f"calibrate {key}: not measured: {reason}")

    def _questions(self) -> list[Question]:
        if self.scale.world:
            from gdpo.tiny.world import pool_questions

            questions = pool_questions(self.scale.world)
        elif self.layout.decontaminated.exists():
            questions = read_records(self.layout.decontaminated, Question)
        else:
            raise UserError(
                path=self.layout.decontaminated, problem="no such file", expected="the pool", hint="run `make metakl`"
            )
        # Evenly over the pool, whose sources follow one another.
        return sorted(questions, key=lambda question: fingerprint(question.id))

    def _checkpoint(self, name: str) -> Path:
        return self.models[label(self.scale, name)]

    def _model(self, name: str) -> None:
        """A checkpoint of `name`: the one that is made, or a few batches of pretraining, measured."""
        model, key = self.scale.model(name), label(self.scale, name)
        if key in self.models or model.endpoint:
            return
        if model.pretrain and self.scale.world:
            self._measure("pretrain", name, self._pretrain(name))
            self.models[key] = self.work / name
        elif self.layout.model(name).exists():
            self.models[key] = self.layout.model(name)
        else:
            self._skip(key, f"{self.layout.model(name)} is not made yet")

    def _pretrain(self, name: str) -> Iterator[Piece]:
        from gdpo.tiny.pretrain import pretrain

        settings, world = self.scale.model(name).pretrain, self.scale.world
        assert settings is not None and world is not None
        for batches in PRETRAIN:
            examples = batches * settings.batch_size
            short = settings.model_copy(update={"examples": examples})
            yield examples, partial(pretrain, short, world, self.work / name)

    def _train(self, name: str, method: Method, questions: list[Question]) -> Iterator[Piece]:
        """A method on groups as they are expected, all of which teach something."""
        from gdpo.students import train_run

        batch = method.batch_size if self.scale.world else method.micro_batch_size
        groups = self._groups(name, questions[: 2 * batch])
        sizes, domains = self.amounts.sizes, [group.domain for group in groups]
        counts = {domain: float(domains.count(domain)) for domain in domains}
        counted = Groups(
            len(groups), len(groups[0].completions), 1.0, sizes.expected.distinct, sizes.prompt(counts),
            sizes.response(counts),
        )  # fmt: skip
        settings: dict[str, object] = {"batch_size": batch}
        if method.trainer == "grpo" and not method.max_new_tokens:
            settings["max_new_tokens"] = min(self.scale.respond.max_new_tokens, method.longest_prompt)
        warm = any(key.startswith(f"{training_kind(method)}/") for key in self.rates)  # what the kind needs is imported
        for number, epochs in enumerate(EPOCHS if warm else (EPOCHS[0], *EPOCHS)):
            short = method.model_copy(update={**settings, "epochs": epochs})
            yield self.amounts.training(short, name, counted).amount, partial(
                train_run, base=self._checkpoint(name), method=short, groups=groups, out=self.work / f"out-{number}",
                work=self.work / f"work-{number}", seed=0, dtype=self.scale.model(name).dtype,
                reward_fn=_alternate if short.trainer == "grpo" else None,
            )  # fmt: skip

    def _groups(self, name: str, questions: list[Question]) -> list[Group]:
        """Groups of the expected size, lengths and number of distinct completions, of pieces of solutions."""
        from gdpo.students.common import padding_tokenizer

        tokenizer, expected = padding_tokenizer(self._checkpoint(name)), self.amounts.sizes.expected
        text = " ".join(q.solution or q.question for q in questions)
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # no warning that it is long
        size = self.scale.respond.group_size
        distinct = max(2, round(expected.distinct * size))
        groups = []
        for number, question in enumerate(questions):
            length = max(1, round(expected.response_tokens[question.domain]) - 1)  # and the end of sequence
            starts = [(number * size + place) * 7 % max(1, len(ids) - length) for place in range(distinct)]
            texts = tokenizer.batch_decode([ids[start : start + length] for start in starts])
            completions = list(islice(cycle(texts), size))
            rewards = [2.0 if text == texts[0] else 0.5 for text in completions]
            prompt = chat(question)
            groups.append(
                Group(id=question.id, domain=question.domain, prompt=prompt, completions=completions, rewards=rewards)
            )
        return groups

    def _evaluate(self, name: str) -> Iterator[Piece]:
        from gdpo.evaluate import harness

        benchmarks = {n: b for n, b in self.scale.benchmarks.items() if b.kind == "generate"}
        if not self.scale.world:
            benchmarks = {n: b.model_copy(update={"max_new_tokens": CAP, "samples": 1}) for n, b in benchmarks.items()}
        batch_size, dtype = self.scale.eval_batch_size, self.scale.model(name).dtype
        for share in ITEMS:
            tasks, units = {}, 0.0
            for benchmark, settings in benchmarks.items():
                most = min(batch_size, settings.items or batch_size)
                items = self._items(benchmark, max(1, int(share * most)))
                file = self.work / f"{benchmark}.jsonl"
                write_records(file, items)
                tasks[benchmark] = (settings, file)
                units += len(items) * settings.max_new_tokens
            yield units, partial(harness.evaluate, self._checkpoint(name), dtype, tasks, batch_size)

    def _items(self, benchmark: str, count: int) -> list[Question]:
        if self.scale.world:
            from gdpo.tiny.world import benchmark_questions

            return benchmark_questions(self.scale.world, self.scale.benchmark(benchmark).source, "test", count)
        return read_records(self.layout.benchmark(benchmark, "test"), Question)[:count]

    def _score(self, name: str, questions: list[Question]) -> Iterator[Piece]:
        from gdpo.evaluate.drift import Drift, answer_batches

        path = self._checkpoint(name)
        for rows in ROWS:
            answered = [(chat(q), q.solution or q.question) for q in questions[:rows]]
            drift = Drift(path, self.scale.model(name).dtype)
            tokens = sum(end for batch in answer_batches(drift.tokenizer, answered) for _, _, end in batch.answers)
            yield 2.0 * tokens, partial(drift.measure, path, answered)

    def _sample(self, name: str, questions: list[Question], teacher: bool) -> Iterator[Piece]:
        """Loading alone, then with a full batch: batches take nearly as long whatever their rows."""
        from gdpo.models.sampling_hf import Generator
        from gdpo.models.sampling_types import Sampling

        step = self.scale.respond if teacher else self.scale.proficiency
        samples = self.scale.respond.group_size if teacher else self.scale.proficiency.samples
        most = step.max_new_tokens if self.scale.world else min(step.max_new_tokens, CAP)
        sampling = Sampling(samples, step.temperature, step.top_p, most, step.batch_size, 0)
        conversations = [chat(q) for q in questions[: max(1, step.batch_size // samples)]]

        def sample(count: int) -> None:
            generator = Generator(self._checkpoint(name), self.scale.model(name).dtype)
            if count:
                list(generator.complete(conversations[:count], sampling))

        for count in (1, 0, len(conversations)):
            yield float(count * samples * most), partial(sample, count)


def _alternate(prompts: list, completions: list, **_: object) -> list[float]:
    """A reward for an untrained student's rollouts that gives every group a contrast."""
    return [float(place % 2) for place, _ in enumerate(completions)]


def measure_rates(scale: Scale) -> tuple[dict[str, Rate], dict[str, str]]:
    """The rates, and why others were not measured."""
    os.environ["TQDM_DISABLE"] = "1"  # dozens of bars that last a moment
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with TemporaryDirectory(prefix="gdpo-calibrate-") as directory:
        calibration = Calibration(scale, Path(directory))
        calibration.measure()
    return calibration.rates, calibration.skipped
