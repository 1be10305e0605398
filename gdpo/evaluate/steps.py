"""`gdpo evaluate`: score runs on the test or the validation items and keep every item's output."""

from __future__ import annotations

from gdpo.config import Scale
from gdpo.console import say
from gdpo.files import read_jsonl, replacing, write_json, write_jsonl
from gdpo.layout import Layout, Run, Split
from gdpo.overlap import Asked
from gdpo.provenance import recorded
from gdpo.records import Question, read_records


def evaluate(scale: Scale, runs: list[Run], split: Split) -> None:
    """Write samples and score of each run; benchmarks that the run's training set answers are dropped."""
    from gdpo.evaluate import harness

    layout = Layout(scale)
    for run in runs:
        asked = {n: b for n, b in scale.benchmarks.items() if split == "test" or b.validation_items}
        dropped = trained_on(layout, run, split)
        tasks = {n: (b, layout.benchmark(n, split)) for n, b in asked.items() if n not in dropped}
        score_path, samples_path = layout.score(run, split), layout.samples(run, split)
        with recorded(score_path, "evaluate", [run.__dict__, {n: b.model_dump() for n, b in asked.items()}]):
            rows = harness.evaluate(layout.run(run), scale.model(run.student).dtype, tasks, scale.eval_batch_size)
            with replacing(samples_path) as temporary:
                for name in tasks:
                    write_jsonl(temporary / f"{name}.jsonl", rows[name])
            scores = {name: harness.score(rows[name]) for name in tasks}
            write_json(score_path, {"run": run.__dict__, "split": split, "benchmarks": scores, "dropped": dropped})
        mean = sum(s["score"] for s in scores.values()) / len(scores)
        say(f"evaluate {run} ({split}): mean over {len(scores)} benchmarks {mean:.1%}")


def trained_on(layout: Layout, run: Run, split: Split) -> dict[str, str]:
    """benchmark -> why a run may not be scored on it: its training groups ask an item of that benchmark."""
    if run.is_origin:
        return {}
    prompts = (row["prompt"] for _, row in read_jsonl(layout.groups(run.trainset)))
    texts = (prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts)
    asked = Asked(texts, (source.instruction for source in layout.scale.sources.values()))
    reasons = {}
    for name in layout.scale.benchmarks:
        items = read_records(layout.benchmark(name, split), Question)
        if shared := sum(item in asked for item in items):
            reasons[name] = f"{shared} of its {len(items)} items are in training set {run.trainset}"
    return reasons
