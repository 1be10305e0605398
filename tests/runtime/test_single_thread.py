"""What is computed on a CPU takes one thread, whatever the environment says, and whoever calls."""

from __future__ import annotations

import os
import subprocess
import sys

ASKED = {
    "OMP_NUM_THREADS": "3",
    "MKL_NUM_THREADS": "4",
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_DOMAIN_NUM_THREADS": "MKL_DOMAIN_ALL=2",
    "MKL_DYNAMIC": "FALSE",
    "ACCELERATE_MIXED_PRECISION": "bf16",
}
# Stands in for a step, and says what one would compute with.
CODE = """
import sys
from types import SimpleNamespace
import gdpo.report
from gdpo.cli import main as cli

def told(scale, **_):
    import torch
    from threadpoolctl import threadpool_info
    import numpy
    from transformers import TrainingArguments
    print(torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info()},
          TrainingArguments("none", use_cpu=True).mixed_precision)

gdpo.report.steps = SimpleNamespace(audit=told)
sys.argv = ["gdpo", "audit", "--scale", "SCALE"]
cli.main()
"""


def test_one_thread_and_scale_precision_under_any_environment(tmp_path):
    """Of torch, for which MKL's variables come first, and of numpy; nor do a scale's threads matter."""
    scale = tmp_path / "own.yaml"
    scale.write_text("extends: micro\nscale: own\ndescription: more threads\nthreads: 4\n")
    call = [sys.executable, "-c", CODE.replace("SCALE", str(scale))]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, **ASKED})
    assert done.stdout.strip() == "1 {1} no", done.stderr


def test_no_numerical_library_is_loaded_before_threads_are_set():
    code = "import sys, gdpo.cli.main\nfrom gdpo.config.loader import load_scale\nload_scale('smol')\n"
    code += "print(sorted({'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
