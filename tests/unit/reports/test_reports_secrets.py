"""What a test wrote about its failure is shown without secrets, whoever read the report."""

import pytest

from buildlight_contracts.test_results import Outcome, TestAttempt, TestCase
from reports.cases import LONGEST_DETAIL, Clip, without_secrets
from tests.unit.reports.documents import read

# Put together here so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
SAID = f"Authorization: Bearer {TOKEN}"
KEY = [f"MIIE{n:02d}AIBAAKCAQEA7ynZ2fG0mE8Wq0d1c2VhcmNoIGluIHZhaW4gZm9yIG1lYW5p{n:02d}" for n in range(12)]

JUNIT = f"""<testsuite name="s">
<testcase classname="C" name="a" time="1"><failure message="{SAID}">sent {TOKEN}
at line 3</failure></testcase>
<testcase classname="C" name="b" time="1"><error>password=hunter2hunter2</error></testcase>
<testcase classname="C" name="c" time="1"><flakyFailure message="{SAID}">x</flakyFailure></testcase>
<testcase classname="C" name="d" time="1"><flakyError>{SAID}</flakyError></testcase>
<testcase classname="C" name="e" time="1"><failure message="{SAID}"/><rerunFailure message="{TOKEN}"/></testcase>
</testsuite>"""
XUNIT = f"""<assemblies><assembly name="s"><collection><test name="N.C.a" type="N.C" method="a" time="1" result="Fail">
<failure exception-type="E"><message>{SAID}</message><stack-trace>in {TOKEN}</stack-trace></failure></test>
</collection></assembly></assemblies>"""
NUNIT = f"""<test-run><test-suite type="TestFixture" fullname="N.C"><test-case name="a" fullname="N.C.a"
result="Failed" duration="1"><failure><message>{SAID}</message><stack-trace>in {TOKEN}</stack-trace></failure>
</test-case></test-suite></test-run>"""


@pytest.mark.parametrize("document", [JUNIT, XUNIT, NUNIT], ids=["junit", "xunit", "nunit"])
def test_no_secret_of_a_report_is_shown(document: str) -> None:
    """In messages, details and attempts; what stands around them is."""
    cases, _ = read(document)
    told = "".join(case.model_dump_json() for case in cases)
    assert TOKEN not in told
    assert "hunter2" not in told
    assert "Authorization: [masked]" in (cases[0].message or "")
    assert "[masked]" in (cases[0].detail or "")


@pytest.mark.parametrize("distance", range(0, 60, 5))
def test_a_cut_goes_through_no_secret(distance: int) -> None:
    """Of a long text the middle is left out: a token that stands at either edge is not shown in part."""
    for before, after in ((4925 - distance, 9000), (9000, 2970 - distance)):
        clip = Clip()
        clip.add("x " * (before // 2) + TOKEN + " y" * (after // 2))
        text = clip.text() or ""
        assert "characters left out" in text
        assert "ghp_" not in text
        assert "0123456789" not in text


def test_the_rest_of_a_private_key() -> None:
    """A text whose end begins inside a private key."""
    clip = Clip()
    clip.add("x\n" * 5000 + "-----BEGIN PRIVATE KEY-----\n" + "\n".join(KEY * 5))
    clip.add("\n-----END PRIVATE KEY-----\nand then it failed")
    text = clip.text() or ""
    assert "MIIE" not in text
    assert text.endswith("[masked]\nand then it failed")


def test_masking_keeps_to_the_size() -> None:
    """What is put for a secret may be longer than it was."""
    clip = Clip()
    clip.add("pwd=a " * 1300)
    assert len(clip.text() or "") <= LONGEST_DETAIL


def test_of_results_that_a_provider_read() -> None:
    """Message, detail and attempts are masked, and a case that says nothing is left as it is."""
    quiet = TestCase(name="a", outcome=Outcome.PASSED)
    assert without_secrets(quiet) is quiet
    masked = without_secrets(
        TestCase(
            name="b",
            outcome=Outcome.FAILED,
            message=SAID,
            detail=f"line\n{TOKEN}",
            attempts=(
                TestAttempt(outcome=Outcome.FAILED, message=TOKEN),
                TestAttempt(outcome=Outcome.FAILED),
            ),
        )
    )
    assert masked.message == "Authorization: [masked]"
    assert masked.detail == "line\n[masked]"
    assert [one.message for one in masked.attempts] == ["[masked]", None]
