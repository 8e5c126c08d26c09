"""A history file in, a ranking out; and the command around it."""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from buildlight.cli import app
from services.analytics.flakiness.ranking import History, ranked


def line(test: str, number: int, outcome: str, **changes: Any) -> bytes:
    row = {
        "repo": "acme/shop",
        "test": test,
        "run": f"{number}",
        "attempt": 1,
        "commit": f"{number:040x}",
        "branch": "main",
        "outcome": outcome,
        "at": f"2026-01-01T{number % 24:02}:00:00+00:00",
    }
    return json.dumps(row | changes).encode()


def lines() -> list[bytes]:
    """Forty runs: one test healthy, one broken, one that passed on a retry, one skipped now and then."""
    found = []
    for number in range(40):
        found.append(line("sound", number, "passed"))
        found.append(line("broken", number, "error"))
        found.append(line("skipped", number, "skipped" if number % 2 else "passed"))
        found.append(line("flaky", number, "failed" if number == 20 else "passed"))
        if number == 20:
            found.append(line("flaky", number, "passed", attempt=2))
    return found


def test_the_surest_flake_comes_first() -> None:
    """With its verdict and what it rests on; what never failed is left out."""
    read = History()
    read.read(lines())
    rows = list(ranked(read))
    assert [(row["test"], row["verdict"]) for row in rows] == [("flaky", "flaky"), ("broken", "broken")]
    assert rows[0]["score"] > 0.9
    assert rows[1]["score"] < 0.01
    evidence = rows[0]["evidence"]
    assert (evidence["runs"], evidence["failures"], evidence["disagreements"]) == (41, 1, 1)
    assert evidence["failing_runs"] == [{"run": "20", "attempt": 1, "commit": f"{20:040x}"}]


def test_bad_lines_are_told_and_hold_up_nobody() -> None:
    """By number and reason; the others are ranked."""
    bad = [b"{", b"[]", b'{"repo": "r"}', line("odd", 1, "exploded"), b'"text"', b""]
    read = History()
    read.read([*bad, *lines()])
    assert read.unreadable == 5
    assert [complaint.split(" ", 2)[:2] for complaint in read.complaints] == [
        ["line", str(number)] for number in range(1, 6)
    ]
    assert "'exploded'" in read.complaints[3]
    assert next(ranked(read))["test"] == "flaky"


def test_the_command_gives_a_line_a_test(tmp_path: Path) -> None:
    """JSON Lines on stdout, the surest first; a table for people; exit code 1 when lines were left out."""
    file = tmp_path / "history.jsonl"
    file.write_bytes(b"\n".join(lines()) + b"\n")
    done = CliRunner().invoke(app, ["flaky", "rank", str(file), "--json"])
    assert done.exit_code == 0, done.output
    assert [json.loads(row)["test"] for row in done.stdout.splitlines()] == ["flaky", "broken"]
    table = CliRunner().invoke(app, ["flaky", "rank", str(file)])
    assert "4 tests, 141 results" in table.stdout
    assert "passed and failed at the same" in table.stdout
    file.write_bytes(b"no json\n" + file.read_bytes())
    told = CliRunner().invoke(app, ["flaky", "rank", str(file), "--json"])
    assert told.exit_code == 1
    assert "1 lines could not be read" in told.stderr
