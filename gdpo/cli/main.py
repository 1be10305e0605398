"""The `gdpo` command: one subcommand per step, each a thin call into its room.

Rules of the workflow are calls of this command, so that any of them can be run and debugged by hand. Rooms are
imported when their step runs: `gdpo --help` imports neither torch nor transformers.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from gdpo import __version__
from gdpo.cli import preload
from gdpo.core.errors import UserError, disk_error, suggest
from gdpo.core.extras import missing_package
from gdpo.runtime import parent_watchdog, single_thread

if TYPE_CHECKING:
    from gdpo.config.scale import Scale

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """One sentence in place of a usage text, and the closest known name for a misspelt one."""

    def error(self, message: str) -> NoReturn:
        step = self.prog.removeprefix("gdpo").strip()
        raise UserError(f"{step}: {message}" if step else message)

    def parse_known_args(self, args: Iterable[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:
        known, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"found '{rest[0]}'; {suggest(rest[0], self._option_string_actions)}")
        return known, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"found '{value}'; {suggest(str(value), action.choices)}")


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found '{text}'") from None


def step(parent: argparse._SubParsersAction[Parser], name: str, does: str, target: str) -> Parser:
    """A subcommand that calls `target`, ROOM:FUNCTION of that room's steps, with the options that are added to it."""
    command = parent.add_parser(name, help=does, description=does)
    command.set_defaults(target=target)
    command.add_argument("--scale", default="tiny", help="micro, tiny, smol, paper, or a scale's YAML file")
    command.add_argument(
        "--limit", type=whole_number, help="at most this many questions per set and items per benchmark"
    )
    command.add_argument("--mirror", help="read data sets, where the step reads any, from this directory, not the Hub")
    command.add_argument("--log", type=Path, help="send libraries' output to this file instead of the terminal")
    return command


def cell(command: argparse.ArgumentParser) -> None:
    command.add_argument("--student", required=True)
    command.add_argument("--trainset", required=True)
    command.add_argument(
        "--method", required=True, nargs="+", help="methods by name; NAME~LR is NAME at learning rate LR"
    )
    command.add_argument("--seeds", type=whole_number, nargs="+", required=True)


def sized(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--target", nargs="+", default=["all"], dest="targets", help="tables and files to plan for; absent: all"
    )
    command.add_argument(
        "--workers", type=whole_number, help="jobs at once, absent: CPUs; where jobs need GPUs, GPUs at once, absent: 8"
    )
    command.add_argument("--out", type=Path, help="write plan.csv and plan.md to this directory")
    command.add_argument("--docs", action="store_true", help="put the plan into docs/paper_scale.md")


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="gdpo", description="MetaGDPO (arXiv 2511.12113), step by step.")
    top.add_argument("--version", action="version", version=f"gdpo {__version__}")
    steps = top.add_subparsers(dest="step", required=True, metavar="STEP")
    step(steps, "model", "make a base model or teacher", "students:model").add_argument("--name", required=True)
    step(steps, "pretrain", "pretrain a shipped base model anew", "tiny:pretrain").add_argument("--name", required=True)
    step(steps, "bases", "compare base models made anew with the shipped ones", "tiny:bases").add_argument(
        "--ship", action="store_true", help="put those that differ in the shipped ones' place"
    )
    step(steps, "benchmark", "write the benchmarks' items, and all that are guarded", "metakl:benchmark")
    room = steps.add_parser("metakl", help="the training data: pool to training sets")
    data = room.add_subparsers(dest="substep", required=True, metavar="STEP")
    step(data, "sources", "write the question pool from its sources", "metakl:sources")
    step(data, "decontaminate", "drop what a benchmark asks", "metakl:decontaminate")
    step(data, "annotate", "name the skills that each question needs", "metakl:annotate")
    step(data, "quality", "measure the taxonomy against what sources say", "metakl:quality")
    step(data, "merge", "merge skills into knowledge units", "metakl:merge")
    step(data, "answer", "let a base model answer the pool", "metakl:answer").add_argument("--model", required=True)
    step(data, "proficiency", "join answers into proficiencies", "metakl:proficiency")
    step(data, "select", "choose a training set", "metakl:select").add_argument("--trainset", required=True)
    step(data, "card", "write a training set's data card", "metakl:card").add_argument("--trainset", default="metakl")
    step(data, "export", "write a training set as a Hugging Face data set", "metakl:export").add_argument(
        "--trainset", default="metakl"
    )
    room = steps.add_parser("teach", help="the teacher's responses and their rewards")
    teach = room.add_subparsers(dest="substep", required=True, metavar="STEP")
    step(teach, "respond", "sample each question's group", "teach:respond").add_argument("--trainset", required=True)
    step(teach, "import", "take groups from a file", "teach:import_groups").add_argument("--trainset", required=True)
    step(teach, "part", "take a part's groups from the whole set's", "teach:part").add_argument(
        "--trainset", required=True
    )
    step(teach, "reward", "grade and reward the groups", "teach:reward").add_argument("--trainset", required=True)
    cell(step(steps, "train", "train a student by a method, one run a seed", "students:train"))
    cell(step(steps, "noise", "measure how a method's gradient differs between batches", "students:noise"))
    cell(step(steps, "drift", "measure how far runs have moved from their student", "evaluate:drift"))
    scored = step(steps, "evaluate", "score runs and keep every item", "evaluate:evaluate")
    cell(scored)
    scored.add_argument("--split", choices=["test", "validation"], default="test")
    step(steps, "judge", "measure the safety judges on answers known to be safe", "evaluate:judge")
    step(steps, "table", "write a table from samples", "report:table").add_argument("--name", required=True)
    step(steps, "figure", "draw a figure from finished results", "report:figure").add_argument("--name", required=True)
    step(steps, "publish", "make a table, figure or the claims the active scale's", "report:publish").add_argument(
        "--name", required=True
    )
    step(steps, "sweep", "choose learning rates from validation scores", "report:sweep")
    step(steps, "show", "print a table of results/ and its retention", "report:show").add_argument(
        "--name", default="table2"
    )
    step(steps, "claims", "test the paper's claims on a scale's results", "report:claims")
    step(steps, "audit", "recompute the published averages", "report:audit")
    step(steps, "published", "put published numbers beside a scale's tables", "report:published")
    step(steps, "cost", "add up what a scale's results took", "report:cost")
    step(steps, "runs", "list what every trained run took", "report:runs")
    step(
        steps, "reproduced", "put the paper's numbers and ours side by side, cell by cell", "report:reproduced"
    ).add_argument("--docs", action="store_true", help="put the kept cells of the scale into docs/reproducing.md")
    step(steps, "numbers", "gather what the report quotes", "report:numbers")
    step(steps, "paper", "compile the report of a scale's results", "report:paper")
    checked = step(steps, "verify", "make a table anew from stored outputs and compare", "ops.verify:verify")
    checked.add_argument("result", type=Path, metavar="TABLE", help="such as results/table2.csv")
    checked.set_defaults(scale=None)  # the one that the table's provenance names
    step(steps, "doctor", "say what is missing or off on this machine", "ops.doctor:doctor").add_argument(
        "--slurm", action="store_true", help="look for Slurm's commands, too"
    )
    sized(step(steps, "plan", "say what a scale would take, before anything is spent", "ops.plan:plan"))
    step(steps, "calibrate", "measure this machine's throughput for `gdpo plan`", "ops.plan:calibrate")
    summary = step(steps, "summary", "print the time each step took", "report:summary")
    summary.add_argument("--since", type=float, default=0.0, help="only what finished since, in epoch seconds")
    return top


def check_names(scale: Scale, given: dict[str, Any]) -> None:
    """Raises UserError where the arguments name a model, a training set, a method or a seed that cannot be."""
    from gdpo.config.models import MOST_SEEDS

    if given.get("model") is not None:
        scale.model(given["model"])
    if "student" not in given:
        if given.get("trainset") is not None:
            scale.trainset(given["trainset"])
        return
    student, trainset = given["student"], given["trainset"]
    for key, name, known in (("student", student, scale.models), ("trainset", trainset, ["none", *scale.trainsets])):
        if name not in known:
            raise UserError(f"--{key}: found '{name}'; {suggest(name, known)}")
    for method in given["method"]:
        if method != "origin":
            scale.method(method, student, trainset)
    for seed in given["seeds"]:
        if not 0 <= seed < MOST_SEEDS:
            raise UserError(f"--seeds: expected whole numbers from 0 to {MOST_SEEDS - 1}, found {seed}")


def prepare_environment(offline: bool) -> None:
    """What must be set before libraries are imported; `offline`: nobody is asked anything."""
    single_thread.limit_to_one_thread()
    os.environ["ACCELERATE_MIXED_PRECISION"] = "no"  # else it would outdo the scale's dtype
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"


def run(arguments: argparse.Namespace, call: int | None = None) -> None:
    """Load the scale and call the step's function with the rest of the arguments.

    `call` is the process that a preloaded parent's child runs the step for.
    """
    from gdpo.config.loader import load_scale
    from gdpo.core.terminal import install_redaction

    parent_watchdog.watch(call)
    install_redaction()
    given = vars(arguments)
    if given["step"] == "verify" and given["scale"] is None:
        from gdpo.ops.verify.target import scale_of

        given["scale"], given["limit"] = scale_of(given["result"])
    scale = load_scale(given["scale"], given["limit"])
    check_names(scale, given)
    prepare_environment(offline=scale.world is not None)  # a made-up world asks nobody anything
    if given["step"] == "train":
        from gdpo.runtime import launch

        launch.start(scale.launch, sys.argv[1:])  # before the log is opened, by each process that trains, its own
    if given["step"] in ("evaluate", "metakl", "teach"):
        from gdpo.runtime import vllm_environment

        vllm_environment.enter(scale, given)  # before the log is opened, too
    if given["log"]:
        from gdpo.core.terminal import redirect

        redirect(given["log"])
    room, _, function = given["target"].partition(":")
    options = {k: v for k, v in given.items() if k not in ("step", "substep", "target", "scale", "limit", "log")}
    called = getattr(import_module(f"gdpo.{room}.steps"), function)
    if "mirror" not in signature(called).parameters:
        options.pop("mirror")  # every step of a chain takes the same options
    elif not scale.world:
        from gdpo.metakl.sources import mirror_dir

        options["mirror"] = mirror_dir(options["mirror"], scale)
    if given["step"] == "plan":
        options["source"] = given["scale"]  # as Snakemake is told
    if "seeds" in options:
        from gdpo.config.layout import Run

        student, trainset, methods, seeds = (options.pop(k) for k in ("student", "trainset", "method", "seeds"))
        options["runs"] = [Run(student, trainset, method, seed) for method in methods for seed in seeds]
    called(scale, **options)


def main(call: int | None = None) -> None:
    """The command; `call` is the process that a preloaded parent's child runs it for, None in an ordinary one."""
    try:
        if call is None and (code := preload.hand_over(sys.argv[1:])) is not None:
            sys.exit(code)
        run(parser().parse_args(), call)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except (UserError, OSError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            error = missing_package(error, next(iter(sys.argv[1:]), None)) or error
        sentence = disk_error(error) if not isinstance(error, UserError) else str(error)
        if sentence is None:
            raise
        from gdpo.core.terminal import say
        from gdpo.runtime.launch import tell_launcher

        if not tell_launcher(sentence):
            say(f"gdpo: {sentence}")
        sys.exit(2)
