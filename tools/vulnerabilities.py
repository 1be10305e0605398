"""`make audit`: known vulnerabilities of the locks' pins, looked up in OSV by pip-audit.

Nothing that a lock pins is installed. Where OSV cannot be asked, the audit is skipped and says why. It first asks for a
pin that has a known vulnerability: an answer without it, from a service that knows nothing, is no clean lock.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from gdpo.config import yaml_loader
from gdpo.core.errors import Unreachable, UserError, last_line

ROOT = Path(__file__).resolve().parents[1]
LOCKS = [ROOT / "envs" / f"{name}.lock" for name in ("cpu", "vllm", "docs")]
ACCEPTED = ROOT / "envs" / "accepted.yaml"
TOOL = "pip-audit>=2.10,<3"
KNOWN = "idna==3.6"  # has CVE-2024-3651
OSV = "https://api.osv.dev/v1/query"
Pin = dict[str, Any]  # as pip-audit describes it: name, version, vulns, or skip_reason


def install_tool(directory: Path) -> Path:
    """pip-audit's command, in an environment of its own that the first call makes.

    Raises Unreachable where it cannot be installed.
    """
    command = directory / "bin" / "pip-audit"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise Unreachable(f"{TOOL} cannot be installed: {last_line(done.stderr)}")
    return command


def look_up(command: Path, lock: Path, service: str) -> list[Pin]:
    """What pip-audit says of each pin of `lock`.

    Raises Unreachable where it got no answer, and UserError where it does not know an option.
    """
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    options += ["--vulnerability-service", "osv", "--osv-url", service]
    done = subprocess.run([command, *options, "--requirement", lock], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)["dependencies"]
    except json.JSONDecodeError:
        if done.returncode == 2:
            raise UserError(f"found a pip-audit that does not fit, expected {TOOL}: {last_line(done.stderr)}") from None
        raise Unreachable(f"pip-audit got no answer: {last_line(done.stderr)}") from None


def check_service(command: Path, service: str) -> None:
    """Raises Unreachable unless `service` knows the vulnerability of KNOWN."""
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as lock:
        lock.write(f"{KNOWN}\n")
        lock.flush()
        if not any(pin.get("vulns") for pin in look_up(command, Path(lock.name), service)):
            raise Unreachable(f"{service} knows no vulnerability of {KNOWN}, which has one")


def accepted(path: Path) -> dict[str, str]:
    """Vulnerability -> the reason why it is accepted. Raises UserError where `path` does not have lines ID: REASON."""
    lines = "lines ID: REASON, or {}"
    try:
        reasons = yaml_loader.parsed(path)
    except FileNotFoundError:
        raise UserError("no such file", path=path, expected=lines) from None
    if not isinstance(reasons, dict):
        raise UserError(path=path, found=f"a {type(reasons).__name__}", expected=lines)
    for name, reason in reasons.items():
        if not isinstance(name, str) or not isinstance(reason, str) or not reason.strip():
            raise UserError(path=path, key=name, found=repr(reason), expected="the reason why it is let pass")
    return reasons


def sentences(pins: list[Pin], reasons: dict[str, str], used: set[str]) -> list[str]:
    """A line for each vulnerability that is not accepted; adds to `used` the entries of `reasons` that accept one."""
    lines = []
    for pin in pins:
        if "skip_reason" in pin:
            lines.append(f"{pin['name']}: not looked up: {pin['skip_reason']}")
        for flaw in pin.get("vulns", []):
            names = [flaw["id"], *flaw["aliases"]]
            if accepted_as := reasons.keys() & set(names):
                used |= accepted_as
                continue
            fixed = f"fixed in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else "not fixed in any"
            text = " ".join(flaw["description"].split())[:200]
            lines.append(f"{pin['name']} {pin['version']}: {', '.join(names)}; {fixed}: {text}")
    return lines


def audit(command: Path, locks: list[Path], reasons: dict[str, str], service: str) -> int:
    """Look all locks up and print what is found; returns the exit code, 1 where a vulnerability is not accepted.

    Raises Unreachable where `service` cannot be asked, and UserError where it stops answering midway.
    """
    check_service(command, service)
    used: set[str] = set()
    failures, looked_up = 0, []
    for lock in locks:
        try:
            pins = look_up(command, lock, service)
        except Unreachable as error:
            raise UserError(f"{lock.name} was not looked up, though {service} answered before: {error}") from None
        looked_up.append(f"{len(pins)} pins of {lock.name}")
        for sentence in sentences(pins, reasons, used):
            print(f"{lock.name}: {sentence}", file=sys.stderr)
            failures += 1
    for name in sorted(reasons.keys() - used):
        print(f"{ACCEPTED.name}: {name} is no longer found; take it out", file=sys.stderr)
    summary = f"{', '.join(looked_up)}; accepted: {', '.join(sorted(used)) or 'none'}"
    print(f"audit failed: {failures} found in {summary}" if failures else f"audit passed: nothing found in {summary}")
    return int(failures > 0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=Path, nargs="+", default=LOCKS)
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, help="vulnerabilities that are let pass")
    parser.add_argument("--service", default=OSV, help="OSV, or a copy of it")
    parser.add_argument("--tool", type=Path, help="pip-audit, in place of one that is installed in .cache")
    given = parser.parse_args(arguments)
    try:
        reasons = accepted(given.accepted)
        return audit(given.tool or install_tool(ROOT / ".cache" / "pip-audit"), given.locks, reasons, given.service)
    except Unreachable as error:
        print(f"audit skipped: {error}", file=sys.stderr)
        return 0
    except UserError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
