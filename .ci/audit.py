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
VULNERABLE = 1
NOT_AUDITED = 75
TIMEOUT_SECONDS = 300


def audit_file(pins: Path) -> list[dict[str, Any]] | str:
    """Return the packages of a file with their vulnerabilities, or why they are not available."""
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
        process = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS
        )
        packages: list[dict[str, Any]] = json.loads(process.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"no response within {TIMEOUT_SECONDS} s"
    except (ValueError, KeyError):
        return process.stderr.strip().rpartition("\n")[2] or "no response"
    skipped = [
        f"{package['name']}: {package['skip_reason']}"
        for package in packages
        if "skip_reason" in package
    ]
    return (
        f"{len(skipped)} of {len(packages)} packages, for example {skipped[0]}"
        if skipped
        else packages
    )


def main() -> int:
    """Audit every file of pins."""
    exit_code = 0
    for pins in sorted((ROOT / ".requirements").glob("*.txt")):
        result = audit_file(pins)
        if isinstance(result, str):
            sys.stdout.write(
                f"{pins.name}: NOT AUDITED, the advisory service could not be reached: {result}\n"
            )
            exit_code = exit_code or NOT_AUDITED
            continue
        vulnerabilities = [
            (package, vulnerability) for package in result for vulnerability in package["vulns"]
        ]
        for package, vulnerability in vulnerabilities:
            fix_versions = ", ".join(vulnerability["fix_versions"]) or "no version yet"
            sys.stdout.write(
                f"{pins.name}: {package['name']} {package['version']}: {vulnerability['id']}, fixed"
                f" in {fix_versions}\n"
            )
            exit_code = VULNERABLE
        if not vulnerabilities:
            sys.stdout.write(f"{pins.name}: no known vulnerability in {len(result)} packages\n")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
