"""The excerpt of a failed job's log."""

import time
import tracemalloc
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildlight_contracts.collection import LARGEST_EXCERPT
from reports.job_log import Excerpt, JobLog
from tests.unit.reports.job_logs import BEGAN, NOISE, PYTEST, SCRIPT, TOOLS, github, gitlab, jenkins


def excerpt(log: bytes, *, piece: int = 1000, **options: object) -> Excerpt:
    reader = JobLog(**options)  # type: ignore[arg-type]
    for start in range(0, len(log), piece):
        reader.feed(log[start : start + piece])
    return reader.close()


RUNNERS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "github": (lambda said: github(("make deps", "\n".join(NOISE)), ("make test", said)), "Run make test"),
    "gitlab": (gitlab, 'Executing "step_script" stage of the job script'),
    "jenkins": (jenkins, "Test"),
}


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("tool", TOOLS)
def test_it_shows_what_the_tool_said(tool: str, runner: str) -> None:
    """Among hundreds of harmless lines, whatever runner wrote them."""
    (write, step), (output, wanted) = RUNNERS[runner], TOOLS[tool]
    log = write("\n".join([*NOISE, output]))
    found = excerpt(log)
    assert wanted in found.text
    assert found.found_by in ("failure_line", "exception")
    assert len(found.text) <= LARGEST_EXCERPT
    assert found.first_line > 300
    assert found.lines == log.decode().count("\n")
    assert found.step == step


def test_an_error_marker_comes_first() -> None:
    """What a problem matcher pointed out is shown rather than the lines around it."""
    output = "\n".join([*NOISE, "##[error]src/cart.c(14): 'sum' undeclared", *NOISE[:100], PYTEST])
    found = excerpt(github(("make", output)))
    assert found.found_by == "error_marker"
    assert "Error: src/cart.c(14): 'sum' undeclared" in found.text
    assert found.text.endswith("Error: Process completed with exit code 1.")


def test_the_end_is_shown_beside_the_place() -> None:
    """A summary at the end is shown too, with how much is left out between."""
    output = "\n".join(["FAILED tests/a.py::test_b", *NOISE, "1 failed, 300 passed"])
    found = excerpt(github(("pytest", output)))
    assert "1 failed, 300 passed" in found.text
    assert "[… " in found.text


def test_only_the_step_that_failed_counts() -> None:
    """An exception that a step before it logged, and what runs afterwards, are not shown."""
    log = github(("setup", SCRIPT), ("make", "\n".join([*NOISE, "ld: cannot find -lssl"])))
    found = excerpt(log)
    assert "no such stage" not in found.text
    assert "cannot find -lssl" in found.text
    assert "git version" not in found.text


def test_a_step_that_may_fail_is_not_it() -> None:
    """With the times of the step that failed, the same words elsewhere are passed over."""
    tolerated = github(("flaky", SCRIPT)).decode("utf-8-sig").rsplit("Post job", 1)[0].rpartition("\n")[0]
    start = tolerated.count("\n") + 1
    rest = [
        "##[group]Run make", "##[endgroup]", "cart.c:14:12: error: ‘sum’ undeclared",
        "##[error]Process completed with exit code 2.",
    ]  # fmt: skip
    from tests.unit.reports.job_logs import stamp

    log = tolerated + "\n" + "".join(f"{stamp(start + n)} {line}\n" for n, line in enumerate(rest))
    within = (BEGAN + timedelta(seconds=start + 1), BEGAN + timedelta(seconds=start + 4))
    found = excerpt(log.encode(), within=within, step="Compile")
    assert "cart.c:14:12" in found.text
    assert "no such stage" not in found.text
    assert found.step == "Compile"


def test_times_that_do_not_fit() -> None:
    """A runner whose clock is wrong: no line is within, and the end of the log is shown."""
    within = (BEGAN + timedelta(days=1), BEGAN + timedelta(days=2))
    found = excerpt(github(("make", PYTEST)), within=within)
    assert found.found_by == "tail"
    assert "assert 12 == 7" in found.text


def test_hostile_lines_take_no_time() -> None:
    """Lines made to have a pattern try every way."""
    pieces = ("a", "a.", "A.", "a > ", "Aa.A", "> ", "\\d", "1:", "a:1:1", "E   ", "fail ", "Error ", "[FAIL] ",
              "exit code ", "error(", "Failed a", "FAILED", "test a ... ", "a.go:1", "exited with an error code ",
              "Exception in thread ", "org.a.b.", "a$.", "Build step '", "section_start:1:", "\x1b[", "::error ",
              "Process completed with ", "returned ", "\r", "0 errors ", "##[error]", "[Pipeline] { (")  # fmt: skip
    for piece in pieces:
        log = f"error fail {piece * (8192 // len(piece))}\n{piece * (8192 // len(piece))} error\n" * 3
        began = time.perf_counter()
        excerpt(log.encode())
        assert time.perf_counter() - began < 2.0, piece


def test_an_exit_code_alone() -> None:
    """Nothing else was said: the lines before it are shown."""
    found = excerpt(github(("./quiet.sh", "one\ntwo\nthree")))
    assert found.found_by == "exit_code"
    assert found.text.splitlines()[-4:] == [
        "one",
        "two",
        "three",
        "Error: Process completed with exit code 1.",
    ]


def test_the_tail_when_nothing_tells() -> None:
    """A log that ends without a word of failure: its last lines."""
    found = excerpt(b"".join(b"line %d\n" % n for n in range(1000)))
    assert (found.found_by, found.first_line, found.lines) == ("tail", 941, 1000)
    assert found.text.endswith("line 999")


def test_an_empty_log() -> None:
    """Nothing, said as nothing."""
    assert excerpt(b"") == Excerpt("tail", "", 1, 0, 0, is_cut=False, step=None)


def test_more_than_an_event_may_carry() -> None:
    """Of a long failure the beginning and the end, and it is said that it is cut."""
    output = "\n".join(f"E       value {n}: {'x' * 300}" for n in range(500))
    found = excerpt(github(("pytest", output)))
    assert len(found.text) <= LARGEST_EXCERPT
    assert found.is_cut
    assert "value 0:" in found.text
    assert "exit code 1" in found.text


def test_utf_16() -> None:
    """A log of PowerShell's, with a mark of its byte order or without."""
    text = "Compiling\r\nmain.c:1:1: error: no\r\n"
    for log in (text.encode("utf-16"), text.encode("utf-16-le"), text.encode("utf-16-be")):
        assert "main.c:1:1: error: no" in excerpt(log, piece=7).text


def test_a_progress_bar_is_what_it_was_last() -> None:
    """What a carriage return wrote over is gone, as on a terminal."""
    log = "".join(f"\rdownloading {n} %" for n in range(100)) * 500 + "\rerror: disk full\ndone\n"
    assert "error: disk full" in excerpt(log.encode()).text
    assert "downloading" not in excerpt(log.encode()).text


@pytest.mark.parametrize(
    "log", [b"\xff\x00\x9b\x1b]" * 8, b"x" * 64, b"E   a\r" * 10, b"error: x\n" * 7, b"\n"]
)
def test_an_endless_log_takes_no_memory(log: bytes) -> None:
    """Megabytes of anything: a line without end, binary data, failures over and over."""
    reader = JobLog()
    piece = log * (65_536 // len(log))
    rounds = 5_000_000 // len(piece) if log in (b"x" * 64, b"\xff\x00\x9b\x1b]" * 8) else 3
    for _ in range(5):
        reader.feed(piece)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(rounds):
        reader.feed(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak - before < 5_000_000
    assert len(reader.close(is_cut=True).text) <= LARGEST_EXCERPT


PIECES = st.sampled_from(
    [
        b"\x1b[31m", b"\x1b]0;title\x07", b"\x1b", b"\x9b2J", b"\n", b"\r\n", b"\r", b"\x00", b"\xff\xfe",
        b"##[group]Run x\n", b"##[endgroup]\n", b"##[error]no\n", b"error: ", b"E   assert\n", b"FAILED x\n",
        b"Traceback (most recent call last):\n", b"section_start:1:a\r\x1b[0K", b"section_end:1:a\r\x1b[0K",
        b"[Pipeline] { (A)\n", b"[Pipeline] }\n", b"2026-03-02T09:00:00.1234567Z ", b"x" * 9000, b"exit code 1\n",
        b"ERROR: Job failed: exit code 1\n", b"section_start:99999999999:b\r", b"::error::x\n", b"-----END",
    ]
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES | st.binary(max_size=40), max_size=120), st.integers(1, 5000))
def test_whatever_comes_is_bounded_and_clean(pieces: list[bytes], size: int) -> None:
    """Never more than an event may carry, never a control character, and never another answer by other pieces."""
    log = b"".join(pieces)
    found = excerpt(log, piece=size)
    assert len(found.text) <= LARGEST_EXCERPT
    assert all(char in "\n\t" or not (ord(char) < 32 or 127 <= ord(char) < 160) for char in found.text)
    assert found.first_line >= 1
    assert found == excerpt(log, piece=100_000)
