"""The process itself: ready line, memory, a clean end."""

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.sandbox.conftest import CHECKOUT, Running, Start


def test_the_ready_line_has_all_addresses(sandbox: Running) -> None:
    """Whoever starts the sandbox learns everything from one line."""
    assert set(sandbox.addresses) == {
        "github",
        "github_app_id",
        "github_repos",
        "github_token",
        "gitlab",
        "gitlab_token",
        "jenkins",
        "jenkins_username",
        "jenkins_token",
        "gitlab_projects",
        "slack",
        "smtp_host",
        "smtp_port",
        "control_plane",
        "control_plane_key",
        "control",
    }


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told(start: Start, ending: signal.Signals) -> None:
    """A signal ends it within seconds and well, even while an answer is being held back."""
    running = start("--repositories", "1")
    running.control("POST", "/faults", json={"target": "github", "kind": "hang"})
    with pytest.raises(httpx.ReadTimeout):
        running.get("/user", timeout=0.2)
    running.process.send_signal(ending)
    assert running.process.wait(5) == 0


def test_it_stays_small(start: Start) -> None:
    """With the usual backlog read through once it holds less than 60 MiB."""
    running = start()
    for repository in running.control("GET", "/")["repositories"]:
        for page in range(1, 8):
            running.get(f"/repos/{repository}/actions/runs", params={"per_page": 100, "page": page})
    status = Path(f"/proc/{running.process.pid}/status")
    if not status.exists():
        pytest.skip("resident memory is read from /proc, which this system lacks")
    kibibytes = next(line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    assert int(kibibytes) < 60 * 1024


def test_it_says_why_it_cannot_start(tmp_path: Path) -> None:
    """A folder without recorded rows is refused in one sentence."""
    command = [sys.executable, "-m", "sandbox", "--recorded", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The sandbox cannot start: ")
    assert "_raw_github_api_runs.csv" in done.stderr
