# ruff: noqa: E501 -- documents stand here as tools write them
"""Reports that mean harm: refused or read, quickly, in bounded memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from reports.errors import UnreadableError
from tests.unit.reports.documents import counts, read

ROOT = Path(__file__).parents[3]

MEASURE = """
import resource, sys, asyncio, itertools
from reports.reader import ReportReader
from reports.errors import UnreadableError
PIECE = 65_536
def high(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def feed(pieces):
    reader, tests = ReportReader(), 0
    try:
        for piece in pieces: tests += len(reader.feed(piece))
        tests += len(reader.close())
        said = ""
    except UnreadableError as error:
        said = str(error)
    return tests, said
feed([b'<testsuite><testcase name="a"><failure>x</failure></testcase></testsuite>'])
before = high()
tests, said = feed(PIECES)
print(tests, round(high() - before), said)
"""

LONG_TEXT = "itertools.repeat(b'x' * PIECE, 4800)"  # 300 MiB
TEXT = "itertools.repeat(b'x' * PIECE, 1600)"  # 100 MiB
HOSTILE = {
    "text": f"itertools.chain([b'<testsuite><testcase name=\"a\"><failure>'], {TEXT}, [b'</failure></testcase></testsuite>'])",
    "cdata": f"itertools.chain([b'<testsuite><testcase name=\"a\"><failure><![CDATA['], {LONG_TEXT}, [b']]></failure></testcase></testsuite>'])",
    "output": f"itertools.chain([b'<testsuite><testcase name=\"a\"><system-out><![CDATA['], {TEXT}, [b']]></system-out></testcase></testsuite>'])",
    "attribute": f"itertools.chain([b'<testsuite><testcase name=\"a'], {TEXT}, [b'\"/></testsuite>'])",
    "comment": f"itertools.chain([b'<testsuite><!--'], {TEXT}, [b'--></testsuite>'])",
    "prolog": f"itertools.chain([b'<!--'], {TEXT}, [b'--><testsuite/>'])",
    "nothing": TEXT,
    "names": "itertools.chain([b'<testsuite>'], (b''.join(b'<n%d/>' % (i * 5000 + j) for j in range(5000)) for i in range(2000)))",
    "attributes": "[b'<testsuite><testcase ' + b' '.join(b'a%d=\"\"' % i for i in range(400_000)) + b'/></testsuite>']",
    "references": "itertools.chain([b'<testsuite><testcase name=\"a\"><failure>'], itertools.repeat(b'&#27;' * 12_000, 500))",
    "depth": "itertools.chain([b'<testsuite>'], itertools.repeat(b'<a>' * 20_000, 100))",
    "ampersands": "itertools.chain([b'<testsuite><testcase name=\"a\"><failure>'], itertools.repeat(b'& ' * 30_000, 500))",
}


@pytest.mark.parametrize("pieces", HOSTILE.values(), ids=HOSTILE)
def test_memory_stays_bounded(pieces: str) -> None:
    """Whatever is endless in a document, memory does not grow with it."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.replace("PIECES", pieces)],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'contracts'}"},
        capture_output=True,
        text=True,
        timeout=80,
        check=True,
    )
    tests, grown, *said = done.stdout.split(maxsplit=2)
    assert int(grown) < 64, (tests, grown, said)
    assert int(tests) == 1 or said


BILLION_LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE testsuite [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<testsuite><testcase name="&c;"/></testsuite>"""

EXTERNAL = '<!DOCTYPE testsuite [<!ENTITY x SYSTEM "file:///etc/passwd">]><testsuite><testcase name="a"><failure>&x;</failure></testcase></testsuite>'


@pytest.mark.parametrize("document", [BILLION_LAUGHS, EXTERNAL, BILLION_LAUGHS.replace("]>", "")])
def test_declarations_are_refused(document: str) -> None:
    """No entity is ever expanded, no file is ever opened."""
    with pytest.raises(UnreadableError, match="document type"):
        read(document)


def test_declarations_in_the_middle() -> None:
    """Nor those of a second document behind the first."""
    cases, reader = read('<testsuite><testcase name="a"/></testsuite>' + EXTERNAL)
    assert "root:" not in str(cases)
    assert reader.totals.tests == 2
    assert "&x;" in str(cases[1])


def test_a_document_type_alone() -> None:
    """Without declarations it is passed over; nothing is fetched for it."""
    document = '<?xml version="1.0"?><!DOCTYPE testsuite SYSTEM "http://127.0.0.1:1/x.dtd"><testsuite><testcase name="a"/></testsuite>'
    assert counts(read(document)[1]) == (1, 1, 0, 0, 0, 0)
