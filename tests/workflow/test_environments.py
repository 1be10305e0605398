"""Locks, conda's files, pyproject.toml and the imports of gdpo agree, and rules use the environments.

A stand-in answers in conda's place; what it is asked is Snakemake's own.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from gdpo.cli import main as cli
from gdpo.config.loader import load_scale
from gdpo.core import extras
from gdpo.runtime import vllm_environment
from tools import environments
from tools.offline.needs import declared

ROOT = Path(__file__).resolve().parents[2]
NAMES = list(environments.LOCKS)
# What begins in vLLM's environment, and what these import where they need it.
SAMPLING = [
    "cli.main", "config.loader", "runtime.vllm_environment", "metakl.steps", "metakl.answer", "metakl.contamination",
    "teach.steps", "models.sampling", "models.sampling_vllm", "models.endpoint", "models.openai_client",
    "models.sentence_encoder", "evaluate.steps", "evaluate.harness", "evaluate.vllm", "grading.grade",
    "grading.safety_judge",
]  # fmt: skip


def locked(name: str) -> dict[str, Version]:
    """Package -> its version in the lock of an environment."""
    text = (ROOT / "envs" / environments.LOCKS[name]).read_text()
    pairs = (pin.split("==") for pin in environments.pins(text))
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def required(*extras: str) -> list[Requirement]:
    """The requirements of the base install with these extras."""
    return [Requirement(line) for line in declared(ROOT, extras)]


def distributions(*extras: str) -> set[str]:
    return {canonicalize_name(requirement.name) for requirement in required(*extras)}


@pytest.mark.parametrize("name", NAMES)
def test_conda_environment_equals_its_lock(name):
    text = (ROOT / "envs" / f"{name}.yaml").read_text()
    assert text == environments.environment(name), "run `make lock`, or tools/environments.py alone"
    content = yaml.safe_load(text)
    assert content["name"] == name
    *conda, pip = content["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert {canonicalize_name(p.split("==")[0]): Version(p.split("==")[1]) for p in pip["pip"]} == locked(name)
    assert not any("/" in pin or "+" in pin for pin in pip["pip"])  # no local version, which only one machine has


def test_lock_meets_all_extras():
    pins = locked("gdpo")
    for requirement in required("all", "test"):
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement


def test_vllm_lock_meets_all_bounds_of_its_steps_except_transformers():
    """Where vLLM's own bounds hold; whatever the package asks for, and these steps import, has the package's bound."""
    pins = locked("vllm")
    lines = (ROOT / "envs" / "vllm.in").read_text().splitlines()
    needed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in needed:
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), requirement
    shared = [r for r in required("all") if canonicalize_name(r.name) in {canonicalize_name(n.name) for n in needed}]
    unmet = {r.name for r in shared if not r.specifier.contains(pins[canonicalize_name(r.name)])}
    assert unmet == {"transformers"}
    assert pins["transformers"] >= Version("5.19")


def module(name: str) -> Path | None:
    found = [
        ROOT / "gdpo" / Path(*name.split(".")[1:], "__init__.py"),
        ROOT / Path(*name.split(".")).with_suffix(".py"),
    ]
    return next((path for path in found if path.exists()), None)


def imported(path: Path) -> tuple[set[str], set[str]]:
    """The names that a module imports when it is imported, and all that it imports, those for type checkers aside."""
    tree = ast.parse(path.read_text())
    late = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
    typing = {
        id(n)
        for i in ast.walk(tree)
        if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test)
        for n in ast.walk(i)
    }
    at_once, all_names = set(), set()
    for node in ast.walk(tree):
        if id(node) in typing or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names = {node.module} | {f"{node.module}.{name}" for name in names}
        all_names |= names
        at_once |= names if id(node) not in late else set()
    return at_once, all_names


def third_party(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"gdpo", *sys.stdlib_module_names}


def reached(*names: str) -> set[str]:
    """Every package that these modules of gdpo, and those that they import at once, import anywhere."""
    todo, seen, packages = list(names), set(), set()
    assert all(map(module, todo)), "a module has moved"
    while todo:
        name = todo.pop()
        path = module(name) if name not in seen else None
        if path is None:
            continue
        seen.add(name)
        at_once, all_names = imported(path)
        todo += [n for n in at_once if n.split(".")[0] == "gdpo"]
        packages |= third_party(all_names)
    return packages


def test_vllm_lock_has_what_its_steps_import():
    packages = reached(*(f"gdpo.{name}" for name in SAMPLING))
    assert {"torch", "transformers", "lm_eval", "math_verify"} <= packages
    assert packages.isdisjoint({"trl", "peft", "snakemake", "matplotlib"})
    assert {package for package in packages if not names_of(package) & set(locked("vllm"))} == set()


# --- what is imported is declared: in the base install, or in the extra of the room


def names_of(package: str) -> set[str]:
    """What pip calls a package that is imported by this name."""
    return {canonicalize_name(name) for name in packages_distributions().get(package, [package])}


def modules_of(room: str) -> list[Path]:
    return sorted((ROOT / "gdpo" / room).rglob("*.py"))


def test_every_room_has_its_extra():
    rooms = {path.parent.name for path in (ROOT / "gdpo").glob("*/__init__.py")}
    assert rooms == {*extras.ROOMS, "trainer"}
    assert set(extras.ROOMS.values()) <= set(extras.EXTRAS)


@pytest.mark.parametrize("room", [*extras.ROOMS, "trainer"])
def test_imports_of_a_room_are_declared(room):
    """vLLM has an environment of its own; docs/running-elsewhere/environments.md says why it is in no extra."""
    have = distributions(*([extras.ROOMS[room]] if room in extras.ROOMS else []))
    undeclared = {
        f"{path.relative_to(ROOT)}: {package}"
        for path in modules_of(room)
        for package in third_party(imported(path)[1]) - {"vllm"}
        if not names_of(package) & have
    }
    assert undeclared == set()


def test_imports_of_the_logger_plugin_are_declared():
    [path] = (ROOT / "snakemake_logger_plugin_gdpo").glob("*.py")
    assert all(names_of(package) & distributions("workflow") for package in third_party(imported(path)[1]))


def test_trainer_imports_the_base_install_alone():
    """With all modules of core that it imports: so no pydantic, no TRL, no Snakemake."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules_of("trainer")]
    packages = reached("gdpo.core.terminal", *(name.removesuffix(".__init__") for name in names))
    assert {package for package in packages if not names_of(package) & distributions()} == set()


def test_table_of_packages_agrees_with_pyproject():
    """Each package is in the extras that the table says, which state it themselves or include one that does."""
    base = distributions()
    for package, having in extras.PACKAGES.items():
        [name] = {n for n in names_of(package) if n in distributions("all")}
        stated = {extra for extra in extras.EXTRAS if name in distributions(extra) - base}
        if "workflow" in stated:
            assert having == ("workflow",), package
        else:
            assert having == tuple(sorted(stated)), package
    told = {name for package in extras.PACKAGES for name in names_of(package)}
    assert distributions("all") - base - told == {"snakemake-executor-plugin-slurm"}  # which Snakemake alone imports


# --- which environment a step runs in, without conda


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """vLLM's environment, with a command that is only written down; the scale micro, whose models all sample by it."""
    calls = []
    command = tmp_path / "gdpo"
    command.touch()
    monkeypatch.setattr(vllm_environment, "VLLM", command)
    monkeypatch.setattr(vllm_environment, "find_spec", lambda name: None)
    monkeypatch.setattr(os, "execv", lambda path, arguments: calls.append((path, arguments)))
    scale = load_scale("micro")
    models = {name: model.model_copy(update={"engine": "vllm"}) for name, model in scale.models.items()}
    return scale.model_copy(update={"models": models}), calls


CELL = ["--student", "tiny-s", "--trainset", "union", "--method", "sft", "--seeds", "0"]


@pytest.mark.parametrize(
    ("line", "moves"),
    [
        (["evaluate", *CELL], True),
        (["metakl", "answer", "--model", "tiny-s"], True),
        (["teach", "respond", "--trainset", "union"], True),
        (["train", *CELL], False),
        (["drift", *CELL], False),
        (["metakl", "merge"], False),
        (["teach", "reward", "--trainset", "union"], False),
    ],
)
def test_step_that_samples_with_vllm_enters_its_environment(elsewhere, monkeypatch, line, moves):
    scale, calls = elsewhere
    monkeypatch.setattr(sys, "argv", ["gdpo", *line])
    arguments = cli.parser().parse_args(line)
    arguments.prepare(scale, arguments)
    assert calls == ([(vllm_environment.VLLM, [str(vllm_environment.VLLM), *line])] if moves else [])


@pytest.mark.parametrize("here", ["engine", "package", "nothing", "there"])
def test_step_stays_where_vllm_is_not_needed_or_not_installed(elsewhere, monkeypatch, here):
    """Models of transformers, an environment that has vLLM, none at all, and vLLM's own without vLLM: half made."""
    scale, calls = elsewhere
    if here == "engine":
        scale = load_scale("micro")
    if here == "package":
        monkeypatch.setattr(vllm_environment, "find_spec", lambda name: object())
    if here == "nothing":
        vllm_environment.VLLM.unlink()
    if here == "there":
        monkeypatch.setattr(sys, "prefix", str(vllm_environment.VLLM.parents[1]))
    vllm_environment.enter(scale, "tiny-s")
    assert calls == []


# --- conda, by a stand-in

CONDA = """#!/usr/bin/env bash
# Makes environments whose python installs nothing but a gdpo that says where it is, and then is the real one.
echo "conda $*" >> "{log}"
case "$1 $2" in
  "info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
  "config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  "env create")
    while [ $# -gt 0 ]; do case "$1" in --prefix) P="$2" ;; --file) F="$2" ;; esac; shift; done
    mkdir -p "$P/bin"
    printf '#!/usr/bin/env bash\\necho "python $*" >> "{log}"\\ncp "{gdpo}" "%s/bin/gdpo"\\n' "$P" > "$P/bin/python"
    chmod +x "$P/bin/python" ;;
  *) echo "conda 25.1.0" ;;
esac
"""


@pytest.fixture
def conda(tmp_path):
    """A function that runs Snakemake with the stand-in, in a directory of its own, and what the stand-in was told."""
    base, log = tmp_path / "base", tmp_path / "log"
    (base / "bin").mkdir(parents=True)
    gdpo = tmp_path / "gdpo"
    gdpo.write_text(f'#!/usr/bin/env bash\necho "gdpo of $(basename "$(dirname "$(dirname "$0")")")" >> "{log}"\n'
                    f'exec "{Path(sys.executable).parent}/gdpo" "$@"\n')  # fmt: skip
    gdpo.chmod(0o755)
    (base / "bin" / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    (base / "bin" / "conda").write_text(CONDA.format(log=log, base=base, gdpo=gdpo))
    (base / "bin" / "conda").chmod(0o755)
    path = os.pathsep.join([str(base / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])

    def snakemake(*arguments):
        command = ["snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(tmp_path / "run"), *arguments]
        given = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr, log.read_text().splitlines() if log.exists() else []

    return snakemake


def test_conda_makes_the_environments_of_the_engines(conda, tmp_path):
    """Of a scale whose teacher samples with vLLM both; otherwise the one."""
    made = re.compile(r"Conda environment \S*envs/(\w+)\.yaml will be created")
    target = ["-n", "results/{0}/groups/union.jsonl", "--sdm", "conda", "--config"]
    said, _ = conda(*[part.format("micro") for part in target], "scale=micro")
    assert set(made.findall(said)) == {"gdpo"}
    teacher = load_scale("micro").respond.teacher
    own = {"scale": "own", "extends": "micro", "models": {teacher: {"engine": "vllm"}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    said, _ = conda(*[part.format("own") for part in target], f"scale={tmp_path / 'own.yaml'}")
    assert set(made.findall(said)) == {"gdpo", "vllm"}


def test_job_runs_in_conda_environment_with_this_checkout(conda):
    _, told = conda("--cores", "1", "results/audit.csv", "--sdm", "conda", "--config", "scale=micro")
    [created] = [line for line in told if line.startswith("conda env create")]
    prefix = re.search(r"--prefix (\S+)", created)[1]
    [installed] = [line for line in told if line.startswith("python -m pip install")]
    assert installed.endswith(f"--no-deps --editable {ROOT}")
    assert told.count(f"gdpo of {Path(prefix).name}") == 1
