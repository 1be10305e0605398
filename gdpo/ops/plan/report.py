"""A plan as Markdown, and its steps as rows of a CSV file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from gdpo.core.errors import UserError
from gdpo.core.markdown import table_lines
from gdpo.models.shapes import GIB
from gdpo.ops.plan.jobs import total
from gdpo.ops.plan.plan import Plan, Prediction

COLUMNS = [
    "step", "jobs", "jobs_done", "runs", "runs_done", "trained_tokens", "sampled_tokens", "read_tokens",
    "asked_prompt_tokens", "asked_completion_tokens", "money", "seconds", "gpu_hours", "memory_gib", "from",
    "predicted_seconds_of_done", "measured_seconds", "predicted_cpu_seconds_of_done", "measured_cpu_seconds",
]  # fmt: skip
FRACTIONS = COLUMNS[COLUMNS.index("money") :]  # shown with two decimals
SOURCES = {
    "measured": "by `gdpo calibrate` on this machine",
    "finished": "as finished jobs of this scale took",
    "kept": "as a result of the step took on average in the scale's kept results (`cost.csv`)",
    "alike": "as a run of the scale's other methods with the same trainer took on average in its kept results",
    "assumed": "by arithmetic, {card}; measured on no GPU",
    "asked": "an endpoint's time is its own",
    "light": "seconds to minutes of one CPU, or a download, counted as no time",
    "unknown": "nothing to go by, counted as no time",
}


def rows(plan: Plan) -> list[dict[str, str]]:
    """A row a step, as text; zeros are left empty."""
    lines = []
    for step, predictions in plan.lines.items():
        numbers = totals(predictions)
        row = {column: f"{n:.{2 if column in FRACTIONS else 0}f}" if n else "" for column, n in numbers.items()}
        lines.append(row | {"step": step, "from": ", ".join(_sources(predictions))})
    return lines


def totals(predictions: Sequence[Prediction]) -> dict[str, float]:
    """The numbers of some jobs by column of plan.csv."""
    done = [prediction for prediction in predictions if prediction.job.done]
    pairs = [(prediction.time, prediction.measured) for prediction in predictions if prediction.measured]
    predicted, measured = total(time for time, _ in pairs), total(time for _, time in pairs)
    tokens = Counter({column: 0.0 for column in COLUMNS if column.endswith("_tokens")})
    for prediction in predictions:
        for piece in prediction.work:
            tokens.update(piece.counts())
    return {
        "jobs": len(predictions), "jobs_done": len(done), "runs": _runs(predictions), "runs_done": _runs(done),
        **tokens,
        "money": sum(prediction.money for prediction in predictions),
        "seconds": total(prediction.time for prediction in predictions).seconds,
        "gpu_hours": sum(prediction.gpu_seconds for prediction in predictions) / 3600,
        "memory_gib": max((prediction.memory_gib for prediction in predictions), default=0.0),
        "predicted_seconds_of_done": predicted.seconds, "measured_seconds": measured.seconds,
        "predicted_cpu_seconds_of_done": predicted.cpu, "measured_cpu_seconds": measured.cpu,
    }  # fmt: skip


def _runs(predictions: Sequence[Prediction]) -> int:
    return len({run for prediction in predictions for run in prediction.job.runs})


def _sources(predictions: Sequence[Prediction]) -> list[str]:
    return sorted({source for prediction in predictions for source in prediction.sources})


def markdown(plan: Plan) -> str:
    """The plan: its total, warnings, steps, memory, what was measured beside it, and where numbers come from."""
    blocks = [f"# Plan of scale {plan.scale.name}: {', '.join(plan.targets)}", _summary(plan)]
    if plan.warnings:
        blocks.append("\n".join(["## Look at this first", "", *(f"- {warning}" for warning in plan.warnings)]))
    return "\n\n".join([*blocks, _steps(plan), *_memory(plan), *measured(plan), _origins(plan)]) + "\n"


def finished(plan: Plan) -> str:
    """Of a plan whose jobs are done: its total, and predicted beside measured."""
    title = f"# Plan of scale {plan.scale.name}: {', '.join(plan.targets)}"
    return "\n\n".join([title, _summary(plan), *measured(plan)]) + "\n"


def _summary(plan: Plan) -> str:
    """What all jobs take, as a list, time first."""
    numbers, trained = totals(plan.predictions), totals([p for p in plan.predictions if p.job.step == "train"])
    unknown = [step for step, predictions in plan.lines.items() if "unknown" in _sources(predictions)]
    known = f"unknown for {', '.join(unknown)}; the others take " if unknown else ""
    workers = f"{plan.workers} {'GPUs' if plan.scale.uses_gpus else 'workers'}"
    tokens = {column: _big(n) or "0" for column, n in numbers.items() if column.endswith("_tokens")}
    lines = [
        f"total time: {known}{_spent(plan, numbers)}; at least {_time(plan.wall())} on {workers}, "
        f"{_time(plan.wall(to_do=True))} of it to do",
        f"{numbers['jobs']} jobs, {numbers['jobs_done']} of them done; {trained['runs']} training runs, "
        f"{trained['runs_done']} of them done",
        f"tokens: {tokens['trained_tokens']} trained on, {tokens['sampled_tokens']} sampled, "
        f"{tokens['read_tokens']} read",
    ]
    if numbers["asked_completion_tokens"]:
        money = {step: totals(predictions)["money"] for step, predictions in plan.lines.items()}
        each = "; ".join(f"{step} {spent:,.0f}" for step, spent in money.items() if spent)
        lines.append(
            f"endpoints: {tokens['asked_prompt_tokens']} prompt and {tokens['asked_completion_tokens']} completion "
            f"tokens, {numbers['money']:,.0f} in money ({each})"
        )
    if unknown:
        lines.append(
            "`gdpo calibrate` with the same --scale and --limit measures what it can of the unknown times; of a real "
            "scale, once its models and its pool are made"
        )
    return "\n".join(f"- {line}" for line in lines)


def _spent(plan: Plan, numbers: Mapping[str, float]) -> str:
    if plan.scale.uses_gpus:
        return f"{numbers['gpu_hours']:,.0f} GPU-hours"
    return f"{_time(numbers['seconds'])} of one process"


def _steps(plan: Plan) -> str:
    gpus, lines = plan.scale.uses_gpus, []
    for step, predictions in plan.lines.items():
        numbers, sources = totals(predictions), _sources(predictions)
        time = f"{numbers['gpu_hours']:,.1f}" if gpus else _time(numbers["seconds"])
        spent = numbers["gpu_hours" if gpus else "seconds"]
        memory = numbers["memory_gib"]
        lines.append([
            step, ", ".join(sources), f"{numbers['jobs']}", f"{numbers['jobs_done']}", f"{numbers['runs'] or ''}",
            *(_big(numbers[f"{what}_tokens"]) for what in ("trained", "sampled", "read")),
            "?" if "unknown" in sources else time if spent else "", f"{memory:.1f} GiB" if memory else "",
        ])  # fmt: skip
    heads = ["step", "from", "jobs", "done", "runs", "trained", "sampled", "read"]
    heads += ["GPU-hours" if gpus else "time", "memory"]
    return "\n".join(["## Steps", "", *table_lines(heads, lines, labels=2)])


def _memory(plan: Plan) -> list[str]:
    """Every kind of run part by part, without evaluation; runs of equal parts are one line. No block without a card."""
    runs = {
        f"{run}, {prediction.job.gpus} {'GPU' if prediction.job.gpus == 1 else 'GPUs'}": parts
        for prediction in plan.predictions
        for run, parts in prediction.memory.items()
        if prediction.job.step != "evaluate"
    }
    names = list(dict.fromkeys(name for parts in runs.values() for name in parts))
    alike: dict[tuple[float, ...], list[str]] = {}
    for run, parts in sorted(runs.items()):
        alike.setdefault(tuple(parts.get(name, 0.0) for name in names), []).append(run)
    if not alike:
        return []
    lines = []
    for sizes, same in alike.items():
        others = f" and {len(same) - 1} more" if len(same) > 1 else ""
        lines.append([same[0] + others, *(f"{size / GIB:.1f}" for size in (*sizes, sum(sizes)))])
    table = table_lines(["run", *names, "in all"], sorted(lines), labels=1)
    return ["\n".join(["## Memory of a run, GiB on each GPU", "", *table])]


def measured(plan: Plan) -> list[str]:
    """Predicted and measured seconds of the finished jobs that computed, by step and in all; no block without any."""
    lines = {step: [p for p in predictions if p.measured] for step, predictions in plan.lines.items()}
    lines["all"] = [prediction for predictions in lines.values() for prediction in predictions]
    cells = []
    for step, predictions in lines.items():
        numbers, row = totals(predictions), [step, str(len(predictions))]
        for unit in ("seconds", "cpu_seconds"):
            predicted, took = numbers[f"predicted_{unit}_of_done"], numbers[f"measured_{unit}"]
            row += [f"{predicted:.1f}", f"{took:.1f}", f"{predicted / took:.2f}" if took else ""]
        cells += [row] if predictions else []
    heads = ["step", "jobs", "predicted s", "measured s", "ratio", "predicted CPU s", "measured CPU s", "ratio"]
    table = table_lines(heads, cells, labels=1)
    return ["\n".join(["## Measured beside predicted", "", *table])] if cells else []


def _origins(plan: Plan) -> str:
    """Where the numbers come from, as far as the plan has such numbers."""
    card = plan.scale.expected.card if plan.scale.expected else None
    speed = card and (
        f"{card.tflops:g} TFLOP/s of {card.name} of which training gets {card.train:.0%}, scoring {card.score:.0%}, "
        f"sampling by vLLM {card.vllm:.0%}, by transformers {card.hf:.0%}"
    )
    used = _sources(plan.predictions)
    lines = [f"{source}: {words.format(card=speed)}" for source, words in SOURCES.items() if source in used]
    lines += [
        "tokens: by the questions, items and groups on disk; else by `expected` in the scale's file, where each number "
        "has its source",
        "read: prompts that are sampled from, and what is scored without sampling",
    ]
    if any(prediction.memory for prediction in plan.predictions):
        lines.append("memory: of each GPU, by arithmetic at a method's longest sequences (docs/scale-paper.md)")
    if totals(plan.predictions)["money"]:
        lines.append("money: those tokens by the `price` of each endpoint in the scale's file, in its currency")
    return "\n".join(["## Where the numbers come from", "", *(f"- {line}" for line in lines)])


def _big(number: float) -> str:
    """A number of tokens in thousands, millions or billions; empty for none."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.0f}" if number else ""


def _time(seconds: float) -> str:
    if seconds >= 2 * 3600:
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 120 else f"{seconds:.0f} s"


def filled(page: str, scale: str, text: str) -> str:
    """`page` with `text`, its headings two deeper, between the marks plan:SCALE and /plan, each a comment.

    Raises UserError where the marks are missing.
    """
    marks = re.compile(rf"(<!-- plan:{re.escape(scale)} -->\n).*?(<!-- /plan -->)", re.DOTALL)
    if not marks.search(page):
        expected = f"the marks <!-- plan:{scale} --> and <!-- /plan -->"
        raise UserError(path="docs/scale-paper.md", found="none", expected=expected)
    deeper = re.sub(r"^(#+) ", r"##\1 ", text, flags=re.MULTILINE)
    return marks.sub(lambda match: f"{match[1]}{deeper}{match[2]}", page)
