"""`make audit`: known vulnerabilities of what the locks pin, looked up in OSV by pip-audit; ours.

Nothing that a lock pins is installed. It skips, saying why, where OSV cannot be asked. Whether it can is found out by a
pin of which a vulnerability is known: a service that answers without knowing any must not pass for a clean lock.
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
LOCKS = [ROOT / "envs" / "cpu.lock", ROOT / "envs" / "vllm.lock"]
ACCEPTED = ROOT / "envs" / "accepted.yaml"
TOOL = "pip-audit>=2.10,<3"
KNOWN = "idna==3.6"  # has CVE-2024-3651
OSV = "https://api.osv.dev/v1/query"
Finding = dict[str, Any]


def installed(directory: Path) -> Path:
    """pip-audit's command, in an environment of its own that is made at the first call.

    Raises Unreachable where it cannot be had.
    """
    command = directory / "bin" / "pip-audit"
    if not command.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
        pip = [directory / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL]
        done = subprocess.run(pip, capture_output=True, text=True)
        if done.returncode:
            raise Unreachable(f"{TOOL} cannot be installed: {last_line(done.stderr)}")
    return command


def asked(command: Path, lock: Path, service: str) -> list[Finding]:
    """What pip-audit says of each pin of `lock`.

    Raises Unreachable where it got no answer, and UserError where it does not take what it is told.
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
    """Raises Unreachable unless `service` knows what is known of KNOWN."""
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as lock:
        lock.write(f"{KNOWN}\n")
        lock.flush()
        if not any(pin.get("vulns") for pin in asked(command, Path(lock.name), service)):
            raise Unreachable(f"{service} knows no vulnerability of {KNOWN}, which has one")


def accepted(path: Path) -> dict[str, str]:
    """Vulnerability -> why it is let pass. Raises UserError where `path` says it otherwise."""
    try:
        found = yaml_loader.parsed(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected lines ID: REASON, or {{}}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: found a {type(found).__name__}, expected lines ID: REASON, or {{}}")
    for name, reason in found.items():
        if not isinstance(name, str) or not isinstance(reason, str) or not reason.strip():
            raise UserError(f"{path}, {name}: found {reason!r}, expected the reason why it is let pass")
    return found


def sentences(pins: list[Finding], reasons: dict[str, str], used: set[str]) -> list[str]:
    """What is wrong with each pin, in a line; adds to `used` what of `reasons` lets something pass."""
    found = []
    for pin in pins:
        if "skip_reason" in pin:
            found.append(f"{pin['name']}: not looked up: {pin['skip_reason']}")
        for flaw in pin.get("vulns", []):
            names = [flaw["id"], *flaw["aliases"]]
            if passes := reasons.keys() & set(names):
                used |= passes
                continue
            fixed = f"fixed in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else "not fixed in any"
            said = " ".join(flaw["description"].split())[:200]
            found.append(f"{pin['name']} {pin['version']}: {', '.join(names)}; {fixed}: {said}")
    return found


def audit(command: Path, locks: list[Path], reasons: dict[str, str], service: str) -> int:
    """Look all locks up and print what is found; the exit code, 1 where it is anything.

    Raises Unreachable where `service` cannot be asked, and UserError where it stops to answer.
    """
    check_service(command, service)
    used: set[str] = set()
    wrong, looked = 0, []
    for lock in locks:
        try:
            pins = asked(command, lock, service)
        except Unreachable as error:
            raise UserError(f"{lock.name} was not looked up, though {service} answered before: {error}") from None
        looked.append(f"{len(pins)} pins of {lock.name}")
        for sentence in sentences(pins, reasons, used):
            print(f"{lock.name}: {sentence}", file=sys.stderr)
            wrong += 1
    for name in sorted(reasons.keys() - used):
        print(f"{ACCEPTED.name}: {name} is no longer found; take it out", file=sys.stderr)
    told = f"{', '.join(looked)}; accepted: {', '.join(sorted(used)) or 'none'}"
    print(f"audit failed: {wrong} found in {told}" if wrong else f"audit passed: nothing found in {told}")
    return int(wrong > 0)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--locks", type=Path, nargs="+", default=LOCKS)
    parser.add_argument("--accepted", type=Path, default=ACCEPTED, help="vulnerabilities that are let pass")
    parser.add_argument("--service", default=OSV, help="OSV, or a copy of it")
    parser.add_argument("--tool", type=Path, help="pip-audit, in place of one that is installed in .cache")
    given = parser.parse_args(arguments)
    try:
        reasons = accepted(given.accepted)
        return audit(given.tool or installed(ROOT / ".cache" / "pip-audit"), given.locks, reasons, given.service)
    except Unreachable as error:
        print(f"audit skipped: {error}", file=sys.stderr)
        return 0
    except UserError as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
