"""A plan in words: Markdown for people, CSV for machines."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gdpo.core.errors import UserError
from gdpo.ops.plan.plan import Line, Plan
from gdpo.ops.plan.shapes import GIB

COLUMNS = [
    "step", "jobs", "jobs_done", "runs", "runs_done", "trained_tokens", "sampled_tokens", "read_tokens",
    "asked_prompt_tokens", "asked_completion_tokens", "money", "seconds", "gpu_hours", "memory_gib", "from",
    "predicted_seconds_of_done", "measured_seconds", "predicted_cpu_seconds_of_done", "measured_cpu_seconds",
]  # fmt: skip

COMPARED = ("done", "compared", "measured", "compared_cpu", "measured_cpu")


def rows(plan: Plan) -> list[dict[str, str]]:
    """A row a step; numbers of nothing are left empty."""
    return [_row(line) for line in plan.lines]


def _row(line: Line) -> dict[str, str]:
    numbers = {
        "jobs": line.jobs, "jobs_done": line.done, "runs": len(line.runs), "runs_done": len(line.runs_done),
        "trained_tokens": line.trained, "sampled_tokens": line.sampled, "read_tokens": line.read,
        "asked_prompt_tokens": line.asked[0], "asked_completion_tokens": line.asked[1],
    }  # fmt: skip
    found = {"step": line.step, **{key: f"{value:.0f}" if value else "" for key, value in numbers.items()}}
    fine = {
        "money": line.money, "seconds": line.seconds, "gpu_hours": line.gpu_seconds / 3600,
        "memory_gib": line.memory_gib, "predicted_seconds_of_done": line.compared, "measured_seconds": line.measured,
        "predicted_cpu_seconds_of_done": line.compared_cpu, "measured_cpu_seconds": line.measured_cpu,
    }  # fmt: skip
    return found | {key: f"{value:.2f}" if value else "" for key, value in fine.items()} | {"from": _from(line)}


def _from(line: Line) -> str:
    return ", ".join(sorted(line.origins))


def markdown(plan: Plan) -> str:
    """The whole plan: what it takes in a sentence, steps, runs, what does not fit, and what was measured beside it."""
    blocks = [f"# Plan of scale {plan.scale.name}: {', '.join(plan.targets)}", _summary(plan), _steps(plan)]
    if plan.trainings:
        blocks.append(_runs(plan))
    if plan.memory:
        blocks.append(_memory(plan))
    if any(line.measured for line in plan.lines):
        blocks.append(_compared(plan))
    if plan.warnings:
        blocks.append("\n".join(["## Look at this first", "", *(f"- {warning}" for warning in plan.warnings)]))
    return "\n\n".join([*blocks, _origins(plan)]) + "\n"


def finished(plan: Plan) -> str:
    """Of a plan whose jobs are done: what it takes in a sentence, and predicted beside measured."""
    title = f"# Plan of scale {plan.scale.name}: {', '.join(plan.targets)}"
    return "\n\n".join([title, _summary(plan), _compared(plan)]) + "\n"


def _summary(plan: Plan) -> str:
    gpus = plan.scale.uses_gpus
    count = sum(line.jobs for line in plan.lines), sum(line.done for line in plan.lines)
    runs = sum(len(seeds) for seeds, _ in plan.trainings.values())
    runs_done = sum(len(done) for _, done in plan.trainings.values())
    hours = sum(line.gpu_seconds for line in plan.lines) / 3600
    cpu = f" ({_time(seconds)} of the processor)" if (seconds := sum(line.cpu for line in plan.lines)) else ""
    spent = f"{hours:,.0f} GPU-hours" if gpus else f"{_time(plan.seconds)} of one process{cpu}"
    unknown = any("unknown" in line.origins for line in plan.lines)
    known = "of the steps whose time is known: " if unknown else ""
    taken = [
        f"- {known}{spent}; at least {_time(plan.wall())} on {plan.workers} {'GPUs' if gpus else 'workers'}, "
        f"{_time(plan.wall(to_do=True))} of it to do"
    ]
    lines = [
        f"- {count[0]} jobs, {count[1]} of them done; {runs} training runs, {runs_done} of them done",
        *(taken if plan.seconds or not unknown else []),
        f"- tokens: {_big(sum(x.trained for x in plan.lines))} trained on, {_big(sum(x.sampled for x in plan.lines))} "
        f"sampled, {_big(sum(x.read for x in plan.lines))} read",
    ]
    asked = [line for line in plan.lines if sum(line.asked)]
    if asked:
        tokens = _big(sum(line.asked[0] for line in asked)), _big(sum(line.asked[1] for line in asked))
        money = sum(line.money for line in asked)
        each = "; ".join(f"{line.step} {line.money:,.0f}" for line in asked)
        lines.append(
            f"- endpoints: {tokens[0]} prompt and {tokens[1]} completion tokens, {money:,.0f} in money ({each})"
        )
    if unknown:
        lines.append(
            "- some times are not known: `gdpo calibrate` with the same --scale and --limit measures what it can, of a "
            "real scale once its models and its pool are made"
        )
    return "\n".join(lines)


def _steps(plan: Plan) -> str:
    gpus = plan.scale.uses_gpus
    spent = "GPU-hours" if gpus else "time"
    heads = ["step", "jobs", "done", "runs", "trained", "sampled", "read", spent, "memory", "from"]
    lines = []
    for line in plan.lines:
        time = f"{line.gpu_seconds / 3600:,.1f}" if gpus else _time(line.seconds)
        time = time if (line.gpu_seconds if gpus else line.seconds) else ""
        time = "?" if "unknown" in line.origins else time
        cells = [line.step, str(line.jobs), str(line.done), str(len(line.runs) or ""), _big(line.trained)]
        memory = f"{line.memory_gib:.1f} GiB" if line.memory_gib else ""
        lines.append([*cells, _big(line.sampled), _big(line.read), time, memory, _from(line)])
    return "## Steps\n\n" + _table(heads, lines, texts=(0, 9))


def _runs(plan: Plan) -> str:
    lines = []
    for (student, trainset, method), (seeds, done) in sorted(plan.trainings.items()):
        lines.append([student, trainset, method, str(len(seeds)), str(len(seeds) - len(done))])
    return "## Training runs\n\n" + _table(
        ["student", "training set", "method", "seeds", "to do"], lines, texts=(0, 1, 2)
    )


def _memory(plan: Plan) -> str:
    """Every kind of run part by part; runs of equal parts are one line."""
    names = list(dict.fromkeys(part for parts in plan.memory.values() for part in parts))
    alike: dict[tuple[float, ...], list[str]] = {}
    for run, parts in sorted(plan.memory.items()):
        alike.setdefault(tuple(parts.get(name, 0.0) for name in names), []).append(run)
    lines = []
    for sizes, runs in alike.items():
        further = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        lines.append([runs[0] + further, *(f"{size / GIB:.1f}" for size in (*sizes, sum(sizes)))])
    return "## Memory of a run, GiB on each GPU\n\n" + _table(["run", *names, "in all"], sorted(lines), texts=(0,))


def _compared(plan: Plan) -> str:
    """Predicted and measured seconds of the finished jobs, by step and in all."""
    lines = [line for line in plan.lines if line.measured]
    compared = [[getattr(line, key) for key in COMPARED] for line in lines]
    cells = [[line.step, *_beside(numbers)] for line, numbers in zip(lines, compared, strict=True)]
    cells.append(["all", *_beside([sum(column) for column in zip(*compared, strict=True)])])
    heads = ["step", "jobs", "predicted s", "measured s", "ratio", "predicted CPU s", "measured CPU s", "ratio"]
    text = "## Measured beside predicted\n\n" + _table(heads, cells, texts=(0,))
    if plan.elapsed:
        text += (
            f"\n\nFrom the first job's begin to the last one's end: {plan.elapsed:.0f} s measured; predicted at least "
        )
        text += f"{plan.wall():.0f} s on {plan.workers} workers."
    return text


def _beside(numbers: Sequence[float]) -> list[str]:
    """Jobs, then predicted, measured and their ratio by the clock and by the processor."""
    jobs, *pairs = numbers
    found = [f"{jobs:.0f}"]
    for predicted, measured in zip(pairs[::2], pairs[1::2], strict=True):
        ratio = f"{predicted / measured:.2f}" if measured else ""
        found += [f"{predicted:.1f}", f"{measured:.1f}" if measured else "", ratio]
    return found


def _origins(plan: Plan) -> str:
    card = plan.scale.expected.card if plan.scale.expected else None
    counted, sets = plan.counted
    lines = ["times measured: by `gdpo calibrate` on this machine", "finished: as finished jobs of this scale took"]
    if card:
        lines.append(
            f"assumed: by arithmetic, {card.tflops:g} TFLOP/s of {card.name} of which training gets {card.train:.0%}, "
            f"scoring {card.score:.0%}, sampling by vLLM {card.vllm:.0%}, by transformers "
            f"{card.hf:.0%}; measured on no GPU"
        )
    lines += [
        "asked: an endpoint's time is its own",
        "light: seconds to minutes of one CPU, or a download; its start-up alone is counted, where it was measured",
    ]
    if any("unknown" in line.origins for line in plan.lines):
        lines.append("unknown: nothing to go by, counted as no time")
    lines += [
        f"tokens: by questions and items that lie on disk, and the groups of {counted} of {sets} training sets there; "
        "else by `expected` in the scale's file, where each number has its source",
        "read: prompts that are sampled from, and what is scored without sampling",
    ]
    if plan.memory:
        lines.append("memory: of each GPU, by arithmetic at a method's longest sequences (docs/paper_scale.md)")
    elif any(line.memory_gib for line in plan.lines):
        lines.append("memory: the most that a process held in the pieces of `gdpo calibrate`")
    if any(line.money for line in plan.lines):
        lines.append("money: those tokens by the `price` of each endpoint in the scale's file, in its currency")
    return "\n".join(["## Where the numbers come from", "", *(f"- {line}" for line in lines)])


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], texts: Sequence[int]) -> str:
    rule = ["---" if place in texts else "---:" for place in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *lines])


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

    Raises UserError where the marks are not there.
    """
    marks = re.compile(rf"(<!-- plan:{re.escape(scale)} -->\n).*?(<!-- /plan -->)", re.DOTALL)
    if not marks.search(page):
        raise UserError(f"docs/paper_scale.md: expected the marks <!-- plan:{scale} --> and <!-- /plan -->, found none")
    deeper = re.sub(r"^(#+) ", r"##\1 ", text, flags=re.MULTILINE)
    return marks.sub(lambda match: f"{match[1]}{deeper}{match[2]}", page)
