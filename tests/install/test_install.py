"""The wheel in a new environment: the trainer on its own dependencies, then with one extra, then with all.

One environment grows, so that torch is installed once. Versions are those of the lock. `make install-test` prints how
many packages each install has, their size, and how long it and the imports took.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.evaluate.spelling import speller

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
NOT_COUNTED = {"gdpo", "pip", "setuptools"}
OWN = "scale: own\nextends: tiny\nseeds: [0]\n"
pytestmark = [pytest.mark.long, pytest.mark.unmeasured]


@dataclass
class Environment:
    """A virtual environment, whose commands see nothing of this checkout and of the environment of the tests."""

    path: Path
    work: Path  # the directory in which its commands run

    def run(self, command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        dropped = ("PYTHON", "COVERAGE", "GDPO", "VIRTUAL_ENV")
        given = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        given["PATH"] = f"{self.path / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        line = [self.path / "bin" / command, *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, cwd=self.work, env=given)

    def install(self, *arguments: object) -> None:
        done = self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stderr

    def python(self, code: str) -> str:
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def size(self, name: str, seconds: float) -> str:
        """What an install of this name took, in a line."""
        names = self.python("from importlib import metadata\nfor d in metadata.distributions(): print(d.name)")
        packages = {line.lower() for line in names.split()} - NOT_COUNTED
        megabytes = sum(file.lstat().st_size for file in self.path.rglob("*")) / 2**20
        timed = "import time; t = time.process_time(); {}; print(time.process_time() - t)"
        imports = [timed.format(line) for line in ("import gdpo", "from gdpo import GDPOTrainer")]
        package, trainer = (min(float(self.python(code)) for _ in range(3)) for code in imports)
        return (
            f"{name}: {len(packages)} packages, {megabytes:.0f} MiB, installed in {seconds:.0f} s; "
            f"`import gdpo` {package:.3f} s, `from gdpo import GDPOTrainer` {trainer:.1f} s of a processor"
        )


def environment(directory: Path) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    (directory / "work").mkdir()
    return Environment(directory / "venv", directory / "work")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, as `pip` builds it from the checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    reached = subprocess.run([*pip, "download", "--no-deps", "--dest", directory / "backend", "hatchling"],
                             capture_output=True, text=True)  # fmt: skip
    if reached.returncode:
        pytest.skip(f"no package index can be reached: {reached.stderr.strip().splitlines()[-1]}")
    command = [*pip, "wheel", "--no-deps", "--wheel-dir", directory, ROOT]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [path] = directory.glob("gdpo-*.whl")
    return path


@pytest.fixture(scope="module")
def base(wheel, tmp_path_factory):
    """The environment with the wheel and its dependencies."""
    found = environment(tmp_path_factory.mktemp("install"))
    start = time.monotonic()
    found.install(wheel, "--constraint", ROOT / "envs" / "cpu.lock")
    print("\n" + found.size("base", time.monotonic() - start))
    yield found
    shutil.rmtree(found.path)


def extended(base: Environment, wheel: Path, extra: str) -> Environment:
    start = time.monotonic()
    base.install(f"gdpo[{extra}] @ {wheel.as_uri()}", "--constraint", ROOT / "envs" / "cpu.lock")
    print("\n" + base.size(extra, time.monotonic() - start))
    return base


@pytest.fixture(scope="module")
def workflow(base, wheel):
    """The same environment, from here on with this extra."""
    return extended(base, wheel, "workflow")


@pytest.fixture(scope="module")
def full(workflow, wheel):
    """The same environment, from here on with all extras."""
    return extended(workflow, wheel, "all")


def tracked(*directories: str) -> set[str]:
    listed = subprocess.run(["git", "ls-files", *directories], capture_output=True, text=True, cwd=ROOT)
    return set(listed.stdout.splitlines())


def test_wheel_has_every_file_of_the_package_and_the_scales_once(wheel):
    if not (expected := tracked("gdpo", "snakemake_logger_plugin_gdpo", "workflow/config")):
        pytest.skip("this is no git checkout")
    expected = {name.replace("workflow/config/", "gdpo/_config/") for name in expected if (ROOT / name).exists()}
    found = {name for name in zipfile.ZipFile(wheel).namelist() if not re.match(r"gdpo-[^/]*\.dist-info/", name)}
    assert found == expected
    assert {"gdpo/py.typed", "gdpo/_config/tiny.yaml", "gdpo/templates/plain.jinja"} <= found


def test_editable_install_is_a_path(wheel, tmp_path):
    """Nothing is copied, and the logger plugin is found by its name on that path, as Snakemake looks for it."""
    found = environment(tmp_path)
    found.install("--no-deps", "--editable", ROOT)
    [site] = found.path.glob("lib/python*/site-packages")
    assert not (site / "gdpo").exists()
    assert [path.read_text().strip() for path in site.glob("*gdpo*.pth")] == [str(ROOT)]
    names = found.python("import pkgutil\nfor module in pkgutil.iter_modules(): print(module.name)").split()
    assert {"gdpo", "snakemake_logger_plugin_gdpo"} <= set(names)


def test_base_install_trains(base, tmp_path):
    """The example, on a random tiny Llama: `GDPOTrainer` needs nothing but its dependencies."""
    place = base.python("import gdpo; from gdpo import GDPOConfig, GDPOTrainer, gdpo_loss; print(gdpo.__file__)")
    assert Path(place.strip()).is_relative_to(base.path)
    model = speller(tmp_path / "model")
    done = base.run("python", EXAMPLES / "train_on_jsonl.py", model, EXAMPLES / "groups.jsonl", tmp_path / "trained")
    assert done.returncode == 0, done.stderr
    assert "rewards/accuracies" in done.stdout
    assert (tmp_path / "trained" / "model.safetensors").exists()
    assert base.run("python", "-m", "pip", "check").returncode == 0


def test_import_of_the_package_takes_a_tenth_of_a_second(base):
    """In processor time, which other processes do not lengthen; torch alone takes ten times as long."""
    code = "import time; t = time.process_time(); import gdpo; print(time.process_time() - t)"
    assert min(float(base.python(code)) for _ in range(3)) <= 0.1
    heavy = "import sys, gdpo; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    assert base.python(heavy) == "set()\n"


def test_base_install_names_the_extra_that_a_command_needs(base):
    assert base.run("gdpo", "--help").returncode == 0
    done = base.run("gdpo", "doctor", "--scale", "tiny")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"gdpo: doctor: found no package \w+, expected it; pip install 'gdpo\[workflow\]'\n", done.stderr
    )


def test_workflow_extra_has_doctor_and_scales_outside_a_checkout(workflow):
    done = workflow.run("gdpo", "doctor", "--scale", "tiny")
    assert done.returncode == 1, done.stderr
    assert "missing packages: no " in done.stdout and "run `pip install 'gdpo[all]'`" in done.stdout
    (workflow.work / "own.yaml").write_text(OWN)
    assert "doctor, scale own: 1 missing" in workflow.run("gdpo", "doctor", "--scale", "own.yaml").stdout


def test_step_without_its_extra_names_it(workflow):
    done = workflow.run("gdpo", "benchmark", "--scale", "micro")
    assert done.returncode == 0, done.stderr  # a made-up world needs no more
    code = "from gdpo.core.extras import missing_package\ntry:\n    import {}\n"
    code += "except ModuleNotFoundError as error:\n    print(missing_package(error, 'step'))"
    for module, extra in [("gdpo.students.sft", "train"), ("gdpo.evaluate.harness", "eval")]:
        assert workflow.python(code.format(module)).strip().endswith(f"pip install 'gdpo[{extra}]'")


def test_full_install_lacks_nothing(full):
    done = full.run("gdpo", "doctor", "--scale", "tiny")
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("doctor, scale tiny: nothing that it needs is missing\n")
    assert full.run("python", "-m", "pip", "check").returncode == 0


def test_full_install_imports_every_module(full):
    """But for vLLM's, which has an environment of its own."""
    code = """\
from importlib import import_module
from pkgutil import walk_packages
import gdpo, snakemake_logger_plugin_gdpo
from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry
names = [m.name for m in walk_packages(gdpo.__path__, "gdpo.") if m.name.split(".")[-1] not in ("vllm", "__main__")]
for name in names:
    import_module(name)
print(len(names), LoggerPluginRegistry().is_installed("gdpo"))
"""
    count, plugin = full.python(code).split()[-2:]
    assert int(count) > 150 and plugin == "True"


def test_full_install_says_what_a_checkout_alone_has(full):
    """What needs no more is made: the audit of the published numbers, which the package has."""
    done = full.run("gdpo", "audit")
    assert done.returncode == 0, done.stderr
    assert (full.work / "results" / "audit.csv").exists()
    for words, lacking in [
        (["paper"], "the report's text"),
        (["plan"], "the workflow"),
        (["sweep"], "workflow/config/sweep"),
        (["model", "--name", "tiny-s"], "workflow/bases/tiny-s"),
    ]:
        done = full.run("gdpo", *words, "--scale", "tiny")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert done.stderr.startswith(f"gdpo: {lacking}: ") and "checkout" in done.stderr
    assert re.search("of sha256 [0-9a-f]{64}", done.stderr)
