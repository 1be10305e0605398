"""Start one training run in several processes, as the scale's `launch` says: the command calls itself by accelerate.

Three stages, each of them `gdpo train` with the same arguments: in a Slurm job of several nodes the first has srun
start one on each node; that one starts, by accelerate, a process for each GPU of its node; those train.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gdpo.core import process_group
from gdpo.core.errors import UserError
from gdpo.core.project import CONFIG

if TYPE_CHECKING:
    from gdpo.config.resources import Launch  # which needs pydantic, and a command without it says so by this module

PORT = "GDPO_MAIN_PORT"  # of the first node, at which all processes of a run meet; set for launchers of several nodes
LAUNCHED = "GDPO_LAUNCHED"  # set in the processes that are to train
PORTS = range(20_000, 30_000)  # ours: above the well-known, below those that Linux hands out by itself
TERMINATED = 128  # plus a signal's number, as shells have it


def start(launch: Launch, arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> None:
    """Return in the process that is to train; in any other, start those that are, and exit with their exit code.

    `arguments` are those of `gdpo`. Raises UserError where other processes run than `launch` says.
    """
    total = launch.processes * launch.nodes
    running = process_group.processes()
    # One process is what a scale says that says nothing: whoever starts several by hand may.
    if LAUNCHED in environ or (total > 1 and running > 1):
        if running != total:
            raise UserError(key="launch", found=running, expected=f"{total} processes")
        return
    if total == 1 or running > 1:
        return
    if launch.nodes > 1 and PORT not in environ:
        command, port = across_nodes(launch, arguments, environ)
        sys.exit(subprocess.run(command, env={**environ, PORT: str(port)}).returncode)
    sys.exit(_on_this_node(accelerated(launch, arguments, environ)))


def accelerated(launch: Launch, arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """`accelerate launch` and its arguments that start this node's processes of `gdpo ARGUMENTS`.

    Of several nodes srun says which they are (SLURM_STEP_NODELIST) and this one's number (SLURM_NODEID).
    """
    several = launch.nodes > 1
    config = CONFIG / "accelerate" / f"{launch.strategy}{'-nodes' if several else ''}.yaml"
    command = ["accelerate", "launch", "--config_file", str(config)]
    command += ["--num_processes", str(launch.processes * launch.nodes)]
    if several:
        node, nodes = environ.get("SLURM_NODEID"), environ.get("SLURM_STEP_NODELIST")
        if not (node and nodes):
            raise UserError(
                f"{PORT} is set", key="launch.nodes", expected="SLURM_NODEID and SLURM_STEP_NODELIST beside it"
            )
        command += ["--num_machines", str(launch.nodes), "--machine_rank", node]
        command += ["--main_process_ip", first_host(nodes), "--main_process_port", environ[PORT]]
    else:
        command += ["--main_process_port", "0"]  # any that is free: several runs may share a node
    return [*command, "--module", "gdpo.cli", *arguments]


def across_nodes(launch: Launch, arguments: Sequence[str], environ: Mapping[str, str]) -> tuple[list[str], int]:
    """The srun command that calls `gdpo ARGUMENTS` once on each node of a Slurm job, and the value of PORT for it.

    Of a job's variables Snakemake's job step leaves little more than its number; srun finds all else by that.
    """
    job = environ.get("SLURM_JOB_ID")
    if not job:
        raise UserError(key="launch.nodes", found="none", expected=f"a Slurm job of {launch.nodes} nodes")
    held = environ.get("SLURM_JOB_NUM_NODES", str(launch.nodes))
    if held != str(launch.nodes):
        raise UserError(key="launch.nodes", found=f"one of {held}", expected=f"a Slurm job of {launch.nodes} nodes")
    # Beside the step that may call this, with all that the job was given; the processes of a node share its CPUs.
    command = ["srun", "--overlap", "--nodes", str(launch.nodes), "--ntasks", str(launch.nodes), "--ntasks-per-node=1"]
    command += ["--cpu-bind=none", "--kill-on-bad-exit=1", sys.executable, "-m", "gdpo.cli", *arguments]
    return command, PORTS[int(job) % len(PORTS)]


def first_host(nodelist: str) -> str:
    """The first of the hosts that Slurm writes in short: gpu[03-05,09],big1 begins with gpu03.

    Raises UserError where there is none.
    """
    first = re.match(r"(?:\[[^\]]*\]|[^,\[])+", nodelist)
    if first is None:
        raise UserError(key="launch.nodes", found=f"'{nodelist}'", expected="hosts in SLURM_STEP_NODELIST")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group())


def _on_this_node(command: Sequence[str]) -> int:
    """Run `accelerate launch` within this process; the exit code of the process that failed first, else 0.

    A UserError is printed once, whichever process raised it, without torchrun's own report.
    """
    import logging

    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from gdpo.core.terminal import say
    from gdpo.trainer import compat

    logging.disable(logging.CRITICAL)  # torch's loggers have levels of their own
    os.environ[LAUNCHED] = "1"
    try:
        compat.launch(command[2:])
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.error_file_data.get("user"):
            say(f"gdpo: {failure.message}")
        return failure.exitcode if failure.exitcode > 0 else TERMINATED - failure.exitcode
    except SignalException as error:
        return TERMINATED + error.sigval
    return 0


def tell_launcher(sentence: str) -> bool:
    """Leave a user's sentence to the launcher of this process; False where there is none."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path or LAUNCHED not in os.environ:
        return False
    Path(path).write_text(json.dumps({"message": sentence, "timestamp": time.time(), "user": True}), encoding="utf-8")
    return True
