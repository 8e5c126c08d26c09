# ruff: noqa: E501 -- documents stand here as tools write them
"""TRX, xUnit.net, NUnit and TestNG."""

from datetime import UTC, datetime

import pytest

from buildlight_contracts.test_results import Outcome
from tests.unit.reports.documents import counts, read

TRX = """<?xml version="1.0" encoding="utf-8"?>
<TestRun id="1" xmlns="http://microsoft.com/schemas/VisualStudio/TeamTest/2010">
  <Times creation="2026-03-01T10:00:00.0000000+01:00" start="2026-03-01T10:00:01.1+01:00" finish="2026-03-01T10:00:02.1234567+01:00" />
  <Results>
    <UnitTestResult executionId="e1" testId="t1" testName="Adds" duration="00:00:01.5000000" outcome="Passed"/>
    <UnitTestResult executionId="e2" testId="t2" testName="Acme.CartTest.Fails" duration="00:00:00.0100000" outcome="Failed">
      <Output><StdOut>noise</StdOut><ErrorInfo><Message>Assert.AreEqual failed</Message><StackTrace>at Acme.CartTest.Fails() in C:\\a.cs:line 3</StackTrace></ErrorInfo></Output>
    </UnitTestResult>
    <UnitTestResult executionId="e3" testId="t3" testName="Hangs" outcome="Timeout"/>
    <UnitTestResult executionId="e4" testId="t4" testName="Waits" outcome="NotExecuted"/>
    <UnitTestResult executionId="e5" testId="t5" testName="Rows" outcome="Failed" resultType="DataDrivenTest">
      <InnerResults>
        <UnitTestResult parentExecutionId="e5" testId="t5" testName="Rows (1)" outcome="Passed" resultType="DataDrivenDataRow"/>
        <UnitTestResult parentExecutionId="e5" testId="t5" testName="Rows (2)" outcome="Failed" resultType="DataDrivenDataRow"/>
      </InnerResults>
    </UnitTestResult>
  </Results>
  <TestDefinitions>
    <UnitTest name="Adds" storage="c:\\src\\acme.tests.dll" id="t1"><Execution id="e1" /><TestMethod codeBase="x" className="Acme.CartTest" name="Adds"/></UnitTest>
    <UnitTest name="Acme.CartTest.Fails" storage="/src/acme.tests.dll" id="t2"><TestMethod className="Acme.CartTest" name="Fails" /></UnitTest>
    <UnitTest name="Rows" storage="acme.tests.dll" id="t5"><TestMethod className="Acme.RowTest, Acme, Version=1.0" name="Rows" /></UnitTest>
  </TestDefinitions>
  <ResultSummary outcome="Failed"><Counters total="5" executed="4" passed="1" failed="2" /><RunInfos><RunInfo outcome="Error"><Text>x</Text></RunInfo></RunInfos></ResultSummary>
</TestRun>
"""


def test_trx() -> None:
    """Classes come from the definitions; of a data-driven test its rows count, not itself."""
    cases, reader = read(TRX)
    assert [(case.classname, case.name, case.outcome.value) for case in cases] == [
        ("Acme.CartTest", "Adds", "passed"),
        ("Acme.CartTest", "Fails", "failed"),
        (None, "Hangs", "error"),
        (None, "Waits", "skipped"),
        ("Acme.RowTest", "Rows (1)", "passed"),
        ("Acme.RowTest", "Rows (2)", "failed"),
    ]
    assert (cases[0].suite, cases[0].duration_seconds) == ("acme.tests.dll", 1.5)
    assert cases[1].message == "Assert.AreEqual failed"
    assert (cases[1].detail or "").startswith("at Acme.CartTest.Fails()")
    assert counts(reader) == (6, 2, 2, 1, 1, 0)
    assert reader.reported_at == datetime(2026, 3, 1, 9, 0, 2, 123456, tzinfo=UTC)
    assert reader.format == "trx"


def test_trx_too_large_to_wait() -> None:
    """Results do not wait for their definitions without end: memory stays bounded, and a note says what is missing."""
    result = '<UnitTestResult testId="t1" testName="A" outcome="Passed"/>'
    _, reader = read(f"<TestRun><Results>{result * 20_000}</Results></TestRun>", portion=65_536)
    assert reader.totals.tests == 20_000
    assert any("definitions" in note for note in reader.notes)


XUNIT = """<?xml version="1.0" encoding="utf-8"?>
<assemblies timestamp="03/01/2026 10:00:00">
  <assembly name="C:\\src\\Acme.Tests.dll" run-date="2026-03-01" run-time="10:00:00" total="4" passed="2" failed="1" skipped="1" errors="1">
    <errors><error type="assembly-cleanup"><failure exception-type="X"><message>m</message></failure></error></errors>
    <collection total="4" name="Test collection for Acme.CartTest">
      <test name="Acme.CartTest.Adds(a: 1, b: 2)" type="Acme.CartTest" method="Adds" time="0.25" result="Pass"><traits><trait name="c" value="d"/></traits></test>
      <test name="Acme.CartTest.Adds(a: 2, b: 2)" type="Acme.CartTest" method="Adds" time="0.25" result="Pass"/>
      <test name="Fails nicely" type="Acme.CartTest" method="Fails" time="0.1" result="Fail"><output>noise</output><failure exception-type="Xunit.Sdk.EqualException"><message><![CDATA[Assert.Equal() Failure]]></message><stack-trace><![CDATA[at x]]></stack-trace></failure></test>
      <test name="Acme.CartTest.Waits" type="Acme.CartTest" method="Waits" result="Skip"><reason><![CDATA[later]]></reason></test>
    </collection>
  </assembly>
</assemblies>
"""


def test_xunit() -> None:
    """Display names keep their arguments and lose the class in front."""
    cases, reader = read(XUNIT)
    assert [(case.classname, case.name, case.outcome.value) for case in cases] == [
        ("Acme.CartTest", "Adds(a: 1, b: 2)", "passed"),
        ("Acme.CartTest", "Adds(a: 2, b: 2)", "passed"),
        ("Acme.CartTest", "Fails nicely", "failed"),
        ("Acme.CartTest", "Waits", "skipped"),
    ]
    assert (cases[2].failure_type, cases[2].message, cases[2].detail) == (
        "Xunit.Sdk.EqualException",
        "Assert.Equal() Failure",
        "at x",
    )
    assert (cases[3].message, cases[3].suite) == ("later", "Acme.Tests.dll")
    assert counts(reader) == (4, 2, 1, 0, 1, 0)
    assert reader.notes == ("errors outside any test, not counted (1)",)


NUNIT3 = """<?xml version="1.0" encoding="utf-8"?>
<test-run id="2" testcasecount="5" result="Failed" total="5" passed="1" failed="2" start-time="2026-03-01 10:00:00Z">
  <test-suite type="Assembly" name="Acme.Tests.dll" fullname="/src/Acme.Tests.dll">
    <failure><message>One or more child tests had errors</message></failure>
    <test-suite type="TestFixture" name="CartTest(1)" classname="Acme.CartTest">
      <test-case name="Adds" fullname="Acme.CartTest(1).Adds" methodname="Adds" classname="Acme.CartTest" result="Passed" duration="0.5"/>
      <test-case name="Fails" fullname="x" classname="Acme.CartTest" result="Failed" duration="0.25"><failure><message>Expected 1</message><stack-trace>at x</stack-trace></failure><output>noise</output><assertions><assertion><message>no</message></assertion></assertions></test-case>
      <test-case name="Throws" fullname="x" classname="Acme.CartTest" result="Failed" label="Error"/>
      <test-case name="Waits" fullname="x" classname="Acme.CartTest" result="Skipped" label="Ignored"><reason><message>later</message></reason></test-case>
      <test-case name="Hm" fullname="x" classname="Acme.CartTest" result="Inconclusive"/>
    </test-suite>
  </test-suite>
</test-run>
"""

NUNIT2 = """<test-results name="Acme.dll" total="4"><test-suite name="/src/Acme.dll"><results><test-suite name="CartTest"><results>
<test-case name="Acme.CartTest.Adds(1.5,&quot;a.b&quot;)" executed="True" result="Success" success="True" time="0.016"/>
<test-case name="Acme.CartTest.Fails" executed="True" result="Failure" success="False" time="0,100"><failure><message>m</message><stack-trace>s</stack-trace></failure></test-case>
<test-case name="Acme.CartTest.Throws" executed="True" result="Error"/>
<test-case name="Acme.CartTest.Waits" executed="False" result="Ignored"><reason><message>later</message></reason></test-case>
<test-case name="Acme.CartTest.Old" executed="False"/>
<test-case name="Acme.CartTest.OldToo" executed="True" success="False"/>
</results></test-suite></results></test-suite></test-results>"""


def test_nunit3() -> None:
    """An error is a failure labelled so; what was inconclusive counts as skipped; fixtures stay apart."""
    cases, reader = read(NUNIT3)
    assert [case.outcome.value for case in cases] == ["passed", "failed", "error", "skipped", "skipped"]
    assert cases[0].suite == "Acme.Tests.dll > CartTest(1)"
    assert (cases[1].message, cases[1].detail) == ("Expected 1", "at x")
    assert cases[3].message == "later"
    assert counts(reader) == (5, 1, 1, 1, 2, 0)
    assert reader.reported_at == datetime(2026, 3, 1, 10, tzinfo=UTC)


def test_nunit2() -> None:
    """Class and name come from the full name, whose arguments may have dots of their own."""
    cases, reader = read(NUNIT2)
    assert (cases[0].classname, cases[0].name) == ("Acme.CartTest", 'Adds(1.5,"a.b")')
    assert cases[0].suite == "Acme.dll > CartTest"
    assert cases[1].duration_seconds == 0.1
    assert [case.outcome.value for case in cases] == [
        "passed",
        "failed",
        "error",
        "skipped",
        "skipped",
        "failed",
    ]
    assert counts(reader) == (6, 1, 2, 1, 2, 0)


TESTNG = """<?xml version="1.0" encoding="UTF-8"?>
<testng-results ignored="0" total="5" passed="2" failed="1" skipped="2">
  <reporter-output></reporter-output>
  <suite started-at="2026-03-01T10:00:00Z" name="Suite" finished-at="2026-03-01T10:00:10Z" duration-ms="10000">
    <groups></groups>
    <test name="Smoke"><class name="acme.CartTest">
      <test-method is-config="true" signature="setUp()" name="setUp" status="FAIL" duration-ms="5"/>
      <test-method signature="flaky()" name="flaky" status="PASS" duration-ms="1500"/>
      <test-method signature="flaky()" name="flaky" status="SKIP" retried="true" duration-ms="500"><exception class="java.lang.AssertionError"><message><![CDATA[ once ]]></message><full-stacktrace><![CDATA[at x]]></full-stacktrace></exception></test-method>
      <test-method signature="adds" name="adds" status="PASS" duration-ms="1"><params><param index="0"><value><![CDATA[1]]></value></param><param index="1"><value><![CDATA[acme.Cart@1f2e3d]]></value></param></params></test-method>
      <test-method signature="fails" name="fails" status="FAIL" duration-ms="2"><exception class="E"><message>m</message><full-stacktrace>s</full-stacktrace></exception><reporter-output/></test-method>
      <test-method signature="waits" name="waits" status="SKIP" duration-ms="0"/>
    </class></test>
  </suite>
</testng-results>
"""


def test_testng() -> None:
    """Set-up is no test; an execution that was retried is an attempt; parameters tell executions apart."""
    cases, reader = read(TESTNG)
    flaky, adds, fails, waits = cases
    assert [(a.outcome, a.message, a.duration_seconds) for a in flaky.attempts] == [
        (Outcome.FAILED, "once", 0.5),
        (Outcome.PASSED, None, 1.5),
    ]
    assert adds.name == "adds(1, acme.Cart)"
    assert (fails.failure_type, fails.message, fails.detail) == ("E", "m", "s")
    assert waits.outcome is Outcome.SKIPPED
    assert {(case.suite, case.classname) for case in cases} == {("Suite > Smoke", "acme.CartTest")}
    assert counts(reader) == (4, 2, 1, 0, 1, 1)
    assert len(reader.notes) == 1


@pytest.mark.parametrize(
    "document", [TRX, XUNIT, NUNIT3, NUNIT2, TESTNG], ids=["trx", "xunit", "nunit3", "nunit2", "testng"]
)
def test_portions_make_no_difference(document: str) -> None:
    """However the bytes come in, the cases are the same."""
    for portion in (1, 17, 333):
        assert read(document, portion)[0] == read(document)[0]


@pytest.mark.parametrize(
    "document", [TRX, XUNIT, NUNIT3, NUNIT2, TESTNG], ids=["trx", "xunit", "nunit3", "nunit2", "testng"]
)
def test_cut_off_anywhere(document: str) -> None:
    """A report that ends in the middle never crashes."""
    for end in range(60, len(document), 41):
        cases, reader = read(document[:end])
        assert reader.totals.tests == len(cases)
