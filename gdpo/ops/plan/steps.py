"""`gdpo calibrate` and `gdpo plan`: what a scale would take, before anything is spent."""

from __future__ import annotations

from pathlib import Path

from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, writing
from gdpo.core.files import write_csv, write_json, write_text
from gdpo.core.provenance import recorded
from gdpo.core.terminal import display, say
from gdpo.ops.plan.rates import throughput, throughput_path

PAGE = Path("docs/scale-paper.md")


def calibrate(scale: Scale) -> None:
    """Measure this machine on short pieces of the scale's steps; write results/SCALE/throughput.json."""
    from gdpo.ops.plan.calibrate import measure_rates

    path = throughput_path(scale)
    with recorded(path, "calibrate", scale.expected) as extra:
        rates, skipped = measure_rates(scale)
        write_json(path, throughput(rates))
        if skipped:
            extra["skipped"] = skipped
    say(f"calibrate {path}: {len(rates)} rates, {len(skipped)} not measured")


def plan(scale: Scale, source: str, targets: list[str], workers: int | None, out: Path | None, docs: bool) -> None:
    """Print what `targets` take, of the scale that --scale calls `source`.

    With `out`, plan.csv and plan.md are written there. With `docs`, the plan goes into docs/scale-paper.md: its total
    and what was measured, if all jobs are done. Raises UserError for less than one worker, and without that page.
    """
    from gdpo.ops.plan import report
    from gdpo.ops.plan.plan import make_plan

    if workers is not None and workers < 1:
        raise UserError(key="--workers", found=workers, expected="a whole number above 0")
    if docs and not PAGE.exists():
        raise UserError(path=PAGE, problem="no such file", expected="--docs in a checkout's root")
    if out:  # a directory that cannot be made is refused before minutes are spent
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
    made = make_plan(scale, source, targets, workers)
    text = report.markdown(made)
    display(text)
    if out:
        write_csv(out / "plan.csv", report.COLUMNS, report.rows(made))
        write_text(out / "plan.md", text)
        say(f"plan {out / 'plan.md'}: {len(made.lines)} steps")
    if docs:
        shown = report.finished(made) if made.done else text
        write_text(PAGE, report.filled(PAGE.read_text(encoding="utf-8"), scale.name, shown))
        say(f"plan {PAGE}: scale {scale.name}")
