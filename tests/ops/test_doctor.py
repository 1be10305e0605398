"""`gdpo doctor`: what is missing is named with its fix, nothing hangs, and no key is shown."""

from __future__ import annotations

import http.server
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gdpo.cli.main import main
from gdpo.config.loader import load_scale
from gdpo.ops.doctor import checks, steps
from gdpo.ops.doctor.checks import Check

SECRET = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GDPO_MIRROR", "OPENAI_API_KEY", "DEEPSEEK_API_KEY", "HF_ENDPOINT", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def paper():
    return load_scale("paper")


def levels(check, scale) -> dict[str, str]:
    return {line.name: line.level for line in check(scale)}


def torch_prints(monkeypatch, text: str) -> None:
    process = subprocess.CompletedProcess([], 0, stdout=text)
    monkeypatch.setattr(checks.subprocess, "run", lambda *_, **__: process)


def test_nothing_is_missing_for_micro_and_torch_is_not_imported(here):
    code = (
        "import sys; sys.argv = ['gdpo', 'doctor', '--scale', 'micro']\n"
        "from gdpo.cli.main import main\n"
        "main()\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("doctor, scale micro: nothing that it needs is missing\n[]\n")
    assert not list(here.iterdir())


def test_exit_code_is_1_if_something_is_missing(monkeypatch, capsys, paper):
    monkeypatch.setattr(steps.checks, "network", lambda scale: iter(()))
    torch_prints(monkeypatch, "2.13.0+cpu 0")
    monkeypatch.setattr("sys.argv", ["gdpo", "doctor", "--scale", "paper"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    printed = capsys.readouterr().out
    assert "missing OPENAI_API_KEY: is not set" in printed
    assert "sees 0 of the 2" in printed


def test_keys_are_checked_and_never_shown(monkeypatch, paper):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    lines = list(checks.keys(paper))
    assert {line.name: line.level for line in lines} == {"OPENAI_API_KEY": "ok", "DEEPSEEK_API_KEY": "missing"}
    assert SECRET not in "".join(map(str, lines))


@pytest.mark.parametrize(
    ("printed", "level", "fix"),
    [
        ("2.13.0 2", "ok", ""),
        ("2.13.0 1", "missing", "docs/running-elsewhere/cluster.md"),
        ("2.13.0+cpu 0", "missing", "CUDA build"),
        ("", "missing", "make setup"),
    ],
)
def test_gpus_are_those_that_torch_counts(monkeypatch, paper, printed, level, fix):
    torch_prints(monkeypatch, printed)
    [line] = checks.gpus(paper)
    assert (line.level, fix in line.fix) == (level, True)


def test_missing_gpu_that_a_scale_can_do_without_is_a_warning(monkeypatch):
    torch_prints(monkeypatch, "2.13.0 0")
    [line] = checks.gpus(load_scale("smol"))
    assert line.level == "warning"


def test_torch_that_hangs_is_a_warning(monkeypatch, paper):
    def hang(*_, **__):
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(checks.subprocess, "run", hang)
    assert levels(checks.gpus, paper) == {"GPU": "warning"}


@pytest.mark.parametrize(("pages", "level"), [(2**30 // 4096 * 256, "ok"), (2**30 // 4096 * 255, "missing")])
def test_memory_is_compared_with_the_largest_job(monkeypatch, paper, pages, level):
    """The paper's training asks for 256 GiB, in pages of 4096 bytes."""
    monkeypatch.setattr(checks.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}.get)
    assert levels(checks.memory, paper) == {"memory": level}


@pytest.mark.parametrize(("free", "level"), [(10**15, "ok"), (10**9, "missing")])
def test_disk_is_compared_with_the_weights(monkeypatch, paper, free, level):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda _: usage)
    assert levels(checks.disk, paper) == {"disk": level}


@pytest.mark.parametrize(
    ("installed", "level", "text"),
    [
        ({}, "ok", "fit pyproject.toml and the lock"),
        ({"numpy": "1.0"}, "missing", "numpy 1.0, not >=2"),
        ({"numpy": "99.0"}, "warning", "numpy 99.0, not "),
        ({"numpy": None}, "missing", "no numpy>=2"),
    ],
)
def test_packages_are_compared_with_requirements_and_lock(monkeypatch, installed, level, text):
    locked = checks.pins(checks.LOCK.read_text())

    def version(name: str) -> str:
        there = installed.get(name, locked[checks.canonicalize_name(name)])
        if there is None:
            raise checks.PackageNotFoundError(name)
        return there

    monkeypatch.setattr(checks, "version", version)
    [line] = checks.packages(load_scale("micro"))
    assert (line.level, text in line.found) == (level, True)


def test_pins_have_canonical_names():
    assert checks.pins("# from\nLm_Eval==0.4.13\nx==1 ; python_version\n") == {"lm-eval": "0.4.13", "x": "1"}


def test_directory_without_write_permission_is_missing(monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checks.tempfile, "NamedTemporaryFile", refuse)
    assert levels(checks.directories, None) == {"results": "missing", ".cache": "missing"}


class Answer(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(int(self.path.strip("/") or 200))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "level"), [(200, "ok"), (404, "ok"), (403, "missing"), (407, "missing"), (503, "missing")]
)
def test_server_status_codes(server, status, level):
    assert checks.check_server("Hub", f"{server}/{status}", "fix").level == level


def test_server_that_is_silent_or_gone_is_missing(monkeypatch):
    """One port is bound and never answers; a free one refuses."""
    monkeypatch.setattr(checks, "NETWORK_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        check = checks.check_server("Hub", f"http://user:{SECRET}@127.0.0.1:{port}", "fix")
    gone = checks.check_server("Hub", f"http://127.0.0.1:{port}", "fix")
    assert (check.level, gone.level) == ("missing", "missing")
    assert "it does not answer in time" in check.found
    assert SECRET not in str(check)


def test_hub_is_checked_only_if_something_has_to_be_fetched(monkeypatch, here):
    asked = []
    monkeypatch.setattr(checks, "check_server", lambda name, *_: asked.append(name) or Check("ok", name, ""))
    smol = load_scale("smol")
    list(checks.network(smol))
    assert asked == ["Hub", "package index"]
    asked.clear()
    (here / "mirror").mkdir()
    (here / "mirror/manifest.json").write_text("{}")
    monkeypatch.setenv("GDPO_MIRROR", str(here / "mirror"))
    assert levels(checks.network, smol) == {"mirror": "ok", "package index": "ok"}
    monkeypatch.setenv("GDPO_MIRROR", "nowhere")
    assert levels(checks.network, smol)["mirror"] == "missing"
    assert not list(checks.network(load_scale("micro")))


def test_lock_of_snakemake_is_a_warning(here):
    assert levels(checks.lock, None) == {"Snakemake's lock": "ok"}
    Path(".snakemake/locks").mkdir(parents=True)
    Path(".snakemake/locks/0.output.lock").touch()
    [line] = checks.lock(None)
    assert (line.level, "--unlock" in line.fix) == ("warning", True)


def test_missing_commands_and_environments(monkeypatch, here, paper):
    monkeypatch.setattr(checks.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(checks, "find_spec", lambda _: None)
    monkeypatch.setattr(checks, "VLLM", here / "gdpo")
    assert levels(checks.commands, paper) == {"snakemake": "missing", "git": "warning"}
    assert levels(checks.slurm, paper) == {"Slurm": "missing"}
    assert levels(checks.vllm, paper) == {"vLLM": "missing"}
    assert levels(checks.vllm, load_scale("micro")) == {}


def test_check_that_hangs_or_fails_stops_no_other():
    def hangs(_):
        yield time.sleep(60)

    def fails(_):
        raise RuntimeError("broken\nmachine")

    def fine(_):
        yield Check("ok", "fine", "it is")

    lines = steps.run_checks([hangs, fails, fine], None, 0.2)
    assert [(line.level, line.found) for line in lines] == [
        ("warning", "did not answer in time"),
        ("warning", "could not be checked: broken"),
        ("ok", "it is"),
    ]
