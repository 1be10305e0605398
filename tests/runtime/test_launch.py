"""`gdpo train` starts as many processes as the scale's `launch` says, and what they say and return passes through."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import fields

import psutil
import pytest
import yaml

from gdpo.config.resources import Launch
from gdpo.core.project import CONFIG
from gdpo.core.records import write_records
from gdpo.runtime.launch import LAUNCHED, PORT, accelerated, across_nodes, first_host, start
from tests.refusal import refused
from tests.students.test_processes import LOSS, distance
from tests.workflow.test_invariance import PLAIN, double_student, mixed_groups

ACCELERATE = CONFIG / "accelerate"
STRATEGIES = ["ddp", "fsdp2"]
SLURM = {"SLURM_JOB_ID": "123456", "SLURM_CLUSTER_NAME": "one"}  # what Snakemake's job step leaves of a job's variables
STEP = {"SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "gpu[03-04]", PORT: "23456"}
ASKED = ["train", "--scale", "paper", "--method", "gdpo"]


def test_a_command_on_one_node():
    command = accelerated(Launch(strategy="fsdp2", processes=4), ASKED, {})
    config = ["--config_file", str(ACCELERATE / "fsdp2.yaml")]
    assert command == [
        "accelerate", "launch", *config, "--num_processes", "4", "--main_process_port", "0",
        "--module", "gdpo.cli", *ASKED,
    ]  # fmt: skip


def test_a_command_on_several_nodes():
    """Two nodes of four: eight processes, of which this node, the second, starts four."""
    launch = Launch(processes=4, nodes=2)
    command = accelerated(launch, ASKED, STEP)
    config = ["--config_file", str(ACCELERATE / "ddp-nodes.yaml")]
    assert command == [
        "accelerate", "launch", *config, "--num_processes", "8", "--num_machines", "2", "--machine_rank", "1",
        "--main_process_ip", "gpu03", "--main_process_port", "23456", "--module", "gdpo.cli", *ASKED,
    ]  # fmt: skip
    for missing in ("SLURM_NODEID", "SLURM_STEP_NODELIST"):
        with refused(key="launch.nodes", expected="SLURM_NODEID and SLURM_STEP_NODELIST"):
            accelerated(launch, ASKED, {key: value for key, value in STEP.items() if key != missing})


def test_srun_command_starts_one_launcher_per_node():
    """Job 123456 meets at port 20000 + 123456 mod 10000 of its first node."""
    command, port = across_nodes(Launch(processes=4, nodes=2), ASKED, SLURM)
    assert port == 23456
    assert command == [
        "srun", "--overlap", "--nodes", "2", "--ntasks", "2", "--ntasks-per-node=1", "--cpu-bind=none",
        "--kill-on-bad-exit=1", sys.executable, "-m", "gdpo.cli", *ASKED,
    ]  # fmt: skip
    with refused(key="launch.nodes", found="none", expected="a Slurm job of 2 nodes"):
        across_nodes(Launch(nodes=2), ASKED, {})
    with refused(key="launch.nodes", found="one of 2", expected="a Slurm job of 3 nodes"):
        across_nodes(Launch(nodes=3), ASKED, SLURM | {"SLURM_JOB_NUM_NODES": "2"})


@pytest.mark.parametrize(
    ("nodelist", "first"),
    [
        ("gpu[03-05,09],big1", "gpu03"),
        ("big1,gpu[03-05]", "big1"),
        ("node7", "node7"),
        ("r[2-3]n[10-12]", "r2n10"),
        ("a-1.cluster.org,a-2.cluster.org", "a-1.cluster.org"),
    ],
)
def test_first_host(nodelist, first):
    assert first_host(nodelist) == first


def test_a_list_without_hosts_is_refused():
    with refused(key="launch.nodes", found="','", expected="hosts in SLURM_STEP_NODELIST"):
        first_host(",")


def test_wrong_number_of_processes_is_refused(monkeypatch):
    """A launcher that starts one process in silence leaves WORLD_SIZE unset, which counts as one."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert start(Launch(), ASKED, {}) is None
    with refused(key="launch", found=1, expected="2 processes"):
        start(Launch(processes=2), ASKED, {LAUNCHED: "1"})
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert start(Launch(processes=2), ASKED, {LAUNCHED: "1"}) is None
    assert start(Launch(), ASKED, {}) is None  # by hand
    with refused(key="launch", found=2, expected="8 processes"):
        start(Launch(processes=4, nodes=2), ASKED, {})


@pytest.mark.parametrize("name", [f"{strategy}{nodes}" for strategy in STRATEGIES for nodes in ("", "-nodes")])
def test_accelerate_knows_every_key(name, monkeypatch):
    """Its own classes read the file and take each field; its launcher hands all of it on to torchrun's processes."""
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    path = ACCELERATE / f"{name}.yaml"
    assert "untested on GPUs" in path.read_text().split("compute_environment")[0]
    config = load_config_from_file(str(path))
    assert config.distributed_type == (DistributedType.FSDP if "fsdp2" in name else DistributedType.MULTI_GPU)
    assert config.num_machines == (2 if name.endswith("nodes") else 1)
    parser = launch_command_parser()
    for key in config.fsdp_config:
        assert f"--{key}" in parser._option_string_actions, key
    environ = STEP if name.endswith("nodes") else {}
    launch = Launch(strategy=name.removesuffix("-nodes"), processes=3, nodes=2 if environ else 1)
    arguments, _, _ = _validate_launch_command(parser.parse_args(accelerated(launch, ["train"], environ)[2:]))
    assert arguments.use_fsdp or arguments.multi_gpu  # else one process is started, in silence
    handed = prepare_multi_gpu_env(arguments)
    assert arguments.nproc_per_node == "3"
    if "fsdp2" not in name:
        return
    for key, value in handed.items():
        if key.startswith("FSDP_"):
            monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and plugin.reshard_after_forward is True
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"
    assert "SHARDED" in str(plugin.state_dict_type)
    assert not (plugin.cpu_ram_efficient_loading or plugin.activation_checkpointing)
    known = {field.name for field in fields(FullyShardedDataParallelPlugin)} | {"offload_params", "version"}
    assert {key.removeprefix("fsdp_") for key in config.fsdp_config} - {"version"} <= known


def scale(directory, base, launch) -> None:
    """A scale of one imported set and one fetched student, whose runs are started as `launch` says."""
    raw = yaml.safe_load((CONFIG / "tiny.yaml").read_text())
    raw |= {"scale": "several", "launch": launch}
    raw["models"]["random"] = {"display": "random", "reference": f"dir:{base}", "dtype": "float64"}
    imported = {"display": "mixed", "select": "import", "domain": "math", "size": 22, "paths": ["groups.jsonl"]}
    raw["trainsets"]["mixed"] = imported
    raw["methods"]["gdpo"] = PLAIN
    raw["methods"]["sft"] = {k: v for k, v in PLAIN.items() if k != "objective"} | {"trainer": "sft"}
    directory.mkdir()
    (directory / "several.yaml").write_text(yaml.safe_dump(raw))
    root = directory / "results" / "several"
    write_records(root / "groups" / "mixed.jsonl", mixed_groups())
    (root / "models").mkdir(parents=True)
    (root / "models" / "random").symlink_to(base)


def command(directory, *methods, start_new_session=False, **environ):
    """Start `gdpo train` of `methods` in `directory`, as a rule of the workflow does."""
    line = ["train", "--scale", "several.yaml", "--student", "random", "--trainset", "mixed", "--method", *methods]
    return subprocess.Popen(
        [sys.executable, "-m", "gdpo.cli", *line, "--seeds", "0", "--log", "train.log"], cwd=directory,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environ},
        start_new_session=start_new_session,
    )  # fmt: skip


def finished(process) -> str:
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def told(directory, name):
    return json.loads((directory / "results/several/runs/random/mixed" / name / "0" / "train.json").read_text())


@pytest.fixture(scope="module")
def base(student, tmp_path_factory):
    path = double_student(student, tmp_path_factory.mktemp("base") / "base")
    (path / "provenance.json").write_text(json.dumps({"config_hash": "h"}))
    return path


@pytest.fixture(scope="module")
def alone(base, tmp_path_factory):
    directory = tmp_path_factory.mktemp("launch") / "one"
    scale(directory, base, {})
    assert finished(command(directory, "gdpo", "sft")).count("train random") == 2
    return directory


def same(directory, alone, name) -> None:
    one, other = told(alone, name), told(directory, name)
    assert (one["processes"], other["processes"]) == (1, 2)
    pairs = zip(one["log"], other["log"], strict=True)
    assert len(one["log"]) == 6 and max(abs(x["loss"] - y["loss"]) for x, y in pairs) <= LOSS
    paths = [where / "results/several/runs/random/mixed" / name / "0" for where in (alone, directory)]
    assert distance(*paths) <= (1e-10 if name == "gdpo" else 1e-7)


@pytest.mark.long
def test_the_command_starts_two_processes(base, alone, tmp_path):
    """The rule's command, on a scale that says so; with the log of each process in its own file."""
    directory = tmp_path / "two"
    scale(directory, base, {"processes": 2})
    said = finished(command(directory, "gdpo", "sft"))
    assert said.count("train random") == 2 and len(said.strip().splitlines()) == 2, said
    assert {path.name for path in directory.glob("train.log*")} == {"train.log", "train.log.1"}
    for name in ("gdpo", "sft"):
        same(directory, alone, name)


@pytest.mark.long
def test_two_launchers_make_one_run(base, alone, tmp_path):
    """What srun starts on two nodes, here both on this one: a launcher each, of one process each."""
    directory = tmp_path / "nodes"
    scale(directory, base, {"processes": 1, "nodes": 2})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    step = {"SLURM_STEP_NODELIST": "127.0.0.1", PORT: str(port)}
    nodes = [command(directory, "gdpo", SLURM_NODEID=str(i), **step) for i in range(2)]
    said = "".join(map(finished, nodes))
    assert said.count("train random") == 1, said
    same(directory, alone, "gdpo")


@pytest.mark.long
@pytest.mark.parametrize(
    ("launch", "sentence"),
    [
        ({"processes": 3}, "gdpo: GDPO: found 8, expected a batch_size that is a multiple of the 3 processes"),
        (
            {"processes": 2, "strategy": "fsdp2"},
            "gdpo: launch.strategy: found fsdp2 where there is no GPU, expected ddp",
        ),
    ],
)
def test_user_error_of_several_processes_is_printed_once(launch, sentence, base, tmp_path):
    directory = tmp_path / "wrong"
    scale(directory, base, launch)
    process = command(directory, "gdpo")
    said, _ = process.communicate()
    assert process.returncode == 2
    assert said.strip().splitlines() == [sentence]


@pytest.mark.long
def test_an_interrupt_ends_all_processes(base, tmp_path):
    """As Ctrl-C does it, to the whole group at once, while two processes train."""
    directory = tmp_path / "interrupted"
    scale(directory, base, {"processes": 2})
    path = directory / "several.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epochs: 4000"))
    process = command(directory, "gdpo", start_new_session=True)
    while not list(directory.glob("results/several/work/train/*/checkpoints/checkpoint-*")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    started = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate()
    assert process.returncode == 130
    assert len(started) == 2 and not any(worker.is_running() for worker in started)
    assert "Traceback" not in said and "gdpo:" not in said
