"""A canary key through every step that may meet one: in no file, output or log, whole, in part or encoded.

It is the endpoint's key and the Hub's token, the password of every address that may have one, and what the server
repeats in replies and errors.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from gdpo.core.redaction import MASK, MIN_KEY_LENGTH, masked, scrubbed
from tests.fault_server import CANARY, FaultServer

pytestmark = pytest.mark.outcome("key nowhere")
ROOT = Path(__file__).resolve().parents[2]
NOWHERE = f"http://user:{CANARY}@127.0.0.1:9"  # where nobody listens
QUESTION = {"id": "a", "domain": "math", "source": "chain2", "question": "q?", "answer": "1", "grader": "exact"}
SKILLS = [{"id": "a", "skills": {"add_one": "x", "add_two": "y"}}]
ECHO = json.dumps({"a_skill": f"the key is {CANARY}, {CANARY[3:17]}, {base64.b64encode(CANARY.encode()).decode()}"})
RUN = "--student tiny-s --trainset none --method origin --seeds 0"


def forms(key: str) -> list[bytes]:
    """Any SECRET characters of the key, its last ten, and what base64 makes of those at each place of three bytes."""
    part = key[-10:].encode()
    inner = [base64.b64encode(b"\0" * n + part)[(8 * n + 5) // 6 : 8 * (n + len(part)) // 6] for n in range(3)]
    pieces = [key[at : at + MIN_KEY_LENGTH].encode() for at in range(len(key) - MIN_KEY_LENGTH + 1)]
    return [part, *pieces, quote(key, safe="").encode(), *inner]


def lines(*rows: dict) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def write_scale(directory: Path, url: str) -> None:
    asked = {"base_url": url, "model": "m", "key": "CANARY_KEY", "attempts": 2, "backoff": 0.01, "max_tokens": 200}
    text = {
        "extends": "micro",
        "scale": "own",
        "annotate": {"backend": "openai", "endpoint": asked},
        "merge": {"backend": "openai", "endpoint": asked},
        "models": {
            "asked": {"display": "A", "endpoint": asked},
            "hub": {"display": "H", "reference": "hub:owner/name@main"},
            "wheel": {"display": "W", "reference": f"wheel:gdpo-no-such==1#sha256={'0' * 64}"},
        },
        "respond": {"teacher": "asked"},
    }
    (directory / "own.yaml").write_text(yaml.safe_dump(text))
    results = directory / "results" / "own"
    for name in ("decontaminated.jsonl", "trainsets/metakl.jsonl"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text(lines(QUESTION))
    (results / "skills.jsonl").write_text(lines(*SKILLS))


def environment(directory: Path) -> dict[str, str]:
    names = ("CANARY_KEY", "OPENAI_API_KEY", "HF_TOKEN")
    # The Hub's client waits between attempts where nobody listens; a test need not.
    return {
        **os.environ, **dict.fromkeys(names, CANARY), "PIP_INDEX_URL": f"{NOWHERE}/simple?key={CANARY}",
        "PIP_RETRIES": "0", "HF_ENDPOINT": NOWHERE, "HF_HOME": str(directory / "hub"), "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip


def called(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """The command done in `directory`, after a look for the key in all that it said and wrote."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=directory,
                          env=environment(directory))  # fmt: skip
    found = {"output": (done.stdout + done.stderr).encode()}
    found |= {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert not [(name, form) for name, text in found.items() for form in forms(CANARY) if form in text]
    return done


STEPS = {
    "annotate": "metakl annotate",
    "merge": "metakl merge",
    "answer": "metakl answer --model asked",
    "respond": "teach respond --trainset metakl",
}


KINDS = {"annotate": ("ok", "400", "401", "500", "not json"), "merge": ("ok", "400"), "answer": ("ok", "500"),
         "respond": ("ok", "400")}  # fmt: skip


@pytest.mark.parametrize(("step", "kind"), [(STEPS[name], kind) for name in STEPS for kind in KINDS[name]])
def test_no_step_that_asks_an_endpoint_keeps_its_key(step, kind, tmp_path):
    with FaultServer(lambda body, number: ECHO, lambda body, seen: kind) as server:
        write_scale(tmp_path, server.url)
        command = [*step.split(), "--scale", "own.yaml", "--log", "results/own/logs/step.log"]
        done = called(tmp_path, "-m", "gdpo.cli", *command)
    assert server.keys == {f"Bearer {CANARY}"}  # it was asked with the key
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr
    assert (tmp_path / "results/own/logs/step.log").read_text()


OTHERS = {
    "doctor": ("doctor", (0, 1)),
    "doctor, of smol": ("doctor --scale smol", (1,)),
    "a model of the Hub": ("model --name hub", (2,)),
    "a model in a wheel": ("model --name wheel", (2,)),
    "data sets of the Hub": ("metakl sources --scale smol", (2,)),
    "verify": ("verify results/table2.csv", (2,)),  # a table that was never made
    "provenance of the data": ("benchmark", (0,)),
    "summary": ("summary", (0,)),
}


@pytest.mark.parametrize(("step", "codes"), OTHERS.values(), ids=OTHERS)
def test_no_other_step_tells_a_token_or_a_password(step, codes, tmp_path, student):
    write_scale(tmp_path, "http://127.0.0.1:9/v1")
    (tmp_path / "results/own/models").mkdir()
    (tmp_path / "results/own/models/tiny-s").symlink_to(student)
    chosen = [] if "--scale" in step else ["--scale", "own.yaml"]
    done = called(tmp_path, "-m", "gdpo.cli", *step.split(), *chosen)
    assert done.returncode in codes, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_nor_does_an_evaluation(tmp_path, student):
    write_scale(tmp_path, "http://127.0.0.1:9/v1")
    (tmp_path / "results/own-limit1/models").mkdir(parents=True)
    (tmp_path / "results/own-limit1/models/tiny-s").symlink_to(student)
    for step in ("benchmark", f"evaluate {RUN}"):
        done = called(tmp_path, "-m", "gdpo.cli", *step.split(), "--scale", "own.yaml", "--limit", "1")
        assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results/own-limit1/scores").rglob("*.json"))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["ok", "500"])
def test_snakemake_prints_and_logs_no_key(kind, tmp_path):
    """From nothing to the skills, with -p, which prints each command; all below .snakemake is looked into, too."""
    with FaultServer(lambda body, number: '{"a_skill": "why"}', lambda body, seen: kind) as server:
        write_scale(tmp_path, server.url)
        for path in (tmp_path / "results").rglob("*.jsonl"):
            path.unlink()
        snakemake = ["-m", "snakemake", "-p", "-s", str(ROOT / "Snakefile"), "--cores", "1"]
        asked = ["results/own/skills.jsonl", "--config", "scale=own.yaml", "limit=2"]
        done = called(tmp_path, *snakemake, asked[0].replace("own", "own-limit2"), *asked[1:])
    assert (done.returncode == 0) == (kind == "ok")
    assert "gdpo metakl annotate" in done.stdout + done.stderr and server.keys == {f"Bearer {CANARY}"}


def test_a_plan_tells_no_key(tmp_path):
    write_scale(tmp_path, "http://127.0.0.1:9/v1")
    done = called(tmp_path, "-m", "gdpo.cli", "plan", "--scale", "own.yaml", "--target", "table1", "--out", "plan")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr


@pytest.mark.parametrize("where", [f"http://x/v1?key={CANARY}", f"http://user:{CANARY}@x/v1", f"ftp://{CANARY}"])
def test_a_key_in_an_address_is_refused_and_not_shown(where, tmp_path):
    write_scale(tmp_path, where)
    done = called_elsewhere(tmp_path)
    assert done.returncode == 2 and "endpoint.base_url: " in done.stderr


def called_elsewhere(directory: Path) -> subprocess.CompletedProcess[str]:
    """From a directory beside that of the scale, which itself has the key."""
    (directory / "beside").mkdir()
    return called(directory / "beside", "-m", "gdpo.cli", "metakl", "annotate", "--scale", "../own.yaml")


CRASH = f"""
import logging
from gdpo.core.terminal import install_redaction
install_redaction()
logging.getLogger("library").warning("asking %s", "{NOWHERE}")
logging.getLogger("library").warning("%d is no number", "{CANARY}")
try:
    raise ValueError("answered {CANARY}")
except ValueError:
    logging.getLogger("library").exception("asked")
raise RuntimeError("sent {CANARY}")
"""


def test_neither_a_librarys_log_nor_a_crash_tells_a_key(tmp_path):
    done = called(tmp_path, "-c", CRASH)
    assert done.returncode == 1 and f"asking http://{MASK}@127" in done.stderr
    assert f"RuntimeError: sent {MASK}" in done.stderr and f"ValueError: answered {MASK}" in done.stderr
    assert "'%d is no number', which its arguments do not fit" in done.stderr


# The scrubber


@pytest.mark.parametrize(
    "said", [CANARY, CANARY[2:16], base64.b64encode(f"user:{CANARY}".encode()).decode(), f"<{CANARY}{CANARY}>"]
)  # fmt: skip
def test_what_repeats_a_key_is_masked(said):
    found = masked(f"before {said} behind", CANARY)
    assert not [form for form in forms(CANARY) if form in found.encode()]
    assert MASK in found and found.startswith("before ") and found.endswith(" behind")


@pytest.mark.parametrize("text", ["nothing of it", "sk-canary", "a short key: none", "", "canary-5f3 a9c0b7e"])
def test_what_does_not_is_left(text):
    assert masked(text, CANARY) == text


def test_a_short_key_is_no_secret():
    assert masked("none of the none", "none") == "none of the none"


def test_addresses_and_variables_are_scrubbed(tmp_path, monkeypatch):
    monkeypatch.setenv("OWN_TOKEN", CANARY)
    assert scrubbed(f"https://me:p@w@h/p?api_key=abc&x=1 {CANARY}") == "https://***@h/p?api_key=***&x=1 ***"
    file = tmp_path / "key.pem"  # a file that a variable names is no key, which would mask all paths beside it
    monkeypatch.setenv("OWN_KEY", str(file))
    assert scrubbed(f"{tmp_path}/table2.csv") == f"{MASK}table2.csv"
    file.touch()
    assert scrubbed(f"{tmp_path}/table2.csv") == f"{tmp_path}/table2.csv"
