"""What `make chaos` draws, sees and refuses, and, slowly, a run of it with fewer kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections import Counter
from pathlib import Path

import pytest

from tools.rigs import chaos, chaos_checks, processes
from tools.rigs.rig import Entry, parse_journal

pytestmark = pytest.mark.unmeasured

ROOT = Path(__file__).resolve().parents[2]
STAGES = ["pretraining", "data", "training sft", "training grpo", "tables"]
TRAIN = "train --scale micro --student tiny-s --trainset union --method sft --seeds 0 --log results/logs/t.log"
LOG = """\
[Mon Nov 23 02:54:49 2026]
rule train:
    output: results/runs/a
    log: results/logs/t.log
    jobid: 27
    wildcards: method=sft

[Mon Nov 23 02:54:50 2026]
rule model:
    log: results/logs/m.log (check log file(s) for error details)
    jobid: 3

Finished jobid: 27 (Rule: train)
"""


def test_kills_are_spread_over_all_stages_and_a_seed_draws_the_same_ones():
    drawn = chaos.draw(STAGES, 12, 3)
    assert drawn == chaos.draw(STAGES, 12, 3) != chaos.draw(STAGES, 12, 4)
    counts = Counter(kill.stage for kill in drawn)
    assert set(counts) == set(STAGES) and set(counts.values()) == {2, 3} and sum(counts.values()) == 12
    assert list(dict.fromkeys(kill.stage for kill in drawn)) == STAGES


def test_only_trainings_that_write_checkpoints_are_killed_at_one():
    drawn = [kill for seed in range(20) for kill in chaos.draw(STAGES, 20, seed)]
    at_checkpoints = {kill.stage for kill in drawn if "checkpoint" in kill.moment}
    assert at_checkpoints == {"training sft"}
    assert {kill.victim for kill in drawn if kill.moment == "half checkpoint"} == {"gdpo"}


def test_a_call_s_stage_and_its_short_name():
    assert chaos.stage_of(TRAIN) == "training sft"
    assert chaos.stage_of("metakl merge --scale micro --log l") == "data"
    assert chaos.short(TRAIN) == "train tiny-s union sft"


def test_a_journal_whose_last_line_is_torn():
    assert parse_journal("begin 1.5 a b\nend 4.0 a b\nbegin 5") == [
        Entry("begin", 1.5, "a b"),
        Entry("end", 4.0, "a b"),
    ]


def test_durations():
    entries = [Entry("begin", 1.5, "a"), Entry("begin", 2.0, "b"), Entry("end", 4.0, "a")]
    assert chaos.durations(entries) == {"a": 2.5}


@pytest.mark.parametrize(
    ("command", "kind", "step"),
    [
        (("/bin/sh", "/x/bin/gdpo", "train", "--log", "l"), "shell", "train --log l"),
        (("/usr/bin/bash", "-c", "set -euo pipefail; gdpo train"), "shell", ""),
        (("/x/python", "/x/bin/gdpo", "train", "--log", "l"), "gdpo", "train --log l"),
        (("/x/python", "-c", "from gdpo.grading.math_worker import serve; serve(5)"), "child", ""),
    ],
)
def test_processes_by_their_command_lines(command, kind, step):
    found = processes.Process(1, processes.kind_of(command), command)
    assert (found.kind, found.step) == (kind, step)


def test_two_processes_at_one_step_are_seen_and_a_process_with_its_child_is_not():
    """A child has its parent's command line until it runs its own program."""
    step = ("python", "/x/gdpo", "train")
    one, two, child = (processes.Process(pid, "gdpo", step, parent) for pid, parent in [(7, 1), (8, 1), (9, 8)])
    other = processes.Process(10, "gdpo", ("python", "/x/gdpo", "model"), 1)
    assert processes.beside_itself([two, child, other]) == {}
    assert processes.beside_itself([one, child, two]) == {"train": [7, 8]}
    assert processes.beside_itself([one, child]) == {"train": [7, 9]}


def test_processes_working_in_a_directory(tmp_path):
    gdpo = tmp_path / "gdpo"
    gdpo.write_text("import time; print(flush=True); time.sleep(60)")
    waits = [sys.executable, str(gdpo), "train"]
    with subprocess.Popen(waits, cwd=tmp_path, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert [(each.pid, each.step, each.parent) for each in processes.at_work(tmp_path)] == [
            (process.pid, "train", os.getpid())
        ]
        assert processes.at_work(tmp_path / "elsewhere") == []
        assert [each.kind for each in processes.tree(os.getpid()) if each.pid == process.pid] == ["gdpo"]
        process.kill()


def write(directory: Path, **files: str) -> Path:
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def test_only_finished_files_that_depend_on_settings_alone_are_compared(tmp_path):
    calm = write(tmp_path / "calm", results__a="1", results__b="2", results__only="3")
    killed = write(tmp_path / "killed", results__a="1", results__b="half", results__logs__x="x", results__work__y="y")
    (killed / "results/.b.7.partial").write_text("half")
    (killed / "results/b.provenance.json").write_text("seconds")
    assert chaos_checks.differing(killed, calm) == (2, [Path("results/b")])
    assert chaos_checks.Findings().missing(killed, calm) == [Path("results/only")]


def test_a_checkpoint_is_whole_with_the_whole_of_its_last_file(tmp_path):
    below = tmp_path / "results/micro/work/train/abc/checkpoints"
    for step, state in [(50, '{"global_step": 50}'), (100, '{"global_'), (150, None)]:
        (below / f"checkpoint-{step}").mkdir(parents=True)
        if state:
            (below / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert [path.name for path in chaos_checks.whole_saved(tmp_path)] == ["checkpoint-50"]
    assert sorted(path.name for path in chaos_checks.half_saved(tmp_path)) == ["checkpoint-100", "checkpoint-150"]


def records(directory: Path, kind: str, **contents: str) -> None:
    for name, text in contents.items():
        path = directory / ".snakemake" / kind / urlsafe_b64encode(name.encode()).decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_outputs_recorded_as_done_by_snakemake(tmp_path):
    """Of two outputs of one job one is still marked: it is not done. Nor is a job that failed, which has a record, but
    no output. A torn record counts for nothing."""
    called = {name: json.dumps({"shellcmd": f"gdpo {step} --log {step}.log"}) for name, step in
              [("a", "model"), ("b", "train"), ("c", "train"), ("f", "table")]}  # fmt: skip
    write(tmp_path, a="", b="", c="")
    records(tmp_path, "metadata", **called, d='{"shell')
    records(tmp_path, "incomplete", c="{}")
    assert chaos_checks.done(tmp_path) == ({"model --log model.log"}, 1)


def test_long_names_of_outputs_are_spread_over_directories():
    assert chaos_checks._name(Path("/x/metadata/@cmVzdW/x0cy9h")) == "results/a"


def test_a_job_is_told_to_have_finished_by_its_log():
    assert chaos_checks.said_finished(LOG) == {"results/logs/t.log"}


def test_violations_are_named(tmp_path):
    findings = chaos_checks.Findings(recorded={TRAIN}, half={"results/work/checkpoint-100"})
    findings.check_again(["model --log m.log"])
    with pytest.raises(AssertionError, match="recorded as done, but run again: train"):
        findings.check_again([TRAIN])
    assert findings.check_resumed("Resuming from results/work/checkpoint-50\n") == ["checkpoint-50"]
    with pytest.raises(AssertionError, match="checkpoint-100: read, though half-written"):
        findings.check_resumed("Resuming from results/work/checkpoint-100\n")
    with pytest.raises(AssertionError, match=r"told to have finished, but not recorded: results/logs/t\.log"):
        findings.note(tmp_path, LOG, True)


@pytest.mark.long
def test_table_2_with_kills():
    """What it checks is in the script; here, that it did."""
    script = ROOT / "tools" / "rigs" / "chaos.py"
    done = subprocess.run([sys.executable, script, "--kills", "5"], capture_output=True, text=True)
    if "chaos skipped" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kill 5/5: " in done.stdout
    assert "results/table2.csv, _retention and _forgetting are byte for byte the undisturbed run's" in done.stdout
