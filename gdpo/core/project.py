"""Where the project's own files are: in the package, and in the checkout that it is imported from, where there is one.

An installed package has the scales as `gdpo/_config` (pyproject.toml maps them there); in a checkout they are
`workflow/config`. The workflow, the report's text, the locks and the shipped base models are in a checkout alone.
"""

from __future__ import annotations

from pathlib import Path

from gdpo.core.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE.parent  # the checkout's root, if IN_CHECKOUT
IN_CHECKOUT = (PROJECT / "workflow" / "config").is_dir()
CONFIG = PROJECT / "workflow" / "config" if IN_CHECKOUT else PACKAGE / "_config"  # scales, tables, studies, sources ...

SHARED = ("tables", "studies", "claims", "figures", "sources")  # files beside the scales' that all scales share


def require_checkout(what: str) -> None:
    """Raises UserError, naming `what`, where the package is installed without its repository."""
    if not IN_CHECKOUT:
        raise UserError(
            key=what,
            found="gdpo installed without its repository",
            expected="a checkout, which alone has it",
            hint="clone the repository and run `make setup` there",
        )


def scale_names() -> list[str]:
    """The names of this project's scales."""
    return sorted(path.stem for path in CONFIG.glob("*.yaml") if path.stem not in SHARED)
