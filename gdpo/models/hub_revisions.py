"""The commit that a branch of the Hub was at when it was first used here, so that long runs stay consistent (ours).

A model or data set that is named at `main` may be another one tomorrow. Its commit is kept beside the downloads and
used from then on, by every step and every scale of the directory. It is printed once, and recorded in the provenance.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from gdpo.core.errors import UserError
from gdpo.core.files import write_text
from gdpo.core.terminal import say

PINS = Path(".cache/revisions")
COMMIT = re.compile(r"[0-9a-f]{40}")

Kind = Literal["model", "dataset"]


def pinned_revision(kind: Kind, name: str, revision: str) -> str:
    """The commit that `revision` of OWNER/NAME is used at here; `revision` itself before its first use.

    Raises UserError where the file holds no commit.
    """
    path = _path(kind, name, revision)
    if COMMIT.fullmatch(revision) or not path.exists():
        return revision
    commit = path.read_text(encoding="utf-8", errors="replace").strip()
    if not COMMIT.fullmatch(commit):
        raise UserError(
            path=path, found=f"'{commit}'", expected="a commit", hint="delete it to use what the Hub has now"
        )
    return commit


def pin(kind: Kind, name: str, revision: str, commit: str) -> None:
    """Use `commit` from now on for `revision`, a branch or a tag."""
    path = _path(kind, name, revision)
    if COMMIT.fullmatch(revision) or not COMMIT.fullmatch(commit) or path.exists():
        return
    write_text(path, f"{commit}\n")
    say(f"{kind} {name}: {revision} is commit {commit} here from now on, whatever the Hub has later ({path})")


def _path(kind: Kind, name: str, revision: str) -> Path:
    return PINS / f"{kind}--{quote(name.replace('/', '--'), safe='')}@{quote(revision, safe='')}"
