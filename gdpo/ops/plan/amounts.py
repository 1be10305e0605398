"""What each job has to do, in tokens that are trained on, sampled, scored or paid for (docs/scale-paper.md).

The reference's forward pass of dpo and gdpo is counted as a third of a trained token. In transformers a batch of rows
is sampled until its longest ends, so that every row is charged `max_new_tokens`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gdpo.config.endpoint import Endpoint
from gdpo.config.layout import Run
from gdpo.config.models import Method
from gdpo.config.scale import Scale
from gdpo.models.request_log import cost
from gdpo.ops.plan.jobs import Job
from gdpo.ops.plan.sizes import Counts, Groups, Sizes

REFERENCE = 1 / 3  # of an epoch's training: one forward pass, where training takes three passes' worth
CHOICES_TOKENS = 20  # ours: of a lettered item's choices together, behind its prompt


@dataclass(frozen=True)
class Work:
    """A piece of a job: `amount` is what its time grows with, `tokens` the actual number of tokens.

    `what`: `pretrain` (examples), `train METHOD` (tokens), `sample ENGINE` and `evaluate ENGINE` (tokens), `score`
    (tokens), `encode` (texts), `ask` (completion tokens, of `endpoint`). `length` is the mean length of a sequence,
    `prompt` the tokens that are read before any is sampled, `rollouts` the sampled tokens within training, `runs` how
    often the piece is begun.
    """

    what: str
    model: str
    amount: float
    tokens: float
    length: float = 0.0
    prompt: float = 0.0
    rollouts: float = 0.0
    runs: int = 1
    endpoint: Endpoint | None = None

    @property
    def kind(self) -> str:
        return self.what.partition(" ")[0]

    def counts(self) -> dict[str, float]:
        """Its tokens by column of plan.csv."""
        if self.kind == "train":
            return {"trained_tokens": self.tokens, "sampled_tokens": self.rollouts}
        if self.kind in ("sample", "evaluate"):
            return {"sampled_tokens": self.tokens, "read_tokens": self.prompt}
        if self.kind == "ask":
            return {"asked_prompt_tokens": self.prompt, "asked_completion_tokens": self.tokens}
        return {"read_tokens": self.tokens} if self.kind == "score" else {}

    def money(self) -> float:
        """What its tokens cost by the price of its endpoint; 0 where none is known."""
        price = self.endpoint and self.endpoint.price
        return cost(self.prompt, self.tokens, price) if price else 0.0


class Amounts:
    """The work of a scale's jobs."""

    def __init__(self, scale: Scale):
        self.scale, self.sizes = scale, Sizes(scale)
        self._paid: set[tuple[str, int]] = set()  # samples of a training set's teacher

    def of(self, job: Job) -> list[Work]:
        """The work of a job; none where it neither computes with a model nor asks one."""
        steps: dict[str, Callable[[Job], list[Work]]] = {
            "model": self._model, "annotate": self._annotate, "quality": self._quality, "merge": self._merge,
            "answer": self._answer, "respond": self._respond, "train": self._train, "noise": self._noise,
            "evaluate": self._evaluate, "drift": self._drift,
        }  # fmt: skip
        return steps[job.step](job) if job.step in steps else []

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
        return [Work(training_kind(model.tuned.method), name, tokens, tokens, length)]

    def _annotate(self, _: Job) -> list[Work]:
        questions, settings = sum(self.sizes.pool().values()), self.scale.annotate
        if settings.backend == "openai":
            return [self._ask("annotate", settings.needed_endpoint, questions)]
        return [Work("encode", "encoder", questions, 0)] if settings.backend == "taxonomy" else []

    def _quality(self, _: Job) -> list[Work]:
        return [Work("encode", "encoder", sum(self.sizes.pool().values()), 0)]

    def _merge(self, _: Job) -> list[Work]:
        settings = self.scale.merge
        asks = "openai" in (settings.backend, *settings.compare)
        return [self._ask("merge", settings.needed_endpoint, 0)] if asks else []

    def _ask(self, step: str, endpoint: Endpoint, questions: float) -> Work:
        ask = getattr(self.sizes.expected, step)
        if ask is None:
            raise self.sizes.lacks(f"expected.{step}", "the tokens of a request")
        requests = ask.requests or questions
        completion = requests * ask.completion_tokens
        prompt = requests * ask.prompt_tokens
        return Work("ask", endpoint.model, completion, completion, prompt=prompt, endpoint=endpoint)

    def _answer(self, job: Job) -> list[Work]:
        name, settings, counts = job.arguments.model, self.scale.proficiency, self.sizes.answered()
        work = []
        if settings.choices == "likelihood" and not self.scale.model(name).endpoint and "general" in counts:
            # ours: a pool's general questions are the lettered ones
            lettered: Counts = {"general": counts.pop("general")}
            length = self.sizes.prompt(lettered)
            tokens = lettered["general"] * (length + CHOICES_TOKENS)
            work.append(Work("score", name, tokens, tokens, length))
        if counts:
            answer = self.sizes.answer(counts)
            work.append(self._sample(name, counts, settings.samples, answer, settings.max_new_tokens))
        return work

    def _respond(self, job: Job) -> list[Work]:
        name = job.arguments.trainset
        settings, counts = self.scale.respond_of(name), self.sizes.trainset(name)
        samples = settings.group_size - int(settings.include_gold)
        if self.scale.model(settings.teacher).endpoint:
            samples = self._unpaid(name, settings.teacher, samples)
        response = self.sizes.response(counts)
        return [self._sample(settings.teacher, counts, samples, response, settings.max_new_tokens)]

    def _sample(self, name: str, counts: Counts, samples: int, length: float, limit: int) -> Work:
        """`samples` completions of `length` tokens, at most `limit`, of so many questions by domain."""
        model, prompt, rows = self.scale.model(name), self.sizes.prompt(counts), sum(counts.values()) * samples
        completion = min(length, limit)
        tokens, length = rows * completion, prompt + completion
        if model.endpoint:
            return Work("ask", name, tokens, tokens, length, prompt=rows * prompt, endpoint=model.endpoint)
        amount = tokens if model.engine == "vllm" else rows * limit
        return Work(f"sample {model.engine}", name, amount, tokens, length, prompt=rows * prompt)

    def _unpaid(self, trainset: str, teacher: str, samples: int) -> int:
        """How many samples a question are still to be paid for: an endpoint is never asked for one twice."""
        entry = self.scale.trainset(trainset)
        parts = [self.scale.trainset(part) for part in entry.parts] if entry.select == "union" else [entry]
        same = [part.model_dump_json(exclude={"display"}) + teacher for part in parts]
        unpaid = [s for s in range(samples) if not all((part, s) in self._paid for part in same)]
        self._paid |= {(part, s) for part in same for s in range(samples)}
        return len(unpaid)

    def _train(self, job: Job) -> list[Work]:
        work = []
        for run in job.runs:
            method = self.scale.method(run.method, run.student, run.trainset)
            work.append(self.training(method, run.student, self.sizes.groups(run.trainset)))
            if self.sizes.layout.is_watched(run):
                work += self._watched(run, method)
        return work

    def training(self, method: Method, student: str, groups: Groups, epochs: float | None = None) -> Work:
        """One run's training; the noise measurement's of part of an epoch."""
        epochs = _epochs(method, groups) if epochs is None else epochs
        length = groups.prompt + groups.response
        contrasts = (epochs + REFERENCE) * groups.count * groups.contrast  # groups from which dpo and gdpo learn
        rollouts = 0.0
        if method.trainer == "grpo":
            rows = epochs * groups.count * (method.group_size or groups.size)
            rollouts = rows * groups.response
        elif method.trainer == "sft":
            rows = epochs * groups.count * method.completions
        elif method.trainer == "dpo":
            rows = contrasts * 2
        else:
            size = min(method.group_size or groups.size, groups.size)
            rows = contrasts * max(2.0, groups.distinct * size)
        tokens = rows * length
        return Work(training_kind(method), student, tokens, tokens, length, rollouts=rollouts)

    def _watched(self, run: Run, method: Method) -> list[Work]:
        """The samples of a run's validation items before, while and after it is trained."""
        watch, groups = self.scale.watch, self.sizes.groups(run.trainset)
        rows = sum(min(watch.items, benchmark.validation_items) for benchmark in self.scale.benchmarks.values())
        if not rows:
            return []
        used = groups.count * (groups.contrast if method.trainer in ("dpo", "gdpo") else 1.0)
        batches = math.ceil(used * (method.completions if method.trainer == "sft" else 1) / method.batch_size)
        tokens = ((method.steps or math.ceil(method.epochs * batches)) // watch.every + 2) * rows * watch.max_new_tokens
        return [Work("sample hf", run.student, tokens, tokens, watch.max_new_tokens, runs=0)]

    def _noise(self, job: Job) -> list[Work]:
        student, trainset = job.arguments.student, job.arguments.trainset
        watch, groups = self.scale.watch, self.sizes.groups(trainset)
        epochs = min(1.0, watch.noise_batches * watch.noise_batch_size / max(1.0, groups.count))
        methods = [self.scale.method(run.method, student, trainset) for run in job.runs]
        return [self.training(method, student, groups, epochs) for method in methods]

    def _evaluate(self, job: Job) -> list[Work]:
        return [work for run in job.runs for work in self._score(run.student, job.arguments.split == "test")]

    def _score(self, student: str, test: bool) -> list[Work]:
        """One run's answers to the items of every benchmark, and the likelihoods of choices."""
        sampled = scored = amount = prompts = longest = 0.0
        engine = self.scale.model(student).engine
        for name, benchmark in self.scale.benchmarks.items():
            items = self.sizes.items(name) if test else benchmark.validation_items
            rows, counts = items * benchmark.samples, {benchmark.domain: 1.0}
            prompt = self.sizes.prompt(counts)
            if benchmark.kind == "choose":
                scored += items * (prompt + CHOICES_TOKENS)
                continue
            answer = min(self.sizes.answer(counts), benchmark.max_new_tokens)
            sampled += rows * answer
            amount += rows * (answer if engine == "vllm" else benchmark.max_new_tokens)
            prompts += rows * prompt
            longest = max(longest, prompt + answer)
        work = [Work(f"evaluate {engine}", student, amount, sampled, longest, prompt=prompts)] if amount else []
        return work + ([Work("score", student, scored, scored, longest, runs=0 if work else 1)] if scored else [])

    def _drift(self, job: Job) -> list[Work]:
        """The scoring of each run's answers to the validation items, by the student and by its reference."""
        tokens = longest = 0.0
        for benchmark in self.scale.benchmarks.values():
            counts = {benchmark.domain: 1.0}
            length = self.sizes.prompt(counts) + min(self.sizes.answer(counts), benchmark.max_new_tokens)
            tokens += 2 * benchmark.validation_items * length
            longest = max(longest, length)
        return [Work("score", run.student, tokens, tokens, longest) for run in job.runs]


def training_kind(method: Method) -> str:
    """The `what` of training by a method, which all methods of equal speed share."""
    return f"train {method.trainer}{'-lora' if method.lora else ''}"


def _epochs(method: Method, groups: Groups) -> float:
    """How often a run sees its data: `epochs`, or what `steps` of them come to."""
    if not method.steps:
        return method.epochs
    used = {"sft": method.completions, "grpo": 1.0}.get(method.trainer, groups.contrast)
    return method.steps * method.batch_size / max(1.0, groups.count * used)
