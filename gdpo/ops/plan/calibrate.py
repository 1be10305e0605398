"""Measure a machine's throughput by short real pieces of a scale's steps, through the code that runs them.

Each piece is done at two sizes: what both take is the beginning, what the larger takes more is the rate. A made-up
world's models are pretrained for a few batches and sampled from untrained, so that their answers run to the most new
tokens; a real scale's models, pool and benchmarks must have been made. Nothing stays but what was measured.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Generic, TypeVar

from gdpo.config.layout import Layout
from gdpo.config.models import Method
from gdpo.config.scale import Scale
from gdpo.config.tables import Cell
from gdpo.core import device
from gdpo.core.errors import UserError
from gdpo.core.hashing import fingerprint
from gdpo.core.records import Group, Question, chat, read_records, write_records
from gdpo.core.terminal import say
from gdpo.ops.plan.amounts import Amounts, trained
from gdpo.ops.plan.rates import Rate, Start, label
from gdpo.ops.plan.sizes import Groups

PRETRAIN = (8, 40)  # ours: batches of the two sizes; so few that the larger takes seconds
EPOCHS = (1.0, 4.0)  # ours: of two batches of groups
ITEMS = (0.25, 1.0)  # ours: of what fits a batch
CAP = 32  # ours: new tokens at most where nothing is made up; larger models' tokens take seconds each on a CPU
# What a job of a step imports before it does anything; every other step is as light as `sources`.
IMPORTS = {
    "model": "gdpo.tiny.pretrain", "answer": "gdpo.models.sampling_hf", "respond": "gdpo.models.sampling_hf",
    "train": "gdpo.students.gdpo",
    "noise": "gdpo.students.gdpo", "evaluate": "gdpo.evaluate.harness", "drift": "gdpo.evaluate.drift",
    "table": "gdpo.report.score_tables", "figure": "gdpo.report.figures", "other": "gdpo.metakl.steps",
}  # fmt: skip


Found = TypeVar("Found", covariant=True)


class Piece(Generic[Found]):
    """A measured piece: seconds of the clock and of the processor, and memory, of one call and what it found."""

    def __init__(self, call: Callable[[], Found]):
        device.reset(device.default_device())
        _forget_peak()
        started, cpu = time.perf_counter(), time.process_time()
        self.value = call()
        self.seconds, self.cpu = time.perf_counter() - started, time.process_time() - cpu
        self.memory_mb = _peak() // 2**20


Sized = tuple[float, Piece[object]]  # so many units, and what they took


def line(small: tuple[float, float], large: tuple[float, float]) -> tuple[float, float]:
    """Seconds a unit, and seconds to begin, from two (units, seconds); noise makes neither negative."""
    rate = max(0.0, large[1] - small[1]) / (large[0] - small[0])
    rate = rate or large[1] / large[0]  # a small one that took longer tells nothing
    return rate, max(0.0, small[1] - rate * small[0])


class Calibration:
    """All pieces of a scale; `rates` by key as plan.rates has them, `skipped` says why others are not there."""

    def __init__(self, scale: Scale, work: Path):
        self.scale, self.layout, self.work = scale, Layout(scale), work
        self.amounts = Amounts(scale)
        self.rates: dict[str, Rate] = {}
        self.skipped: dict[str, str] = {}
        self.models: dict[str, Path] = {}

    def measure(self) -> None:
        """Everything that can be measured here; every piece is said as it is done."""
        students = dict.fromkeys(s for names in self._student_sets() for s in names)
        teacher, answering = self.scale.respond.teacher, self.scale.proficiency.models
        scored = dict.fromkeys([*students, *(cell.model for cell in self._cells() if cell.model), teacher])
        for name in dict.fromkeys([*scored, *answering]):
            self._model(name)
        kinds = self._methods()
        questions = self._questions()
        for name in self._distinct(students):
            for kind, method in kinds.items():
                self._try(f"train {kind}", name, partial(self._train, name, method, questions))
        for name in self._distinct(scored):
            self._try("evaluate", name, partial(self._evaluate, name))
            self._try("score", name, partial(self._score, name, questions))
        for name in self._distinct(dict.fromkeys([*answering, teacher])):
            self._try("sample", name, partial(self._sample, name, questions, name == teacher))

    def _student_sets(self) -> list[list[str]]:
        return [self.scale.students, *self.scale.student_sets.values()]

    def _cells(self) -> list[Cell]:
        return [cell for selection in self.scale.selections.values() for cell in selection.rows]

    def _distinct(self, names: dict[str, None]) -> list[str]:
        """One model of each label that has a checkpoint."""
        labels = {label(self.scale, name): name for name in reversed(names) if label(self.scale, name) in self.models}
        return list(reversed(labels.values()))

    def _methods(self) -> dict[str, Method]:
        """One method of each kind that a table or study trains by."""
        used = [cell for cell in self._cells() if cell.method in self.scale.methods and not cell.model]
        return {trained(method): method for method in reversed([self.scale.methods[cell.method] for cell in used])}

    def _try(self, what: str, name: str, measure: Callable[[], None]) -> None:
        try:
            measure()
        except UserError as error:
            self.skipped[f"{what}/{label(self.scale, name)}"] = str(error)
            say(f"calibrate {what} {name}: not measured: {error}")

    def _keep(self, what: str, name: str, small: Sized, large: Sized) -> None:
        rate, begin = line((small[0], small[1].seconds), (large[0], large[1].seconds))
        cpu, cpu_begin = line((small[0], small[1].cpu), (large[0], large[1].cpu))
        key = f"{what}/{label(self.scale, name)}"
        self.rates[key] = Rate(rate, begin, cpu, cpu_begin, max(small[1].memory_mb, large[1].memory_mb))
        say(
            f"calibrate {key}: {rate:.3g} s a unit and {begin:.2f} s to begin; {cpu:.3g} and {cpu_begin:.2f} of the CPU"
        )

    def _questions(self) -> list[Question]:
        if self.scale.world:
            from gdpo.tiny.world import pool_questions

            found = pool_questions(self.scale.world)
        elif self.layout.decontaminated.exists():
            found = read_records(self.layout.decontaminated, Question)
        else:
            raise UserError(f"{self.layout.decontaminated}: no such file; expected the pool, as `make metakl` makes it")
        # Evenly over the pool: its sources lie one behind the other.
        return sorted(found, key=lambda question: fingerprint(question.id))

    def _model(self, name: str) -> None:
        """A checkpoint of `name`: the one that is made, or a few batches of pretraining, measured."""
        model, key = self.scale.model(name), label(self.scale, name)
        world = self.scale.world
        if key in self.models or model.endpoint:
            return
        if not (model.pretrain and world):
            made = self.layout.model(name)
            if made.exists():
                self.models[key] = made
            else:
                self.skipped[key] = f"{made} is not made yet"
                say(f"calibrate {name}: not measured, since {self.skipped[key]}")
            return
        from gdpo.tiny.pretrain import pretrain

        pieces = []
        for batches in (PRETRAIN[0], *PRETRAIN):  # the first one warms up
            examples = batches * model.pretrain.batch_size
            short = model.pretrain.model_copy(update={"examples": examples})
            pieces.append((examples, Piece(partial(pretrain, short, world, self.work / name))))
        self._keep("pretrain", name, pieces[1], pieces[2])
        self.models[key] = self.work / name

    def _train(self, name: str, method: Method, questions: list[Question]) -> None:
        """A method on groups as they are expected, all of which teach something."""
        from gdpo.students import train_run

        batch = method.batch_size if self.scale.world else method.micro_batch_size
        groups = self._groups(name, questions[: 2 * batch])
        method = method.model_copy(update={"batch_size": batch})
        if method.trainer == "grpo":
            room = min(self.scale.respond.max_new_tokens, method.longest_prompt)
            method = method.model_copy(update={"max_new_tokens": method.max_new_tokens or room})
        pieces = []
        warm = any(key.startswith(f"{trained(method)}/") for key in self.rates)  # all that a kind imports is there
        for number, epochs in enumerate(EPOCHS if warm else (EPOCHS[0], *EPOCHS)):
            short = method.model_copy(update={"epochs": epochs})
            out, work = self.work / f"out-{number}", self.work / f"work-{number}"
            run = Piece(partial(
                train_run, base=self.models[label(self.scale, name)], method=short, groups=groups, out=out, work=work,
                seed=0, dtype=self.scale.model(name).dtype, reward_fn=_lengths if short.trainer == "grpo" else None,
            ))  # fmt: skip
            pieces.append((self._tokens(name, short, groups), run))
        self._keep(trained(method), name, pieces[-2], pieces[-1])

    def _tokens(self, name: str, method: Method, groups: list[Group]) -> float:
        """The tokens that a plan would count for such a run."""
        domains = [group.domain for group in groups]
        counts = {domain: domains.count(domain) for domain in domains}
        sizes = self.amounts.sizes
        one = Groups(
            len(groups), len(groups[0].completions), 1.0, sizes.expected.distinct, sizes.prompt(counts),
            sizes.response(counts), counted=False,
        )  # fmt: skip
        return self.amounts.training(method, name, one).amount

    def _groups(self, name: str, questions: list[Question]) -> list[Group]:
        """Groups of the expected size, lengths and number of distinct completions, of pieces of solutions."""
        from gdpo.students.common import padding_tokenizer

        tokenizer, expected = padding_tokenizer(self.models[label(self.scale, name)]), self.amounts.sizes.expected
        text = " ".join(q.solution or q.question for q in questions)
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # no warning that it is long
        size = self.scale.respond.group_size
        distinct = max(2, round(expected.distinct * size))
        found = []
        for number, question in enumerate(questions):
            length = max(1, round(expected.response_tokens[question.domain]) - 1)  # and the end of sequence
            starts = [(number * size + place) * 7 % max(1, len(ids) - length) for place in range(distinct)]
            texts = tokenizer.batch_decode([ids[start : start + length] for start in starts])
            chosen = [text for text, _ in zip(cycle(texts), range(size), strict=False)]
            rewards = [2.0 if text == texts[0] else 0.5 for text in chosen]
            found.append(
                Group(
                    id=question.id, domain=question.domain, prompt=chat(question), completions=chosen, rewards=rewards
                )
            )
        return found

    def _evaluate(self, name: str) -> None:
        from gdpo.evaluate import harness

        asked = {n: b for n, b in self.scale.benchmarks.items() if b.kind == "generate"}
        if not self.scale.world:
            asked = {n: b.model_copy(update={"max_new_tokens": CAP, "samples": 1}) for n, b in asked.items()}
        pieces = []
        for share in (ITEMS[0], *ITEMS):
            tasks, charged = {}, 0.0
            for benchmark, settings in asked.items():
                most = min(self.scale.eval_batch_size, settings.items or self.scale.eval_batch_size)
                items = self._items(benchmark, max(1, int(share * most)))
                file = self.work / f"{benchmark}.jsonl"
                write_records(file, items)
                tasks[benchmark] = (settings, file)
                charged += len(items) * settings.max_new_tokens
            model, dtype = self.models[label(self.scale, name)], self.scale.model(name).dtype
            run = Piece(partial(harness.evaluate, model, dtype, tasks, self.scale.eval_batch_size))
            pieces.append((charged, run))
        self._keep("evaluate hf", name, pieces[1], pieces[2])

    def _items(self, benchmark: str, count: int) -> list[Question]:
        if self.scale.world:
            from gdpo.tiny.world import benchmark_questions

            return benchmark_questions(self.scale.world, self.scale.benchmark(benchmark).source, "test", count)
        return read_records(self.layout.benchmark(benchmark, "test"), Question)[:count]

    def _score(self, name: str, questions: list[Question]) -> None:
        from gdpo.evaluate.drift import Drift

        path = self.models[label(self.scale, name)]
        pieces = []
        for rows in (16, 16, 128):
            answered = [(chat(q), q.solution or q.question) for q in questions[:rows]]
            drift = Drift(path, self.scale.model(name).dtype)
            tokens = sum(end for _, ends in drift._batches(answered) for _, end in ends)
            pieces.append((2.0 * tokens, Piece(partial(drift.of, path, answered))))
        self._keep("score", name, pieces[1], pieces[2])

    def _sample(self, name: str, questions: list[Question], teacher: bool) -> None:
        from gdpo.models.sampling_hf import Generator
        from gdpo.models.sampling_types import Sampling

        respond, answer = self.scale.respond, self.scale.proficiency
        most = respond.max_new_tokens if teacher else answer.max_new_tokens
        most = most if self.scale.world else min(most, CAP)
        samples, batch = (respond.group_size, respond.batch_size) if teacher else (answer.samples, answer.batch_size)
        temperature = respond.temperature if teacher else answer.temperature
        sampling = Sampling(samples, temperature, respond.top_p if teacher else answer.top_p, most, batch, 0)
        path = self.models[label(self.scale, name)]
        loaded = Piece(partial(Generator, path, self.scale.model(name).dtype))
        conversations = [chat(q) for q in questions[: max(1, batch // samples)]]

        def answers(count: int) -> int:
            return sum(1 for _ in loaded.value.complete(conversations[:count], replace(sampling, samples=samples)))

        pieces = []
        for count in (1, 1, len(conversations)):
            pieces.append((count * samples * most, Piece(partial(answers, count))))
        self._keep("sample hf", name, *_apart(pieces[1], pieces[2], loaded))


def _apart(small: Sized, large: Sized, loaded: Piece[object]) -> tuple[Sized, Sized]:
    """Batches cost alike whatever their rows, nearly: the full batch alone tells the rate, loading the beginning."""
    nothing: Piece[object] = Piece(lambda: None)
    nothing.seconds, nothing.cpu, nothing.memory_mb = loaded.seconds, loaded.cpu, loaded.memory_mb
    large[1].seconds += loaded.seconds
    large[1].cpu += loaded.cpu
    return (0.0, nothing), large


def start_up() -> dict[str, Start]:
    """Step -> what a fresh process takes to import what the step needs; `other` for all that are light."""
    known: dict[str, Start] = {}
    for module in IMPORTS.values():
        if module not in known:
            started, before = time.perf_counter(), os.times()
            subprocess.run([sys.executable, "-c", f"import gdpo.cli.main, {module}"], check=True)
            after = os.times()
            cpu = after.children_user + after.children_system - before.children_user - before.children_system
            known[module] = Start(round(time.perf_counter() - started, 3), round(cpu, 3))
    return {step: known[module] for step, module in IMPORTS.items()}


def _lengths(prompts: list, completions: list, **_: object) -> list[float]:
    """A reward for an untrained student's rollouts: by their places, so that every group has a contrast."""
    return [float(place % 2) for place, _ in enumerate(completions)]


def _forget_peak() -> None:
    """Let Linux count a process's peak from here; where it may not, a piece's peak is that of all before it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes held at most since `_forget_peak`: the GPU's where there is one."""
    if device.default_device() == "cuda":
        return device.peak("cuda")
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return device.peak("cpu")
    return next(int(row.split()[1]) * 1024 for row in status.splitlines() if row.startswith("VmHWM:"))


def measured(scale: Scale) -> tuple[dict[str, Rate], dict[str, Start], dict[str, str]]:
    """Rates, start-ups, and why others were not measured."""
    os.environ["TQDM_DISABLE"] = "1"  # dozens of bars that last a moment
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with TemporaryDirectory(prefix="gdpo-calibrate-") as directory:
        calibration = Calibration(scale, Path(directory))
        calibration.measure()
    return calibration.rates, start_up(), calibration.skipped
