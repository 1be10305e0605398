"""The workflow on a terminal and without one: `--logger gdpo`, Ctrl-C, and what `make` says, on a small Snakefile."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.screen import Screen, rendered

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = """
rule table:
    input:
        expand("made/{student}.txt", student=["first", "second"]),
    output:
        "results/table2.csv",
    log:
        "logs/table.log",
    shell:
        "touch {output}"


rule evaluate_origin_test:
    output:
        "made/{student}.txt",
    log:
        "logs/{student}.log",
    shell:
        "python step.py {wildcards.student} {log} {output}"
"""
# It tells how far it is and waits for a file that a test makes; noise is what libraries say.
STEP = """
import sys, time
from pathlib import Path
from gdpo.core import progress, terminal
student, log, output = sys.argv[1:]
print("noise of", student, file=sys.stderr, flush=True)
terminal.redirect(Path(log))
while not Path(f"go-{student}").exists():
    progress.report(120, 200, "answers")
    time.sleep(0.05)
Path(output).touch()
"""
LOG = re.compile(r"\.snakemake/log/\S+\.snakemake\.log")
SECONDS = re.compile(r"\d+ s\b")


@pytest.fixture
def project(tmp_path):
    """A small workflow beside the real Makefile, whose environment counts as installed."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "step.py").write_text(STEP)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for made in ("pyproject.toml", "envs/cpu.lock", ".venv/.installed"):  # in this order, the last the newest
        path = tmp_path / made
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


@pytest.fixture
def environment(monkeypatch):
    """Snakemake and gdpo of this checkout, and a terminal with colours."""
    for name in ("NO_COLOR", "GDPO_AGAIN", "MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}


def told(lines: list[str]) -> list[str]:
    """What a screen shows, without what differs between calls: times, and the log's name."""
    text = SECONDS.sub("N s", LOG.sub("LOG", "\n".join(lines)))
    return [line for line in text.splitlines() if line]


def go(project: Path) -> None:
    """Let the steps end."""
    for student in ("first", "second"):
        (project / f"go-{student}").touch()


def both_run(lines: list[str]) -> bool:
    return sum("120 of 200 answers" in line for line in lines) == 2


SNAKEMAKE = ["snakemake", "--logger", "gdpo", "--cores", "2", "--rerun-incomplete"]
MAKE = ["make", "table2", "SCALE=micro"]


@pytest.mark.parametrize(
    ("command", "code", "again"),
    [(SNAKEMAKE, 130, " ".join(SNAKEMAKE)), (MAKE, -signal.SIGINT, " ".join(MAKE))],
    ids=["snakemake", "make"],
)
def test_ctrl_c_ends_in_one_sentence_and_the_same_command_goes_on(project, environment, command, code, again):
    """Make ends by the signal itself, which a shell calls 130, too."""
    screen = Screen(command, project, environment)
    middle = told(screen.until(both_run))
    assert sorted(middle) == sorted(
        [
            "3 steps to do; what else is said: LOG",
            "step 2 of 3",
            "  evaluating first, untrained   120 of 200 answers  N s",
            "  evaluating second, untrained  120 of 200 answers  N s",
        ]
    )
    screen.press("\x03")
    ended, lines = screen.end()
    assert ended == code
    shown = told(lines)
    assert shown == [
        "3 steps to do; what else is said: LOG",
        f"Stopped; all that was finished is kept, and this goes on from there: {again}",
    ]
    log = (project / LOG.search("\n".join(lines))[0]).read_text()
    assert "noise of first" in log and "noise of second" in log and "SNAKEMAKE" in log

    go(project)
    _, lines = Screen(again.split(), project, environment).end()
    assert "3 steps done in N s" in told(lines)
    assert (project / "results/table2.csv").exists()
    assert not list(project.glob("logs/*.progress"))


def test_without_a_terminal_there_are_plain_lines_alone(project, environment):
    go(project)
    done = subprocess.run(
        SNAKEMAKE, cwd=project, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", done.stderr)
    shown = told(done.stderr.splitlines())
    assert shown[0] == "3 steps to do; what else is said: LOG"
    assert sorted(re.sub("^. of 3", "", line) for line in shown[1:3]) == [
        "  evaluating first, untrained, N s",
        "  evaluating second, untrained, N s",
    ]
    assert shown[3:] == ["3 of 3  table, N s", "3 steps done in N s"]
    again = subprocess.run(SNAKEMAKE, cwd=project, env=environment, capture_output=True, text=True)
    assert again.stderr == "nothing to do: all that was asked for is made\n"


def test_a_signal_to_all_of_a_run_without_a_terminal_ends_in_the_sentence(project, environment):
    """The command that goes on is the user's own where it was told, as by make."""
    given = {**environment, "GDPO_AGAIN": "make table2 SCALE=micro"}
    process = subprocess.Popen(
        SNAKEMAKE, cwd=project, env=given, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stderr.readline().startswith("3 steps to do")
    while len(list(project.glob("logs/*.progress"))) < 2:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait() == 130
    assert rest == "Stopped; all that was finished is kept, and this goes on from there: make table2 SCALE=micro\n"


def test_ctrl_c_while_snakemake_is_imported_ends_in_the_sentence_too(project, environment):
    """An import of Snakemake's that waits in its place."""
    (project / "snakemake").mkdir()
    (project / "snakemake/__init__.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    screen = Screen(MAKE, project, environment)
    screen.until(lambda lines: lines == ["importing", ""])
    screen.press("\x03")
    code, lines = screen.end()
    assert code == -signal.SIGINT
    assert [line.removeprefix("^C") for line in lines if line][1:] == [
        "Stopped; all that was finished is kept, and this goes on from there: make table2 SCALE=micro"
    ]


def test_a_dry_run_and_an_unknown_target_say_what_snakemake_says(project, environment):
    plain = subprocess.run(["snakemake", "-n"], cwd=project, env=environment, capture_output=True, text=True)
    ours = subprocess.run([*SNAKEMAKE, "-n"], cwd=project, env=environment, capture_output=True, text=True)
    assert "evaluate_origin_test" in plain.stdout
    steps = [re.sub(r"\[\w{3} \w{3} .*\]", "", done.stdout.partition("Building DAG")[2]) for done in (plain, ours)]
    words = [sorted(re.findall(r"[\w/.]+", text)) for text in steps]  # whose order among equals is by chance
    assert words[0] == words[1] and len(words[0]) > 100
    unknown = subprocess.run([*SNAKEMAKE, "nothing.csv"], cwd=project, env=environment, capture_output=True, text=True)
    assert unknown.returncode == 1
    assert "No rule to produce nothing.csv" in unknown.stderr


def test_job_error_is_repeated_once_at_the_end(tmp_path, environment):
    """The real workflow: its first step finds no mirror."""
    command = [*SNAKEMAKE, "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path), "results/smol/pool.jsonl"]
    command += ["--config", "scale=smol", f"mirror={tmp_path / 'nowhere'}"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    failed, summary, sentence = done.stderr.splitlines()[1:]
    assert re.match(r"failed  gathering the question pool, \d+ s; its log: results/smol/logs/sources\.log", failed)
    assert summary.startswith("1 step failed, 0 of 1 are done")
    assert sentence.startswith("gdpo: ") and "nowhere" in sentence
    assert done.stderr.count(sentence) == 1


def make(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, **environment}
    return subprocess.run(["make", *arguments], cwd=project, env=given, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("scale=micro", "expected SCALE"),
        ("Limit=16", "expected LIMIT"),
        ("mirror=/data", "expected MIRROR"),
        ("SCLAE=micro", "expected one of SCALE LIMIT MIRROR PYTHON KILLS SEED ARGS UPGRADE"),
    ],
)
def test_a_misspelt_variable_is_refused_before_anything_is_made(project, given, expected):
    done = make(project, "table2", given)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith(f"*** {given}: found variable '{given.split('=')[0]}', {expected}.  Stop.")
    assert not (project / ".snakemake").exists()


def test_variables_that_are_spelt_right_reach_the_workflow(project):
    done = make(project, "-n", "table2", "SCALE=micro", "LIMIT=16", "MIRROR=/data")
    assert "results/table2.csv --config scale=micro limit=16 mirror='/data'" in done.stdout
    assert "gdpo show --scale micro --limit 16 --name table2" in done.stdout
    assert "results/table2.csv --config scale=smol ||" in make(project, "-n", "table2", SCALE="smol").stdout


def test_help_has_a_line_for_each_target_and_is_what_make_says_alone(project):
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    shown = make(project).stdout
    assert shown == make(project, "help").stdout
    lines = dict(re.findall(r"^  (\S+) +(\S.*)$", shown, re.MULTILINE))
    assert sorted(lines) == sorted(phony)
    assert lines["table2"] == "table 2 from nothing, printed"


def test_clean_says_what_it_deletes_and_keeps_what_is_dear(project):
    deleted = [
        "results/micro/a",
        "results/micro-limit16/a",
        "results/tiny/a",
        "results/table2.csv",
        "results/table2.tex",
    ]
    deleted += ["results/table2.csv.provenance.json", "paper/report.pdf", "paper/figures/a", ".snakemake/log/a"]
    kept = ["results/reference/tiny/cost.csv", "results/smol/a", "results/tiny-mine/a", "paper/report.typ"]
    kept += ["workflow/config/sweep/tiny.csv", ".venv/a", ".venv-vllm/a", ".venv-docs/a", ".cache/wheels/a"]
    for path in (*deleted, *kept):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).touch()
    done = make(project, "clean")
    deletes, keeps = done.stdout.splitlines()
    assert deletes.startswith("deletes: results/micro results/micro-limit* results/tiny ")
    assert keeps == (
        "keeps:   results/reference, results of other scales, shipped models, workflow/config/sweep, "
        ".venv .venv-vllm .venv-docs .cache"
    )
    assert [path for path in deleted if (project / path).exists()] == []
    assert [path for path in kept if not (project / path).exists()] == []
    done = make(project, "distclean")
    assert done.stdout.splitlines()[2] == "deletes: .venv .venv-vllm .venv-docs .cache"
    assert [path for path in kept if not (project / path).exists()] == [path for path in kept if path.startswith(".")]


def test_the_screen_of_these_tests_draws_what_a_terminal_would():
    assert rendered("a\r\nbc\r\x1b[2K\x1b[1A\x1b[2Kd\r\ne\x1b[0m\x1b[?25l") == ["d", "e"]
    assert rendered("abc\rx\x1b[K") == ["x"]
