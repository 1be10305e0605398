"""`gdpo calibrate` and `gdpo plan`: what a scale would take, before anything is spent."""

from __future__ import annotations

from pathlib import Path

from gdpo.config.scale import Scale
from gdpo.core.errors import UserError, writing
from gdpo.core.files import write_csv, write_json, write_text
from gdpo.core.provenance import recorded
from gdpo.core.terminal import display, say
from gdpo.ops.plan import rates as known

PAGE = Path("docs/paper_scale.md")


def calibrate(scale: Scale) -> None:
    """Measure this machine on short pieces of the scale's steps; write results/SCALE/throughput.json."""
    from gdpo.ops.plan.calibrate import measured

    path = known.path(scale)
    with recorded(path, "calibrate", scale.expected) as extra:
        found, start, skipped = measured(scale)
        write_json(path, known.written(found, start))
        if skipped:
            extra["skipped"] = skipped
    say(f"calibrate {path}: {len(found)} rates, {len(skipped)} not measured")


def plan(scale: Scale, source: str, targets: list[str], workers: int | None, out: Path | None, docs: bool) -> None:
    """Print what `targets` take, of the scale that --scale calls `source`.

    With `out`, plan.csv and plan.md are written there; with `docs`, the plan goes into docs/paper_scale.md, or,
    where all is done, what was measured beside it. Raises UserError where nobody works, or that page is not here.
    """
    from gdpo.ops.plan import report
    from gdpo.ops.plan.plan import make_plan

    if workers is not None and workers < 1:
        raise UserError(f"--workers: expected a whole number above 0, found {workers}")
    if docs and not PAGE.exists():
        raise UserError(f"{PAGE}: no such file; expected --docs in a checkout's root")
    if out:  # before minutes are spent on what cannot be kept
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
        shown = text if made.elapsed is None else report.finished(made)
        write_text(PAGE, report.filled(PAGE.read_text(encoding="utf-8"), scale.name, shown))
        say(f"plan {PAGE}: scale {scale.name}")
