"""How fast a JUnit report is read, beside others that read the same out of it, and in how much memory.

    python -m bench.junit [--full]

The reader is the one that services and `buildlight report` use, fed 64 KiB at a time; what it hands over are the
cases that go into messages. The peers read the same fields of every case (name, class, time, file, line, and of
failures kind, message and text) and count outcomes:

- lxml's iterparse, an element freed when it has been read, as its documentation advises;
- junitparser, the library for such reports, which holds the whole;
- lxml's iterparse alone, which reads nothing out of the elements: for comparison only.

The report is a healthy build's: of a thousand cases one fails and five are skipped. A second one, of which 6 % fail or
are skipped, shows what an unhealthy build's costs; it is not in the figures.

Every round runs each once, in another order; the figures are the medians of rounds. Then a report of 256 MiB (with
`--full` of 1 GiB) is read in a process of its own, to see how much its resident memory grows. The last line is JSON.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from junitparser import JUnitXml
from lxml import etree

from reports.reader import ReportReader

PIECE = 65_536
CASES = 100_000
FAILURE = "\n".join(f"    at com.acme.shop.Checkout.step{n}(Checkout.java:{n})" for n in range(30))
VERDICTS = {"failure", "error", "skipped"}

Peer = Callable[[bytes], int]


def cases(count: int, *, every: int = 1000) -> Iterator[bytes]:
    """Elements as surefire writes them: one in `every` fails with a stack trace, five in `every` are skipped."""
    for number in range(count):
        start = (
            f'<testcase classname="com.acme.shop.Class{number // 50}Test" name="test_{number % 50}_does_what_it_should"'
            f' time="0.{number % 1000:03}"'
        )
        if number % every == 0:
            inside = f'<failure type="java.lang.AssertionError" message="expected 1">{FAILURE}</failure>'
            yield f"{start}>{inside}</testcase>\n".encode()
        elif number % (every // 5) == 1:
            yield f'{start}><skipped message="not on Linux"/></testcase>\n'.encode()
        else:
            yield f"{start}/>\n".encode()


def report(count: int, *, every: int = 1000) -> bytes:
    return (
        b"<testsuites><testsuite name='all'>\n"
        + b"".join(cases(count, every=every))
        + b"</testsuite></testsuites>"
    )


def buildlight(document: bytes) -> int:
    reader = ReportReader()
    tests = sum(len(reader.feed(document[start : start + PIECE])) for start in range(0, len(document), PIECE))
    tests += len(reader.close())
    assert reader.totals.tests == tests
    return tests


def lxml_same(document: bytes) -> int:
    tests = bad = 0
    for _, element in etree.iterparse(io.BytesIO(document), tag="testcase"):
        get = element.get
        fields: list[Any] = [get("name"), get("classname"), float(get("time")), get("file"), get("line")]
        for child in element:
            if child.tag in VERDICTS:
                fields += [child.tag, child.get("type"), child.get("message"), child.text]
                bad += 1
        tests += 1
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]
    assert bad
    return tests


def junitparser_same(document: bytes) -> int:
    tests = bad = 0
    for suite in JUnitXml.fromstring(document):
        for case in suite:
            fields: list[Any] = [
                case.name,
                case.classname,
                case.time,
                case._elem.get("file"),  # noqa: SLF001
                case._elem.get("line"),  # noqa: SLF001
            ]
            for result in case.result:
                fields += [type(result), result.type, result.message, result.text]
                bad += 1
            tests += 1
    assert bad
    return tests


def lxml_bare(document: bytes) -> int:
    tests = 0
    for _, element in etree.iterparse(io.BytesIO(document), tag="testcase"):
        tests += 1
        element.clear()
    return tests


PEERS: dict[str, Peer] = {
    "buildlight": buildlight,
    "lxml iterparse, same fields": lxml_same,
    "junitparser, same fields": junitparser_same,
    "lxml iterparse, nothing read": lxml_bare,
}


def measure(document: bytes, rounds: int) -> dict[str, float]:
    """Seconds of processor time a run, the median of the rounds: neighbours on the machine cost all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in PEERS}
    for number in range(rounds):
        order = list(PEERS)
        for name in order[number % len(order) :] + order[: number % len(order)]:
            started = time.process_time()
            tests = PEERS[name](document)
            seconds[name].append(time.process_time() - started)
            assert tests == CASES, name
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def grow(mebibytes: int) -> None:
    """Read a report of that size and print by how many MiB the resident memory grew at most."""
    reader = ReportReader()
    reader.feed(b"<testsuites><testsuite name='all'>\n" + b"".join(cases(5000)))
    before = resident()
    elements, size, highest, tests = cases(1 << 62), 0, before, 0
    while size < mebibytes << 20:
        piece = b"".join(islice(elements, 500))
        size += len(piece)
        tests += len(reader.feed(piece))
        highest = max(highest, resident())
    reader.feed(b"</testsuite></testsuites>")
    reader.close()
    print(json.dumps({"rss_growth_mib": round(highest - before, 1), "tests": reader.totals.tests}))


def resident() -> float:
    """Of this process now, in MiB."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1_048_576


def table(title: str, document: bytes, taken: dict[str, float]) -> None:
    print(f"\n{title}: {len(document) / 1e6:.1f} MB")
    for name, seconds in taken.items():
        ratio = seconds / taken["buildlight"]
        print(
            f"  {name:30}{CASES / seconds:>10,.0f} cases/s{len(document) / seconds / 1e6:>6.0f} MB/s{ratio:>8.2f} x"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="nine rounds, and a report of 1 GiB")
    parser.add_argument("--grow", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.grow:
        grow(arguments.grow)
        return
    document = report(CASES)
    taken = measure(document, 9 if arguments.full else 5)
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(f"{CASES:,} cases; lxml {etree.__version__}")
    table("one in a thousand fails, five are skipped", document, taken)
    unhealthy = report(CASES, every=100)
    table("ten in a thousand fail, fifty are skipped", unhealthy, measure(unhealthy, 3))
    mebibytes = 1024 if arguments.full else 256
    child = subprocess.run(
        [sys.executable, "-m", "bench.junit", "--grow", str(mebibytes)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown = json.loads(child.stdout)
    growth = f"resident memory grew by {grown['rss_growth_mib']} MiB"
    print(f"\na report of {mebibytes} MiB, {grown['tests']:,} tests: {growth}")
    own = taken["buildlight"]
    figures = {
        "vs_lxml": round(taken["lxml iterparse, same fields"] / own, 2),
        "vs_junitparser": round(taken["junitparser, same fields"] / own, 2),
        "rss_growth_mib": grown["rss_growth_mib"],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
