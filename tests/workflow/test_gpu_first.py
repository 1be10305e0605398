"""The first half hour on a GPU: parts that end, fail, hang or are killed, and what is on disk after each."""

from __future__ import annotations

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from gdpo.config.loader import load_scale
from gdpo.core.errors import UserError
from tools.gpu_first import gpu_part, gpu_plan, gpu_rows, gpu_versions
from tools.gpu_first.gpu_run import Journal, Runner, mercy, remaining
from tools.gpu_first.gpu_trainers import compared, made
from tools.offline import needs, node

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tools/gpu_first/gpu_first.py"
SIZES = ("gpu", "rehearsal")
PYTHON = sys.executable
# Counts its runs beside the result, then writes a row.
COUNTS = "import json, sys; out = sys.argv[1]; open(out + '.runs', 'a').write('x'); "
ROW = COUNTS + "json.dump({'rows': [{'value': 7}], 'machine': {'gpu': 'none'}}, open(out, 'w'))"
FAILS = COUNTS + "print('before'); raise SystemExit('no such kernel')"
SLEEPS = COUNTS + "import time; time.sleep(60)"


def part(name, code, seconds=20, **changes):
    return {"name": name, "seconds": seconds, "command": [PYTHON, "-c", code, "{out}"], **changes}


def written(tmp_path, given, **changes):
    """A file of sizes whose stages are [(name, parts)]."""
    listed = [{"name": name, "seconds": sum(one["seconds"] for one in parts), "parts": parts} for name, parts in given]
    plan = {"name": "test", "rehearsal": True, "device": "cpu", "results": "room", "call_minutes": 8, "stages": listed}
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(plan | changes))
    return path


def call(path, tmp_path, minutes=8.0, through=None, retry=()):
    plan = gpu_plan.load(path)
    return Runner(plan, path, tmp_path, minutes, list(retry)).run(through)


def runs(tmp_path, name):
    path = tmp_path / f"room/work/{name}.json.runs"
    return len(path.read_text()) if path.exists() else 0


def rows(tmp_path, name):
    with (tmp_path / "room" / name).open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A runner's project is an empty directory that asks for no packages; a part that resumes begins with a second."""
    (tmp_path / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    monkeypatch.setattr("tools.gpu_first.gpu_run.LEAST", 1)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


STAGES = [("a", [part("a1", ROW), part("a2", ROW)]), ("b", [part("b1", ROW)]), ("c", [part("c1", ROW)])]


def test_a_csv_is_there_after_every_stage_and_no_part_runs_twice(tmp_path):
    """Stopped after each of three stages: each call does one stage and leaves the earlier ones as they are."""
    path = written(tmp_path, STAGES)
    for done, stage in enumerate("abc", start=1):
        status = call(path, tmp_path, through=stage)
        assert status == (node.DONE if stage == "c" else node.UNFINISHED)
        assert len(list((tmp_path / "room").glob("?-?.csv"))) == done
        assert [row["value"] for row in rows(tmp_path, f"{done}-{stage}.csv")] == ["7"] * (2 if stage == "a" else 1)
    assert [runs(tmp_path, name) for name in ("a1", "a2", "b1", "c1")] == [1, 1, 1, 1]
    assert call(path, tmp_path) == node.DONE
    assert [runs(tmp_path, name) for name in ("a1", "a2", "b1", "c1")] == [1, 1, 1, 1]
    told = json.loads((tmp_path / "room/1-a.csv.provenance.json").read_text())
    assert told["machine"] == {"gpu": "none"} and [one["part"] for one in told["parts"]] == ["a1", "a2"]


def test_a_failure_is_recorded_and_the_next_part_runs(tmp_path):
    path = written(tmp_path, [("a", [part("a1", FAILS), part("a2", ROW)])])
    assert call(path, tmp_path) == node.FAILED
    failed, done = rows(tmp_path, "1-a.csv")
    assert (failed["part"], failed["status"], done["value"]) == ("a1", "failed", "7")
    assert failed["reason"] == "exit code 1, and no result; it said last: no such kernel"
    [ended] = Journal(tmp_path / "room/journal.jsonl").of("a1")
    assert ended["tail"] == ["before", "no such kernel"]
    assert call(path, tmp_path) == node.FAILED
    assert runs(tmp_path, "a1") == 1
    assert call(path, tmp_path, retry=["a1"]) == node.FAILED
    assert (runs(tmp_path, "a1"), runs(tmp_path, "a2")) == (2, 1)


def test_hanging_part_is_ended_with_its_children(tmp_path):
    """A part of one second that deafens itself and starts a sleeper of its own; the next part has its time still."""
    child = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); open(out + '.pid', 'w').write(str(p.pid)); "
    deaf = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    path = written(tmp_path, [("a", [part("a1", COUNTS + deaf + child + "p.wait()", 3), part("a2", ROW)])])
    started = time.monotonic()
    assert call(path, tmp_path) == node.FAILED
    assert time.monotonic() - started < 20
    hung, done = rows(tmp_path, "1-a.csv")
    assert (hung["status"], hung["reason"], done["status"]) == ("timed out", "it was ended after 3 seconds", "done")
    assert not alive(int((tmp_path / "room/work/a1.json.pid").read_text()))


def alive(pid):
    """Whether a process runs; one that has ended and waits to be asked after does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_part_that_resumes_goes_on_in_the_next_call(tmp_path):
    """One that takes its time is stopped with the call, which is no failure; the second finds what the first kept."""
    goes_on = COUNTS + "import os, time; first = os.path.getsize(out + '.runs') == 1; time.sleep(60 * first); "
    goes_on += "json.dump({'rows': [{'value': 8}]}, open(out, 'w'))"
    path = written(tmp_path, [("a", [part("a1", goes_on, 60, resumes=True)]), ("b", [part("b1", ROW)])])
    assert call(path, tmp_path, minutes=5 / 60) == node.UNFINISHED
    [row] = rows(tmp_path, "1-a.csv")
    assert (row["status"], row["reason"], runs(tmp_path, "b1")) == ("stopped", "this call's time is over", 0)
    assert call(path, tmp_path) == node.DONE
    [row] = rows(tmp_path, "1-a.csv")
    assert (row["status"], row["value"], runs(tmp_path, "a1")) == ("done", "8", 2)


def test_a_part_that_cannot_resume_waits_for_a_call_with_its_time(tmp_path, capsys):
    path = written(tmp_path, [("a", [part("a1", ROW, 60)])])
    assert call(path, tmp_path, minutes=0.5) == node.UNFINISHED
    assert runs(tmp_path, "a1") == 0
    assert "a: 1 of 1 parts remain: a1" in capsys.readouterr().err
    assert call(path, tmp_path, minutes=1.1) == node.DONE


def test_unspent_time_goes_to_later_parts(tmp_path):
    """Stages of 20 + 20 and 30 seconds; of the first, 5 of 20 are spent: its second part may take 35. Had the first
    taken 39.5, half a second was left, and the second part is not begun; the next stage has its 30 and that.
    """
    stages = [("a", [part("a1", ROW), part("a2", ROW)]), ("b", [part("b1", ROW, 30)])]
    plan = gpu_plan.load(written(tmp_path, stages))
    runner = Runner(plan, tmp_path / "sizes.yaml", tmp_path, 8, [])
    runner.journal = Journal(tmp_path / "room/journal.jsonl")
    (a, a1), (_, a2), (b, b1) = plan.parts().values()
    assert (runner.limit(a, a1), runner.limit(b, b1)) == (20, 70)
    runner.journal.add(event="end", part="a1", stage="a", status="done", seconds=5)
    assert runner.limit(a, a2) == 35
    runner.journal.entries[-1]["seconds"] = 39.5
    assert (runner.limit(a, a2), runner.limit(b, b1)) == (0.5, 30.5)
    told = {"reason": "", "rows": [], "cpu_seconds": 0.0, "given_seconds": 20}
    runner.journal.path.write_text("".join(json.dumps(entry | told) + "\n" for entry in runner.journal.entries))
    assert call(tmp_path / "sizes.yaml", tmp_path) == node.FAILED
    assert [row["status"] for row in rows(tmp_path, "1-a.csv")] == ["done", "no time"]
    assert rows(tmp_path, "2-b.csv")[0]["status"] == "done"


def test_a_runner_that_is_killed_leaves_nothing_running_and_the_next_goes_on(tmp_path):
    """SIGKILL while the second part sleeps: the next call ends the sleeper, counts its time, and begins it again."""
    sleeps_first = COUNTS + "import os, time; open(out + '.pid', 'w').write(str(os.getpid())); "
    sleeps_first += "time.sleep(60 * (os.path.getsize(out + '.runs') == 1)); json.dump({'rows': []}, open(out, 'w'))"
    path = written(tmp_path, [("a", [part("a1", ROW), part("a2", sleeps_first, 60)]), ("b", [part("b1", ROW)])])
    code = "import sys; from pathlib import Path; from tools.gpu_first import gpu_plan, gpu_run as r; "
    code += "p = Path(sys.argv[1]); r.Runner(gpu_plan.load(p), p, p.parent, 8, []).run(None)"
    runner = subprocess.Popen([PYTHON, "-c", code, str(path)], env=os.environ | {"PYTHONPATH": str(ROOT)})
    pid = tmp_path / "room/work/a2.json.pid"
    until(lambda: pid.exists() and pid.read_text())
    os.kill(runner.pid, signal.SIGKILL)
    runner.wait()
    with (tmp_path / "room/journal.jsonl").open("a") as file:
        file.write('{"event": "end", "par')  # a torn line, as a kill while it is written leaves it
    assert rows(tmp_path, "1-a.csv")[0]["part"] == "a1"  # written before the second part began
    sleeper = int(pid.read_text())
    assert call(path, tmp_path) == node.DONE
    assert not alive(sleeper)
    first, second = Journal(tmp_path / "room/journal.jsonl").of("a2")
    assert (first["status"], second["status"]) == ("killed", "done")
    assert 0 <= first["seconds"] < 60
    assert [runs(tmp_path, name) for name in ("a1", "a2", "b1")] == [1, 2, 1]


def until(condition, seconds=60):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.05)


def test_an_interrupt_is_a_stop(tmp_path):
    path = written(tmp_path, [("a", [part("a1", SLEEPS, 60)])])
    command = [PYTHON, str(SCRIPT), "run", "--sizes", str(path)]
    path.write_text(path.read_text().replace("results: room", f"results: {os.path.relpath(tmp_path / 'room', ROOT)}"))
    runner = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    until(lambda: runs(tmp_path, "a1"))
    runner.send_signal(signal.SIGTERM)
    said = runner.communicate(timeout=60)[1]
    assert runner.returncode == node.UNFINISHED, said
    assert "a1 stopped" in said and "1 of 1 parts remain: a1" in said


def test_a_csv_that_a_kill_left_behind_is_mended_and_one_that_is_whole_is_left_alone(tmp_path):
    """Left behind: no CSV, or one that is older than what the journal says. A later call's provenance is not theirs."""
    path, made = written(tmp_path, STAGES), tmp_path / "room/1-a.csv"
    told = made.with_name("1-a.csv.provenance.json")
    call(path, tmp_path, through="a")
    before = told.stat().st_mtime_ns
    call(path, tmp_path, through="b")
    assert told.stat().st_mtime_ns == before
    made.unlink()
    call(path, tmp_path, through="a")
    assert len(rows(tmp_path, "1-a.csv")) == 2
    made.write_text("part\n")
    os.utime(told, (1, 1))
    call(path, tmp_path, through="a")
    assert len(rows(tmp_path, "1-a.csv")) == 2


def test_two_calls_at_once_are_refused(tmp_path):
    path = written(tmp_path, STAGES)
    runner = Runner(gpu_plan.load(path), path, tmp_path, 8, [])
    with runner._alone(), pytest.raises(UserError, match="found another call at work there, expected none"):
        call(path, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"results": 3}, r"sizes\.yaml, results: .*found 3"),
        ({"stages": []}, r"sizes\.yaml, stages: .*at least 1"),
        ({"call_minute": 8}, r"sizes\.yaml, call_minute: unknown key; did you mean 'call_minutes'"),
    ],
)
def test_a_wrong_file_of_sizes_is_one_sentence(tmp_path, change, says):
    with pytest.raises(UserError, match=says):
        gpu_plan.load(written(tmp_path, STAGES, **change))


def test_misspelt_argument_is_one_sentence(tmp_path):
    for words, says in [
        (
            ["--sizes", str(tmp_path / "none.yaml")],
            "none.yaml: no such file; expected a file of sizes, such as those in",
        ),
        (["--rehearse", "--through", "rowz"], "--through rowz: expected one of trainers, shapes, rows, sizes, collect"),
    ]:
        done = subprocess.run([PYTHON, str(SCRIPT), "run", *words], capture_output=True, text=True)
        assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_parts_must_fit_their_stage_and_differ_in_name(tmp_path):
    stages = [{"name": "a", "seconds": 30, "parts": [part("a1", ROW), part("a2", ROW)]}]
    with pytest.raises(UserError, match="expected parts of at most 30 seconds together, found 40"):
        gpu_plan.load(written(tmp_path, STAGES, stages=stages))
    with pytest.raises(UserError, match="expected parts of different names, found 'a1' twice"):
        gpu_plan.load(written(tmp_path, [("a", [part("a1", ROW)]), ("b", [part("a1", ROW)])]))


def test_a_misspelt_part_is_named(tmp_path):
    with pytest.raises(UserError, match="--retry a3: expected one of a1, a2, b1, c1"):
        call(written(tmp_path, STAGES), tmp_path, retry=["a3"])
    path = written(tmp_path, [("a", [{"name": "a1", "seconds": 5, "does": "shape"}])])
    with pytest.raises(UserError, match=r"a1\.does: found 'shape', expected one of machine, "):
        gpu_part.run(gpu_plan.load(path), "a1")


def test_the_half_hour_is_as_it_was_planned():
    plan = gpu_plan.load(gpu_plan.SIZES / "gpu.yaml")
    assert [(stage.name, stage.seconds / 60) for stage in plan.stages] == [
        ("trainers", 3), ("shapes", 5), ("rows", 10), ("sizes", 4), ("collect", 1),
    ]  # fmt: skip
    assert plan.call_minutes == 8
    assert max(part.seconds for _, part in plan.parts().values() if not part.resumes) < 480


def test_the_rehearsal_differs_in_sizes_alone():
    """The same stages, and in each the same functions by the same launchers, as often or, of seeds, less often."""
    whole, small = (gpu_plan.load(gpu_plan.SIZES / f"{name}.yaml") for name in SIZES)
    for one, other in zip(whole.stages, small.stages, strict=True):
        assert one.name == other.name
        kinds = [[(part.does, part.launcher, part.resumes) for part in stage.parts] for stage in (one, other)]
        assert list(dict.fromkeys(kinds[0])) == list(dict.fromkeys(kinds[1]))
        assert {part.name for part in other.parts} <= {part.name for part in one.parts}
        for part in other.parts:
            same = next(each for each in one.parts if each.name == part.name)
            assert set(part.given) <= {*same.given, "threads"}
    assert all(load_scale(name) for plan in (whole, small) for name in plan.scales)


@pytest.mark.parametrize("name", SIZES)
def test_every_part_is_told_what_it_takes(name):
    """A misspelt or missing argument would else be found on the GPU, after its stage began."""
    for _, one in gpu_plan.load(gpu_plan.SIZES / f"{name}.yaml").parts().values():
        function = getattr(import_module(f"tools.gpu_first.{gpu_part.DOES[one.does]}"), one.does)
        inspect.signature(function).bind(None, None, **one.given)


def test_without_a_gpu_a_part_ends_in_a_sentence(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match=r"device: torch \S+ sees no GPU, expected one"):
        gpu_part.run(gpu_plan.load(gpu_plan.SIZES / "gpu.yaml"), "full-sft")


def test_collected_files_hold_no_weights(tmp_path):
    """Of what a call left, all but the work directory, in which models are, the lock and earlier archives."""
    path = written(tmp_path, [("a", [part("a1", ROW)])])
    call(path, tmp_path)
    for name in ("work/model.safetensors", "back/results-1.tar.gz"):
        (tmp_path / "room" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "room" / name).write_text("x")
    [archive] = gpu_rows.archived(gpu_plan.load(path), tmp_path, tmp_path / "out", 1, 15)
    with tarfile.open(archive) as tar:
        names = sorted(name.removeprefix("room/") for name in tar.getnames())
    assert names == ["1-a.csv", "1-a.csv.provenance.json", "journal.jsonl", "logs/a1.log", "parts.csv"]


def test_groups_of_the_trainers_are_distinct_and_the_gold_response_is_best():
    groups = made("micro", 16, 4)
    assert len({group.id for group in groups}) == 16
    for group in groups:
        assert len(set(group.completions)) == 4
        assert group.rewards.index(max(group.rewards)) == 0 and len(set(group.rewards)) == 4


def told_by(losses, norms):
    log = [{"loss": loss, "grad_norm": norm} for loss, norm in zip(losses, norms, strict=True)]
    return {"log": log, "steps": len(log), "train_loss": 1.0, "seconds": 1.0, "device": "cpu"}


def test_a_difference_beyond_a_bound_is_found():
    """Losses 1, 2 against 1, 2.01: 0.01 apart; norms 4, 5 against 4, 4: a quarter more."""
    found = compared("sft", "x", told_by([1, 2.01], [4, 5]), told_by([1, 2], [4, 4]), {"loss": 0.02, "grad_norm": 0.3})
    assert found["loss_difference"] == pytest.approx(0.01) and found["grad_norm_difference"] == pytest.approx(0.25)
    assert found["within"] is True
    for bounds in ({"loss": 0.005, "grad_norm": 0.3}, {"loss": 0.02, "grad_norm": 0.2}):
        assert compared("sft", "x", told_by([1, 2.01], [4, 5]), told_by([1, 2], [4, 4]), bounds)["within"] is False
    with pytest.raises(UserError, match="sft: found a step without a gradient"):
        compared("sft", "x", told_by([1], [0]), told_by([1], [0]), {"loss": 1, "grad_norm": 1})


def test_versions_are_read_where_it_runs(tmp_path):
    found = gpu_versions.versions(ROOT)
    assert found["numpy"]["version"] == __import__("numpy").__version__
    assert all(one["fits"] and not one["carried"] for one in found.values())
    # Alone, as it travels: without this project and without any package on its path.
    alone = subprocess.run([PYTHON, "-I", gpu_versions.__file__], capture_output=True, text=True, check=True)
    path = tmp_path / "have.txt"
    path.write_text(alone.stdout)
    assert needs.pins(path)["numpy"] == found["numpy"]["version"]


def test_reserved_time_is_a_fifth_and_at_most_ten_seconds():
    assert (mercy(20), mercy(100)) == (4, 10)


def test_remaining_time_is_printed_before_anything_ran(tmp_path):
    plan = gpu_plan.load(written(tmp_path, STAGES))
    said = remaining(plan, Journal(tmp_path / "journal.jsonl"))
    assert said.splitlines()[:2] == ["0 seconds of 80 are spent", "a: 2 of 2 parts remain: a1, a2"]


@pytest.mark.long
def test_a_part_of_the_rehearsal_trains(tmp_path):
    """The float64 reference and float32 beside it, at the rehearsal's size: all four trainers, within the bounds."""
    plan = yaml.safe_load((gpu_plan.SIZES / "rehearsal.yaml").read_text())
    plan["results"] = os.path.relpath(tmp_path / "room", ROOT)
    plan["stages"] = [plan["stages"][0] | {"parts": plan["stages"][0]["parts"][1:3], "seconds": 1200}]
    for one in plan["stages"][0]["parts"]:
        one["seconds"] = 300
    path = tmp_path / "sizes.yaml"
    path.write_text(yaml.safe_dump(plan))
    done = subprocess.run(
        [PYTHON, str(SCRIPT), "run", "--sizes", str(path), "--minutes", "30"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == node.DONE, done.stderr
    found = {(row["part"], row["trainer"]): row for row in rows(tmp_path, "1-trainers.csv")}
    assert len(found) == 8
    assert all(row["within"] == "True" for (name, _), row in found.items() if name == "float32")
    assert any(float(row["loss_difference"]) > 0 for (name, _), row in found.items() if name == "float32")
