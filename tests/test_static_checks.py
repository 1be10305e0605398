"""The chosen lints of Snakemake (`make lint`) and the look-up of known vulnerabilities (`make audit`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools import snakemake_lint, vulnerabilities

ROOT = Path(__file__).resolve().parents[1]
CLEAN = """\
rule one:
    output:
        "out/{name}.txt",
    log:
        "logs/{name}.log",
    conda:
        "env.yaml"
    params:
        text="a",
    shell:
        "echo {params.text} > {output} 2> {log}"
"""


def lint(directory: Path, snakefile: str, **others: str) -> subprocess.CompletedProcess:
    """The lints on a Snakefile, with other files beside it."""
    for name, text in {"Snakefile": snakefile, **others}.items():
        (directory / name).write_text(text)
    command = [sys.executable, ROOT / "tools/snakemake_lint.py"]
    return subprocess.run(command, capture_output=True, text=True, cwd=directory)


def test_lints_left_out_do_not_fail(tmp_path):
    """A function beside rules (looked for where there are several files), a variable that is set, text in a shell."""
    beside = CLEAN.replace("rule one", "def two(): pass\n\n\nrule two").replace("out/", "in/")
    text = 'import os\n\nos.environ["SET"] = "1"\nTEXT = "b"\n\n\ninclude: "two.smk"\n\n\n'
    done = lint(tmp_path, text + CLEAN.replace("params.text", "TEXT"), **{"two.smk": beside})
    assert done.returncode == 0, done.stderr
    assert "Congratulations" in done.stdout + done.stderr


WRONG = {
    "No log directive defined": ('    log:\n        "logs/{name}.log",\n', ""),
    "Specify a conda environment": ('    conda:\n        "env.yaml"\n', ""),
    'Absolute path "/data/models/x" in line 5': ('"a"', '"/data/models/x"'),
    "Do not access input and output files individually by index": ("{output} 2> {log}", "{output[0]}"),
}


def test_chosen_lints_fail(tmp_path):
    snakefile = CLEAN
    for was, becomes in WRONG.values():
        assert was in snakefile
        snakefile = snakefile.replace(was, becomes)
    done = lint(tmp_path, snakefile)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [title for title in WRONG if title not in done.stderr] == []


def test_lints_left_out_exist_in_snakemake():
    assert all(callable(getattr(linter, name)) for linter, name in snakemake_lint.LEFT_OUT)


# --- known vulnerabilities: pip-audit by a stand-in, whose answers are in the form of the real one's

FLAW = {"id": "PYSEC-1-1", "aliases": ["CVE-1-1"], "fix_versions": ["2.1", "3.0"], "description": "text\nof two lines"}
PIP_AUDIT = """\
#!{python}
import json, sys
from pathlib import Path
assert {{"--no-deps", "--disable-pip"}} <= set(sys.argv), "would install the lock"
known = json.loads(Path(r"{known}").read_text())
pins = [line.split("==") for line in Path(sys.argv[-1]).read_text().split()]
if isinstance(known, int) or any(known.get(name) == "breaks" for name, _ in pins):
    print("a warning\\nno route to host", file=sys.stderr)
    sys.exit(known if isinstance(known, int) else 1)
said = [{{"name": name, "version": version, "vulns": known.get(name, [])}} for name, version in pins]
print(json.dumps({{"dependencies": said, "fixes": []}}))
"""


@pytest.fixture
def audit(tmp_path, capsys):
    """A function that audits locks of a and b, given what the service knows: its exit code, and what it printed."""

    def run(known, accepted="{}"):
        tool, answers = tmp_path / "pip-audit", tmp_path / "known.json"
        tool.write_text(PIP_AUDIT.format(python=sys.executable, known=answers))
        tool.chmod(0o755)
        answers.write_text(json.dumps(known))
        for name in "ab":
            (tmp_path / f"{name}.lock").write_text(f"{name}==2.0\nboth==1.5\n")
        (tmp_path / "accepted.yaml").write_text(accepted)
        where = ["--tool", str(tool), "--accepted", str(tmp_path / "accepted.yaml")]
        code = vulnerabilities.main([*where, "--locks", str(tmp_path / "a.lock"), str(tmp_path / "b.lock")])
        told = capsys.readouterr()
        return code, told.out.splitlines(), told.err.splitlines()

    return run


def test_audit_passes_clean_locks(audit):
    code, out, err = audit({"idna": [FLAW]})
    assert (code, err) == (0, [])
    assert out == ["audit passed: nothing found in 2 pins of a.lock, 2 pins of b.lock; accepted: none"]


def test_audit_fails_with_each_vulnerable_pin_and_its_lock(audit):
    code, out, err = audit({"idna": [FLAW], "a": [FLAW], "both": [FLAW | {"id": "GHSA-2", "fix_versions": []}]})
    assert code == 1
    assert err == [
        "a.lock: a 2.0: PYSEC-1-1, CVE-1-1; fixed in 2.1, 3.0: text of two lines",
        "a.lock: both 1.5: GHSA-2, CVE-1-1; not fixed in any: text of two lines",
        "b.lock: both 1.5: GHSA-2, CVE-1-1; not fixed in any: text of two lines",
    ]
    assert out == ["audit failed: 3 found in 2 pins of a.lock, 2 pins of b.lock; accepted: none"]


def test_audit_accepts_any_alias_and_names_stale_entries(audit):
    known = {"idna": [FLAW], "a": [FLAW]}
    code, out, err = audit(known, "CVE-1-1: nothing here parses it\nCVE-9: long gone\n")
    assert code == 0
    assert out[0].endswith("accepted: CVE-1-1")
    assert err == ["accepted.yaml: CVE-9 is no longer found; take it out"]


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (1, "audit skipped: pip-audit got no answer: no route to host"),
        ({}, f"audit skipped: {vulnerabilities.OSV} knows no vulnerability of idna==3.6, which has one"),
    ],
    ids=["unreachable", "knows nothing"],
)
def test_audit_is_skipped_without_a_service_that_knows(audit, known, said):
    """One that answers and knows nothing is a mirror without vulnerabilities, before which every lock looks clean."""
    assert audit(known) == (0, [], [said])


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (2, "audit: found a pip-audit that does not fit, expected pip-audit>=2.10,<3: no route to host"),
        (
            {"idna": [FLAW], "b": "breaks"},
            "audit: b.lock was not looked up, though {osv} answered before: pip-audit got no answer: no route to host",
        ),
    ],
    ids=["options", "midway"],
)
def test_audit_fails_where_it_stops_midway(audit, known, said):
    assert audit(known) == (2, [], [said.format(osv=vulnerabilities.OSV)])


@pytest.mark.parametrize(
    ("accepted", "said"),
    [
        ("- CVE-1\n", "found a list, expected lines ID: REASON, or {}"),
        ("CVE-1:\n", "CVE-1: found None, expected the reason why it is let pass"),
        ("CVE-1: ' '\n", "CVE-1: found ' ', expected the reason why it is let pass"),
        ("CVE-1: a\nCVE-1: b\n", "'CVE-1' a second time"),
    ],
)
def test_accepted_entries_need_a_reason(audit, accepted, said):
    code, out, [sentence] = audit({"idna": [FLAW]}, accepted)
    assert (code, out) == (2, [])
    assert "accepted.yaml" in sentence and said in sentence


def test_accepted_file_is_valid():
    assert isinstance(vulnerabilities.accepted(vulnerabilities.ACCEPTED), dict)


def test_audit_is_skipped_without_pip_audit(tmp_path, monkeypatch, capsys):
    def offline(command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
        said = "WARNING: retrying\nERROR: No matching distribution\n"
        return subprocess.CompletedProcess(command, int("pip" in command), "", said)

    monkeypatch.setattr(vulnerabilities.subprocess, "run", offline)
    monkeypatch.setattr(vulnerabilities, "ROOT", tmp_path)
    assert vulnerabilities.main([]) == 0
    told = capsys.readouterr()
    said = f"audit skipped: {vulnerabilities.TOOL} cannot be installed: ERROR: No matching distribution\n"
    assert (told.out, told.err) == ("", said)
