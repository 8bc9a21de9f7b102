# ruff: noqa: INP001 - a script, not a module
"""Check the pinned packages for known vulnerabilities.

Exit codes: 0 for none, 1 for at least one, 75 if the advisory service could not be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
FOUND, UNASKED = 1, 75
SECONDS = 300


def ask(pins: Path) -> list[dict[str, Any]] | str:
    """Return the packages of a file with their vulnerabilities, or the reason why they are not available."""
    command = [
        str(ROOT / ".cache/audit/bin/pip-audit"),
        "--requirement",
        str(pins),
        "--require-hashes",
        "--disable-pip",
        "--format=json",
        "--progress-spinner=off",
    ]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)  # noqa: S603
        packages: list[dict[str, Any]] = json.loads(asked.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    except (ValueError, KeyError):
        return asked.stderr.strip().rpartition("\n")[2] or "no answer"
    unknown = [f"{package['name']}: {package['skip_reason']}" for package in packages if "skip_reason" in package]
    return f"{len(unknown)} of {len(packages)} packages, as {unknown[0]}" if unknown else packages


def main() -> int:
    """Audit every file of pins."""
    worst = 0
    for pins in sorted((ROOT / ".requirements").glob("*.txt")):
        answer = ask(pins)
        if isinstance(answer, str):
            sys.stdout.write(f"{pins.name}: NOT AUDITED, the advisory service could not be asked: {answer}\n")
            worst = worst or UNASKED
            continue
        known = [(package, vulnerability) for package in answer for vulnerability in package["vulns"]]
        for package, found in known:
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            sys.stdout.write(f"{pins.name}: {package['name']} {package['version']}: {found['id']}, fixed in {fixed}\n")
            worst = FOUND
        if not known:
            sys.stdout.write(f"{pins.name}: no known vulnerability in {len(answer)} packages\n")
    return worst


if __name__ == "__main__":
    sys.exit(main())
