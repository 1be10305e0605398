"""What tests of whole workflows share: a copy of the checkout, and a `gdpo` that keeps a journal of what ran (ours)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = "results/table2.csv"
SECONDS = 1200  # ours: a stage takes one to two minutes on two idle cores; what takes this long hangs

GDPO = """\
#!/bin/sh
# Writes down what is called, holds back a step STEP while hold-STEP is there, and fails the first to take fail-STEP.
echo "begin $(date +%s.%N) $*" >> {here}/journal
while [ -e {here}/hold-$1 ]; do sleep 0.2; done
if rm {here}/fail-$1 2>/dev/null; then
  for log; do :; done
  echo "the test made this fail" >> "$log"
  exit 1
fi
{gdpo} "$@" || exit
echo "end $(date +%s.%N) $*" >> {here}/journal
"""


@dataclass(frozen=True)
class Entry:
    """A line of the journal: a call of `gdpo` that began or ended, when (seconds), and its arguments."""

    what: str
    at: float
    arguments: str


def expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def parse_journal(text: str) -> list[Entry]:
    """The whole lines of a journal."""
    lines = (line.split(" ", 2) for line in text.splitlines(keepends=True) if line.endswith("\n"))
    return [Entry(what, float(at), arguments.rstrip("\n")) for what, at, arguments in lines]


class Rig:
    """A copy of the checkout in `here`, and calls in it."""

    def __init__(self, here: Path):
        self.here, self.project = here, here / "project"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        for name in filter(None, subprocess.check_output(listed, cwd=ROOT, text=True).split("\0")):
            if (ROOT / name).is_file():
                (self.project / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.project / name)
        tools = Path(sys.executable).parent
        (here / "bin").mkdir()
        (here / "bin" / "gdpo").write_text(GDPO.format(here=here, gdpo=tools / "gdpo"))
        (here / "bin" / "gdpo").chmod(0o755)
        path = os.pathsep.join([str(here / "bin"), str(tools), os.environ["PATH"]])
        self.environment = {**os.environ, "PATH": path, "PYTHONPATH": str(self.project)}

    def call(self, *command: str) -> subprocess.CompletedProcess:
        """Python with these arguments, in the copy."""
        given = {"cwd": self.project, "env": self.environment, "capture_output": True, "text": True}
        return subprocess.run([sys.executable, *command], timeout=SECONDS, **given)

    def locally(self, scale: str) -> Path:
        """Where the table was made on this machine, undisturbed, in a directory of its own."""
        into = self.here / "local"
        where = ["--cores", "2", "--directory", str(into)]
        done = self.call("-m", "snakemake", *where, TABLE, "--config", f"scale={self.project / scale}")
        expect(done.returncode == 0, f"the undisturbed run failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        (self.here / "journal").rename(into / "journal")
        return into

    def journal(self) -> list[Entry]:
        """What ran so far."""
        path = self.here / "journal"
        return parse_journal(path.read_text()) if path.exists() else []

    def began(self, step: str) -> int:
        """How many calls of a step began."""
        return sum(each.what == "begin" and each.arguments.startswith(f"{step} ") for each in self.journal())


def attempted(name: str, run: Callable[[Path], None]) -> int:
    """The exit code of `run`, given a directory of its own, which stays where what it expects is not so."""
    start = time.monotonic()
    here = Path(tempfile.mkdtemp(prefix=f"{name}-")).resolve()
    try:
        run(here)
    except AssertionError as error:
        print(f"{name} failed: {error}\nwhat it made is in {here}", file=sys.stderr)
        return 1
    shutil.rmtree(here)
    print(f"{name} passed in {(time.monotonic() - start) / 60:.1f} minutes")
    return 0
