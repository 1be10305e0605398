"""What each job has to do, in tokens: trained on, sampled, scored, asked for at an endpoint (docs/paper_scale.md).

A forward pass is a third of what a trained token takes; so much is charged for the reference's pass of dpo and gdpo. In
transformers a batch of rows is sampled until its longest ends, so there every row is charged `max_new_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gdpo.config.layout import Run
from gdpo.config.models import Method
from gdpo.config.scale import Scale
from gdpo.core.errors import UserError
from gdpo.ops.plan.jobs import Job
from gdpo.ops.plan.sizes import Counts, Groups, Sizes

REFERENCE = 1 / 3  # of an epoch's training: the forward pass of its three passes' worth
CHOICES_TOKENS = 20  # ours: of a lettered item's choices together, behind its prompt


@dataclass(frozen=True)
class Work:
    """A piece of a job: `amount` is what its time grows with, `tokens` how many there are in truth.

    `what`: `pretrain` (examples), `train METHOD` (tokens), `sample ENGINE` and `evaluate ENGINE` (tokens), `score`
    (tokens), `encode` (texts), `ask` (completion tokens). `length` is the mean length of a sequence, `prompt` the
    tokens that are read before any is sampled, `rollouts` the sampled tokens within training, `runs` how often the
    piece is begun.
    """

    what: str
    model: str
    amount: float
    tokens: float
    length: float = 0.0
    prompt: float = 0.0
    rollouts: float = 0.0
    runs: int = 1

    @property
    def kind(self) -> str:
        return self.what.partition(" ")[0]


class Amounts:
    """The work of a scale's jobs."""

    def __init__(self, scale: Scale):
        self.scale, self.sizes = scale, Sizes(scale)
        self._asked: set[tuple[str, int]] = set()

    def of(self, job: Job) -> list[Work]:
        """The work of a job; of one that neither computes with a model nor asks one, none."""
        known: dict[str, Callable[[Job], list[Work]]] = {
            "model": self._model, "annotate": self._annotate, "quality": self._quality, "merge": self._merge,
            "answer": self._answer, "respond": self._respond, "train": self._train, "noise": self._noise,
            "evaluate": self._evaluate, "drift": self._drift,
        }  # fmt: skip
        return known[job.step](job) if job.step in known else []

    def _model(self, job: Job) -> list[Work]:
        name = job.arguments.name
        model = self.scale.model(name)
        if model.pretrain and not model.shipped:
            return [Work("pretrain", name, model.pretrain.examples, 0)]
        if not model.tuned:
            return []
        pool = self.sizes.pool()
        length = self.sizes.prompt(pool) + self.sizes.response(pool)
        tokens = model.tuned.questions * length * model.tuned.method.epochs
        return [Work(trained(model.tuned.method), name, tokens, tokens, length)]

    def _annotate(self, _: Job) -> list[Work]:
        pool, settings = self.sizes.pool(), self.scale.annotate
        questions = sum(pool.values())
        if settings.backend == "openai":
            return [self._ask("annotate", settings.needed_endpoint.model, questions)]
        return [Work("encode", "encoder", questions, 0)] if settings.backend == "taxonomy" else []

    def _quality(self, _: Job) -> list[Work]:
        return [Work("encode", "encoder", sum(self.sizes.pool().values()), 0)]

    def _merge(self, _: Job) -> list[Work]:
        settings = self.scale.merge
        asks = "openai" in (settings.backend, *settings.compare)
        return [self._ask("merge", settings.needed_endpoint.model, 0)] if asks else []

    def _ask(self, step: str, model: str, questions: float) -> Work:
        ask = getattr(self.sizes.expected, step)
        if ask is None:
            raise UserError(f"{self.scale.scale}, expected.{step}: found none, expected tokens of a request")
        requests = ask.requests or questions
        completion = requests * ask.completion_tokens
        return Work("ask", model, completion, completion, prompt=requests * ask.prompt_tokens)

    def _answer(self, job: Job) -> list[Work]:
        name, settings, counts = job.arguments.model, self.scale.proficiency, dict(self.sizes.answered())
        model, found = self.scale.model(name), []
        if settings.choices == "likelihood" and not model.endpoint and "general" in counts:
            # ours: a pool's general questions are the lettered ones
            lettered: Counts = {"general": counts.pop("general")}
            tokens = lettered["general"] * (self.sizes.prompt(lettered) + CHOICES_TOKENS)
            found.append(Work("score", name, tokens, tokens, self.sizes.prompt(lettered)))
        rows = sum(counts.values()) * settings.samples
        if rows:
            answer = min(self.sizes.answer(counts), settings.max_new_tokens)
            prompt = self.sizes.prompt(counts)
            found.append(self._sampled("sample", name, rows, answer, settings.max_new_tokens, prompt))
        return found

    def _sampled(self, what: str, name: str, rows: float, answer: float, most: int, prompt: float) -> Work:
        """`rows` completions of `answer` tokens, at most `most`, each behind its prompt."""
        model = self.scale.model(name)
        tokens, length = rows * answer, prompt + answer
        if model.endpoint:
            return Work("ask", name, tokens, tokens, length, prompt=rows * prompt)
        amount = tokens if model.engine == "vllm" else rows * most
        return Work(f"{what} {model.engine}", name, amount, tokens, length, prompt=rows * prompt)

    def _respond(self, job: Job) -> list[Work]:
        name = job.arguments.trainset
        settings, counts = self.scale.respond_of(name), self.sizes.trainset(name)
        samples = settings.group_size - int(settings.include_gold)
        if self.scale.model(settings.teacher).endpoint:
            samples = self._unpaid(name, settings.teacher, samples)
        rows = sum(counts.values()) * samples
        answer = min(self.sizes.response(counts), settings.max_new_tokens)
        prompt = self.sizes.prompt(counts)
        return [self._sampled("sample", settings.teacher, rows, answer, settings.max_new_tokens, prompt)]

    def _unpaid(self, trainset: str, teacher: str, samples: int) -> int:
        """How many samples a question nobody has paid for: an endpoint is asked for none twice."""
        entry = self.scale.trainset(trainset)
        parts = [self.scale.trainset(part) for part in entry.parts] if entry.select == "union" else [entry]
        same = [part.model_dump_json(exclude={"display"}) + teacher for part in parts]
        unpaid = [s for s in range(samples) if not all((who, s) in self._asked for who in same)]
        self._asked |= {(who, s) for who in same for s in range(samples)}
        return len(unpaid)

    def _train(self, job: Job) -> list[Work]:
        student, trainset = job.arguments.student, job.arguments.trainset
        found = []
        for run in job.runs:
            method = self.scale.method(run.method, student, trainset)
            found.append(self.training(method, student, self.sizes.groups(trainset)))
            if self.sizes.layout.is_watched(run):
                found += self._watched(run, method)
        return found

    def training(self, method: Method, student: str, groups: Groups, epochs: float | None = None) -> Work:
        """One run's training; the noise measurement's of part of an epoch."""
        epochs = method.epochs if epochs is None else epochs
        prompt, response = groups.prompt, groups.response
        size = min(method.group_size or groups.size, groups.size)
        rollouts = 0.0
        if method.trainer == "grpo":
            size = method.group_size or groups.size
            rows = epochs * groups.count * size
            rollouts = rows * response
            tokens = rows * (prompt + response)
        elif method.trainer == "sft":
            tokens = epochs * groups.count * method.completions * (prompt + response)
        elif method.trainer == "dpo":
            tokens = (epochs + REFERENCE) * groups.count * groups.contrast * 2 * (prompt + response)
        else:
            scored = max(2.0, groups.distinct * size)
            tokens = (epochs + REFERENCE) * groups.count * groups.contrast * scored * (prompt + response)
        return Work(trained(method), student, tokens, tokens, prompt + response, rollouts=rollouts)

    def steps(self, run: Run) -> int:
        """Optimizer steps of a run."""
        method, groups = self.scale.method(run.method, run.student, run.trainset), self.sizes.groups(run.trainset)
        used = groups.count * (groups.contrast if method.trainer in ("dpo", "gdpo") else 1.0)
        rows = used * (method.completions if method.trainer == "sft" else 1)
        return math.ceil(method.epochs * math.ceil(rows / method.batch_size))

    def _watched(self, run: Run, method: Method) -> list[Work]:
        watch, benchmarks = self.scale.watch, self.scale.benchmarks.values()
        rows = sum(min(watch.items, benchmark.validation_items) for benchmark in benchmarks)
        looks = self.steps(run) // watch.every + 2
        if not rows:
            return []
        tokens = looks * rows * watch.max_new_tokens
        return [Work("sample hf", run.student, tokens, tokens, watch.max_new_tokens, runs=0)]

    def _noise(self, job: Job) -> list[Work]:
        student, trainset = job.arguments.student, job.arguments.trainset
        watch, groups = self.scale.watch, self.sizes.groups(trainset)
        epochs = min(1.0, watch.noise_batches * watch.noise_batch_size / max(1.0, groups.count))
        methods = [self.scale.method(run.method, student, trainset) for run in job.runs]
        return [self.training(method, student, groups, epochs) for method in methods]

    def _evaluate(self, job: Job) -> list[Work]:
        test = job.arguments.split == "test"
        return [work for run in job.runs for work in self._scored(run, test)]

    def _scored(self, run: Run, test: bool) -> list[Work]:
        sampled = scored = charged = prompts = longest = 0.0
        engine = self.scale.model(run.student).engine
        for name, benchmark in self.scale.benchmarks.items():
            items = self.sizes.items(name) if test else benchmark.validation_items
            rows, counts = items * benchmark.samples, {benchmark.domain: 1.0}
            prompt = self.sizes.prompt(counts)
            if benchmark.kind == "choose":
                scored += items * (prompt + CHOICES_TOKENS)
                continue
            answer = min(self.sizes.answer(counts), benchmark.max_new_tokens)
            sampled += rows * answer
            charged += rows * (answer if engine == "vllm" else benchmark.max_new_tokens)
            prompts += rows * prompt
            longest = max(longest, prompt + answer)
        found = [Work(f"evaluate {engine}", run.student, charged, sampled, longest, prompt=prompts)] if charged else []
        return found + ([Work("score", run.student, scored, scored, longest, runs=0 if found else 1)] if scored else [])

    def _drift(self, job: Job) -> list[Work]:
        """Of each run's answers to the validation items, by the student and by its reference."""
        tokens = longest = 0.0
        for benchmark in self.scale.benchmarks.values():
            counts = {benchmark.domain: 1.0}
            length = self.sizes.prompt(counts) + min(self.sizes.answer(counts), benchmark.max_new_tokens)
            tokens += 2 * benchmark.validation_items * length
            longest = max(longest, length)
        return [Work("score", run.student, tokens, tokens, longest) for run in job.runs]


def trained(method: Method) -> str:
    """What training by a method is called among the rates."""
    return f"train {method.trainer}{'-lora' if method.lora else ''}"
