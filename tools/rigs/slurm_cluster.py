"""A real Slurm of one node on this machine, for tests: munged, slurmctld and slurmd on loopback, in one directory.

Its GPUs are device nodes that nothing stands behind: Slurm hands them out and counts them like any other. There are
neither accounting nor cgroups, so nothing confines a job to what it asked for. Made for Debian's packages, as root.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = {"munged": "munge", "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client"}
ETC = Path("/etc/slurm")  # where Debian's Slurm looks: the job step drops SLURM_CONF before it calls srun
CPUS, MEMORY_MB, GPUS = 6, 64_000, 2  # what the node claims to have; a machine of any size will do
UP_SECONDS, DOWN_SECONDS = 30, 20  # each takes about one

CONF = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={directory}/munge/sock
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc={directory}/jobcomp.txt
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} Gres=gpu:{gpus}
PartitionName=cpu Nodes={host} Default=YES MaxTime=2-00:00:00
PartitionName=gpu Nodes={host} MaxTime=7-00:00:00
"""


def missing() -> str | None:
    """Why no cluster can be brought up here; None where one can."""
    lacking = sorted({package for program, package in PACKAGES.items() if not shutil.which(program)})
    if lacking:
        return f"{', '.join(lacking)} not installed; `make slurm-packages` installs them on Debian or Ubuntu, as root"
    if os.geteuid() != 0:
        return "not root, as whom slurmd starts jobs and device nodes are made"
    for name in ("slurm.conf", "gres.conf"):
        if (ETC / name).exists():
            return f"{ETC / name} is there: this machine has a Slurm of its own"
    return None


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _configure(directory: Path) -> None:
    directory.mkdir(mode=0o755)
    for name in ("munge", "state", "spool", "dev"):
        (directory / name).mkdir(mode=0o755)
    key = directory / "munge" / "key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    host = socket.gethostname().split(".")[0]
    facts = {"cpus": CPUS, "memory_mb": MEMORY_MB, "gpus": GPUS, "ports": _free_ports(2)}
    (directory / "slurm.conf").write_text(CONF.format(directory=directory, host=host, **facts))
    lines = []
    for number in range(GPUS):
        device = directory / "dev" / f"nvidia{number}"
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))  # /dev/null by another name
        lines.append(f"Name=gpu File={device}\n")
    (directory / "gres.conf").write_text("".join(lines))


def _start(directory: Path) -> None:
    munge = {f"--{name}={directory}/munge/{name}" for name in ("pid-file", "log-file", "seed-file")}
    socket_and_key = [f"--socket={directory}/munge/sock", f"--key-file={directory}/munge/key"]
    for command in (["munged", "--force", *socket_and_key, *sorted(munge)], ["slurmctld", "-c"], ["slurmd", "-c"]):
        subprocess.run(command, check=True, capture_output=True, timeout=UP_SECONDS)
    until = time.monotonic() + UP_SECONDS
    while "idle" not in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout:
        if time.monotonic() > until:
            said = (directory / "slurmctld.log").read_text()[-2000:] + (directory / "slurmd.log").read_text()[-2000:]
            raise RuntimeError(f"Slurm was not up within {UP_SECONDS} s; it said last:\n{said}")
        time.sleep(0.2)


def _stop(directory: Path) -> None:
    """End the jobs, then the daemons by their own process ids."""
    subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=DOWN_SECONDS)
    until = time.monotonic() + DOWN_SECONDS
    while subprocess.run(["squeue", "-h"], capture_output=True, text=True).stdout and time.monotonic() < until:
        time.sleep(0.2)
    for name, pid_file in (("slurmd", "slurmd.pid"), ("slurmctld", "slurmctld.pid"), ("munged", "munge/pid-file")):
        try:
            end(int((directory / pid_file).read_text()), name)
        except (FileNotFoundError, ValueError):
            continue  # it never came up


def _comm(pid: int) -> str:
    """What the process is called; empty where there is none."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def end(pid: int, name: str) -> None:
    """Terminate process `pid` if it is called `name`; kill it if it does not heed that."""
    until = time.monotonic() + DOWN_SECONDS
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if _comm(pid) != name:
            return
        os.kill(pid, sent)
        while _comm(pid) == name and time.monotonic() < until:
            time.sleep(0.1)


@contextmanager
def cluster(directory: Path) -> Iterator[Path]:
    """A running cluster, whose directory is given; stopped at the end, its links in /etc/slurm taken away.

    `directory` is new and its path short, for the sake of munge's socket. Check `missing()` first.
    """
    _configure(directory)
    links = [ETC / "slurm.conf", ETC / "gres.conf"]
    ETC.mkdir(exist_ok=True)
    try:
        for link in links:
            if link.is_symlink():
                link.unlink()  # of a cluster that was killed: `missing` saw that it leads nowhere
            link.symlink_to(directory / link.name)
        _start(directory)
        yield directory
    finally:
        _stop(directory)
        for link in links:
            if link.is_symlink() and link.readlink().parent == directory:
                link.unlink()
        for device in (directory / "dev").iterdir():
            device.unlink()
