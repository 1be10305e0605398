"""Carrying a scale to a machine without a network: packed, unpacked elsewhere, run in bounded calls, brought back."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from argparse import Namespace
from importlib import metadata
from pathlib import Path

import pytest

from gdpo.core.errors import UserError
from tools.offline import needs, node, pack, parcels

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = "carry_sample-1.0-py3-none-any.whl"
TARGETS = [f"results/micro/scores/tiny-s/hard-only/{method}/0.json" for method in ("sft", "gdpo")]


@pytest.mark.parametrize(("size", "limit", "expected"), [(10, 4, [4, 3, 3]), (8, 4, [4, 4]), (3, 4, [3]), (0, 4, [0])])
def test_a_file_is_cut_into_the_fewest_even_pieces(size, limit, expected):
    """10 bytes in pieces of at most 4: three, since two hold 8; 10 = 4 + 3 + 3."""
    assert parcels.shares(size, limit) == expected


def test_pieces_fill_parcels_largest_first():
    """Into parcels of 10: 7 opens one, 6 another, 4 fits beside 6, 3 beside 7; 2 opens a third."""
    assert parcels.laid({"a": 3, "b": 7, "c": 4, "d": 6, "e": 2}, 10) == [["b", "a"], ["d", "c"], ["e"]]


NEEDS = {
    "a": ["b>=2", "c; python_version < '3.12'", "d[fast]; extra == 'x'"],
    "b": ["e<3"],
    "d": ["f; extra == 'fast'"],
}
LOCK = {"a": "1", "b": "2.1", "c": "1", "d": "4", "e": "2.5", "f": "1", "transformers": "5.2"}


@pytest.mark.parametrize(
    ("roots", "have", "expected"),
    [
        (["a"], {}, {"a": "1", "b": "2.1", "e": "2.5"}),
        (["a"], {"b": "2.0"}, {"a": "1"}),  # what b needs in turn is the other machine's
        (["a"], {"b": "1.9"}, {"a": "1", "b": "2.1", "e": "2.5"}),  # too old
        (["a"], {"b": None, "a": "1"}, {}),
        (["a[x]"], {"b": None}, {"a": "1", "d": "4", "f": "1"}),
        (["transformers", "torch"], {"transformers": "5.3"}, {"transformers": "5.2"}),  # the lock's alone; torch never
        (["transformers"], {"transformers": None}, {"transformers": "5.2"}),
        (["transformers"], {"transformers": "5.2"}, {}),
    ],
)
def test_packages_missing_in_another_python(roots, have, expected):
    assert needs.lacking(roots, have, LOCK, "3.12", lambda name: NEEDS.get(name, [])) == expected


def test_needed_packages_are_locked():
    with pytest.raises(UserError, match="found no version of 'g', expected all that gdpo needs to be locked"):
        needs.lacking(["g"], {}, LOCK, "3.12", lambda name: [])


def test_a_list_of_packages_is_read_as_pip_writes_it(tmp_path):
    path = tmp_path / "have.txt"
    path.write_text("# there\nPyYAML==6.0.3\nhuggingface_hub\ntorch @ file:///x/torch.whl\n\n")
    assert needs.pins(path) == {"pyyaml": "6.0.3", "huggingface-hub": None, "torch": None}
    path.write_text("numpy\n-e .\n")
    with pytest.raises(UserError, match=r"have\.txt, line 2: found '-e \.', expected NAME or NAME==VERSION"):
        needs.pins(path)


def test_everything_that_gdpo_declares_is_locked_or_left_out():
    locked = needs.pins(ROOT / "envs/cpu.lock")
    names = {re.match(r"[\w-]+", text)[0].lower() for text in needs.declared(ROOT)}
    assert names <= {*locked, *needs.LEFT_OUT}
    assert not needs.LEFT_OUT & {*needs.lacking(needs.declared(ROOT), {}, locked, "3.12")}


@pytest.fixture
def packed(tmp_path):
    """Two files of 3 MiB and 5 bytes in parcels of 2 MiB."""
    big, small = tmp_path / "big.whl", tmp_path / "small.whl"
    big.write_bytes(bytes(range(256)) * 4 * 1024 * 3)
    small.write_bytes(b"small")
    told = {"scale": "micro", "limit": None, "root": "results/micro", "code": "0", "models": []}
    parcels.write([("wheel", big), ("model", small)], tmp_path / "out", 2 * parcels.MIB, ROOT, **told)
    return tmp_path / "out"


def test_parcels_are_bounded_and_join_in_any_order(packed, tmp_path):
    found = sorted(packed.iterdir())
    assert len(found) == 3  # 1.5 MiB leave 0.5 MiB to the scripts and the manifest; so three pieces of 1 MiB
    assert all(sum(p.stat().st_size for p in parcel.rglob("*") if p.is_file()) <= 2 * parcels.MIB for parcel in found)
    store = tmp_path / "store"
    manifest, absent = parcels.gather([found[2]], store)
    assert absent == ["parcel-1", "parcel-2"]
    manifest, absent = parcels.gather([found[1], found[0]], store)
    assert absent == []
    for file in manifest.files:
        parcels.join(file, store, tmp_path / "joined" / file.name)
        assert (tmp_path / "joined" / file.name).read_bytes() == (tmp_path / file.name).read_bytes()


def test_a_corrupted_piece_is_refused(packed, tmp_path):
    piece = next((packed / "parcel-2/pieces").glob("big*"))
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match=rf"{piece.name}: found sha256 \w+, expected \w+; carry it again"):
        parcels.gather(sorted(packed.iterdir()), tmp_path / "store")
    assert not (tmp_path / "store" / piece.name).exists()


def test_parcels_of_two_packs_do_not_mix(packed, tmp_path):
    parcels.gather([packed / "parcel-1"], tmp_path / "store")
    path = packed / "parcel-2/manifest.json"
    path.write_text(path.read_text().replace('"micro"', '"tiny"'))
    with pytest.raises(UserError, match="parcel-2: found a parcel of another pack"):
        parcels.gather([packed / "parcel-2"], tmp_path / "store")


def test_returned_files_are_bounded_and_tables_come_first(tmp_path, capsys):
    """Of 1 MiB a quarter is kept free: 0.6 MiB of samples fit beside the table, the 0.7 MiB after them do not."""
    root = tmp_path / "results/micro"
    told = {"scale": "micro", "limit": None, "root": "results/micro", "code": "0", "files": []}
    parcels.write_manifest(tmp_path / ".carry/manifest.json", parcels.Manifest(**told))
    sizes = {"tables/t.csv": 0.01, "samples/a.jsonl": 0.6, "samples/b.jsonl": 0.7, "runs/s/model.safetensors": 0.1}
    for name, mib in {**sizes, "runs/s/train.json": 0.01, "models/m/tokenizer.json": 0.01, "pool.jsonl": 0.01}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.urandom(int(mib * parcels.MIB)))
    os.utime(root / "pool.jsonl", (0, 0))  # it was carried there
    node.collect(Namespace(scale=None, out=tmp_path / "out", files=1, file_mib=1), tmp_path)
    [path] = (tmp_path / "out").iterdir()
    assert path.stat().st_size <= parcels.MIB
    with tarfile.open(path) as tar:
        names = [name.removeprefix("results/micro/") for name in tar.getnames()]
    assert names == [".carry/manifest.json", "tables/t.csv", "runs/s/train.json", "samples/a.jsonl"]
    assert "1 files of 0.7 MiB did not fit, results/micro/samples/b.jsonl first" in capsys.readouterr().err


def carry(project: Path, *arguments, **kwargs) -> subprocess.CompletedProcess:
    """carry.py of `project`, with neither network nor GPU, and nothing of this checkout on its path."""
    command = [sys.executable, str(project / "tools/offline/carry.py"), *map(str, arguments)]
    hidden = {
        "CUDA_VISIBLE_DEVICES": "",
        "PIP_NO_INDEX": "1",
        "HF_HUB_OFFLINE": "1",
        "https_proxy": "http://127.0.0.1:9",
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    given = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | hidden | {"PATH": path}
    return subprocess.run(command, capture_output=True, text=True, env=given, **kwargs)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A copy of the project that needs one package more, whose wheel is at hand, and that is packed for micro."""
    project = tmp_path_factory.mktemp("home")
    for path in pack.code(ROOT):
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, project / path)
    stated = project / "pyproject.toml"
    stated.write_text(stated.read_text().replace("dependencies = [", 'dependencies = [\n  "carry-sample",', 1))
    with (project / "envs/cpu.lock").open("a") as lock:
        lock.write("carry-sample==1.0\n")
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    cache = project / pack.WHEELS / version
    cache.mkdir(parents=True)
    with zipfile.ZipFile(cache / SAMPLE, "w") as wheel:
        wheel.writestr("carry_sample.py", "FOUND = 1\n")
        wheel.writestr(
            "carry_sample-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carry-sample\nVersion: 1.0\n"
        )
        tags = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr("carry_sample-1.0.dist-info/WHEEL", tags)
        wheel.writestr("carry_sample-1.0.dist-info/RECORD", "")
    have = project / "have.txt"
    have.write_text("".join(f"{d.name}=={d.version}\n" for d in metadata.distributions()))
    told = ["--scale", "micro", "--out", project / "build/carry", "--have", have, "--parcel-mib", "1"]
    done = carry(project, "pack", *told, "--python", f"{sys.version_info.major}.{sys.version_info.minor}", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 wheels for Python" in done.stderr
    return project


@pytest.fixture(scope="module")
def there(home, tmp_path_factory):
    """Another directory, laid out from the parcels alone, the last of which comes in a call of its own."""
    into = tmp_path_factory.mktemp("there") / "gdpo"
    found = sorted((home / "build/carry").iterdir())
    assert len(found) > 1
    done = carry(found[0], "unpack", *found[:-1], "--into", into)
    assert done.returncode == 0 and "still to come: " in done.stderr
    early = carry(found[0], "run", "--minutes", 1, TARGETS[0])
    assert early.returncode == 1 and "found nothing unpacked" in early.stderr and "Traceback" not in early.stderr
    done = carry(found[-1], "unpack", found[-1], "--into", into)
    assert done.returncode == 0, done.stdout + done.stderr
    return into


@pytest.mark.long
def test_the_data_side_is_not_made_again(there):
    assert (there / ".carry/site/carry_sample.py").exists()
    given = {**os.environ, "PYTHONPATH": str(there)}
    command = [sys.executable, "-m", "snakemake", *TARGETS, "-n", "--config", "scale=micro"]
    done = subprocess.run(command, cwd=there, env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = set(re.findall(r"^rule (\w+):$", done.stdout, re.MULTILINE))
    assert planned == {"model", "respond", "reward", "train", "evaluate"}


@pytest.mark.long
def test_a_run_stops_in_time_and_goes_on(there, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (there / "results/micro/benchmarks").rglob("*.jsonl")}
    stopped = carry(there, "run", "--scale", "micro", "--minutes", 0.15, "--jobs", 2, *TARGETS)
    assert stopped.returncode == node.UNFINISHED, stopped.stdout + stopped.stderr
    assert re.search(r"stopped after 0\.15 minutes; \d+ jobs remain: .*evaluate 2", stopped.stderr)
    assert "Traceback" not in stopped.stderr
    assert not list((there / "results/micro").glob("scores/**/sft/0.json"))
    done = carry(there, "run", "--minutes", 10, "--jobs", 2, *TARGETS)
    assert done.returncode == node.DONE, done.stdout + done.stderr
    assert "nothing remains" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
    done = carry(there, "collect", "--out", tmp_path / "back")
    assert done.returncode == 0, done.stderr
    for path in (tmp_path / "back").iterdir():
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "open", filter="data")
    back = tmp_path / "open/results/micro"
    assert json.loads((back / "scores/tiny-s/hard-only/gdpo/0.json").read_text())["benchmarks"]
    assert (back / "runs/tiny-s/hard-only/gdpo/0/train.json").exists()
    assert (back / "samples/tiny-s/hard-only/sft/0/chain2.jsonl").exists()
    assert not list(back.rglob("*.safetensors"))
    assert not (back / "pool.jsonl").exists()


@pytest.mark.long
def test_a_failed_job_is_told_apart_from_time(there):
    done = carry(there, "run", "--minutes", 2, "--jobs", 1, "results/micro/none.csv")
    assert done.returncode == node.FAILED
    assert "a job failed" in done.stderr
