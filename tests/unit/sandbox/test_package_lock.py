"""What is taken from npm is pinned, and the lock file names no server."""

import json
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]


def test_the_lock_file_carries_no_addresses() -> None:
    """No package is tied to the server it once came from; each is held by its digest instead."""
    text = (CHECKOUT / "package-lock.json").read_text()
    assert "resolved" not in text
    assert re.search(r"https?://", text) is None
    packages = json.loads(text)["packages"]
    assert all(package["integrity"].startswith("sha512-") for name, package in packages.items() if name)


def test_versions_are_pinned() -> None:
    """package.json names exact versions, and the lock file has the same."""
    package = json.loads((CHECKOUT / "package.json").read_text())
    locked = json.loads((CHECKOUT / "package-lock.json").read_text())["packages"]
    wanted = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted
