"""One thread for all that is computed on a CPU, whatever the cores and environment variables.

A sum of many numbers over several threads is a sum of partial sums, and its last bits depend on how many there are:
training then ends at other weights (docs/guarantees/determinism.md). torch reads MKL's variables
before OpenMP's, and without them takes the machine's cores, so all are set. A workflow's cores are used by jobs side
by side.
"""

from __future__ import annotations

import os

NUMBERS = [f"{name}_NUM_THREADS" for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR")]


def limit_to_one_thread() -> None:
    """Limit this process and all that it starts; call it before numpy or torch is imported."""
    os.environ.update(dict.fromkeys(NUMBERS, "1"))
    os.environ.pop("MKL_DOMAIN_NUM_THREADS", None)  # which comes before MKL_NUM_THREADS
