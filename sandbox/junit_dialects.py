"""Test reports as the tools themselves write them: five dialects of JUnit's XML, oddities included.

Only Surefire tells of earlier executions of one test; the others keep the last.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from sandbox.catalogue import Repository
from sandbox.suites import Result, Trouble

Files = dict[str, bytes]
Writer = Callable[[str, Sequence[Result], float], Files]
"""Takes a repository's name, results and the time the tests began (POSIX)."""


def written(repository: Repository, results: Sequence[Result], began: float) -> Files:
    """The report of one job, by path, in the dialect of the repository's language."""
    return DIALECTS[dialect_of(repository)](repository.name, results, began)


def dialect_of(repository: Repository) -> str:
    return _OF_LANGUAGE.get(repository.language, "pytest")


def pytest(name: str, results: Sequence[Result], began: float) -> Files:
    """One suite for all, modules as dotted class names, on a single line."""
    cases = []
    for result in results:
        file = f"tests/test_{_snake(result.test.group)}.py"
        inside = ""
        if result.trouble and result.outcome == "failed":
            inside = f"<failure message={_attribute(_told(result.trouble))}>{_python(result, file)}</failure>"
        elif result.trouble:
            # An unexpected exception in the test itself is a failure to pytest.
            inside = f"<failure message={_attribute(_told(result.trouble))}>{_python(result, file)}</failure>"
        elif result.outcome == "skipped":
            at = f"/home/runner/work/{name}/{name}/{file}:{result.test.line}"
            inside = (
                f'<skipped type="pytest.skip" message={_attribute(result.reason)}>'
                f"{escape(at)}: {escape(result.reason)}</skipped>"
            )
        cases.append(
            f'<testcase classname="tests.test_{_snake(result.test.group)}" '
            f'name="test_{_snake(result.test.deed)}" time="{result.seconds:.3f}"'
            + (f">{inside}</testcase>" if inside else " />")
        )
    failures = sum(result.trouble is not None for result in results)
    head = (
        f'<testsuite name="pytest" errors="0" failures="{failures}" skipped="{_count(results, "skipped")}" '
        f'tests="{len(results)}" time="{_seconds(results):.3f}" timestamp="{_iso(began)}.482913+00:00" '
        'hostname="fv-az1054-982">'
    )
    body = f"<testsuites>{head}{''.join(cases)}</testsuite></testsuites>"
    return {"junit.xml": f'<?xml version="1.0" encoding="utf-8"?>{body}'.encode()}


def jest(name: str, results: Sequence[Result], began: float) -> Files:
    """jest-junit's defaults: class name and name are the whole title; a failure's text is its trace, in colour."""
    del name
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        (
            f'<testsuites name="jest tests" tests="{len(results)}" failures="{_bad(results)}" errors="0" '
            f'time="{_seconds(results):.3f}">'
        ),
    ]
    for group, some in _by_group(results):
        lines.append(
            f'  <testsuite name="{escape(group)}" errors="0" failures="{_bad(some)}" '
            f'skipped="{_count(some, "skipped")}" timestamp="{_iso(began)}" time="{_seconds(some):.3f}" '
            f'tests="{len(some)}">'
        )
        for result in some:
            title = _attribute(f"{group} {result.test.deed}")
            lines.append(f'    <testcase classname={title} name={title} time="{result.seconds:.3f}">')
            if result.trouble:
                lines.append(f"      <failure>{_javascript(result)}</failure>")
            elif result.outcome == "skipped":
                lines.append("      <skipped/>")
            lines.append("    </testcase>")
        lines.append("  </testsuite>")
    return {"reports/junit.xml": _document(lines, "</testsuites>")}


def gtest(name: str, results: Sequence[Result], began: float) -> Files:
    """Google Test: one file a program, times of each test, disabled tests not run at all."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        (
            f'<testsuites tests="{len(results)}" failures="{_bad(results)}" disabled="{_count(results, "skipped")}" '
            f'errors="0" time="{_seconds(results):g}" timestamp="{_iso(began)}.482" name="AllTests">'
        ),
    ]
    for group, some in _by_group(results):
        suite, file = f"{_camel(group)}Test", f"/home/runner/work/{name}/{name}/test/{_snake(group)}_test.cc"
        lines.append(
            f'  <testsuite name="{suite}" tests="{len(some)}" failures="{_bad(some)}" '
            f'disabled="{_count(some, "skipped")}" skipped="0" errors="0" time="{_seconds(some):g}" '
            f'timestamp="{_iso(began)}.482">'
        )
        for result in some:
            off = result.outcome == "skipped"
            case = (
                f'    <testcase name="{"DISABLED_" if off else ""}{_camel(result.test.deed)}" file="{file}" '
                f'line="{result.test.line}" status="{"notrun" if off else "run"}" '
                f'result="{"suppressed" if off else "completed"}" time="{result.seconds:g}" '
                f'timestamp="{_iso(began)}.482" classname="{suite}"'
            )
            if not result.trouble:
                lines.append(f"{case} />")
                continue
            text = f"{file}:{result.test.line + 4}\n{_told(result.trouble)}"
            lines += [
                f"{case}>",
                f'      <failure message={_attribute(text)} type=""><![CDATA[{text}]]></failure>',
                "    </testcase>",
            ]
        lines.append("  </testsuite>")
    return {f"build/{name}_test.xml": _document(lines, "</testsuites>")}


def go(name: str, results: Sequence[Result], began: float) -> Files:
    """As go-junit-report writes it: a suite a package, the output as the failure, tabs."""
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites tests="{len(results)}" failures="{_bad(results)}" skipped="{_count(results, "skipped")}">',
    ]
    for number, (group, some) in enumerate(_by_group(results)):
        package = f"acme.example/{name}/{_snake(group)}"
        lines += [
            (
                f'\t<testsuite name="{package}" tests="{len(some)}" failures="{_bad(some)}" errors="0" '
                f'id="{number}" hostname="fv-az1054-982" skipped="{_count(some, "skipped")}" '
                f'time="{_seconds(some):.3f}" timestamp="{_iso(began)}Z">'
            ),
            "\t\t<properties>",
            '\t\t\t<property name="go.version" value="go1.24.1 linux/amd64"></property>',
            "\t\t</properties>",
        ]
        for result in some:
            case = (
                f'\t\t<testcase name="Test{_camel(result.test.deed)}" classname="{package}" '
                f'time="{result.seconds:.3f}">'
            )
            file = f"{_snake(group)}_test.go:{result.test.line}"
            if result.trouble:
                lines += [
                    case,
                    f'\t\t\t<failure message="Failed"><![CDATA[    {file}: {_told(result.trouble)}]]></failure>',
                    "\t\t</testcase>",
                ]
            elif result.outcome == "skipped":
                skip = f'\t\t\t<skipped message="Skipped"><![CDATA[    {file}: {result.reason}]]></skipped>'
                lines += [case, skip, "\t\t</testcase>"]
            else:
                lines.append(f"{case}</testcase>")
        lines.append("\t</testsuite>")
    return {"report.xml": _document(lines, "</testsuites>")}


def surefire(name: str, results: Sequence[Result], began: float) -> Files:
    """Maven: a file a class beside its plain text, with the executions before the last one.

    `rerunFailingTestsCount` is 1: a test that fails twice has a failure and a `rerunFailure`, one that passes
    the second time a `flakyFailure`.
    """
    del began  # Surefire's reports have no time of their own
    files: Files = {}
    for group, some in _by_group(results):
        kind = f"com.acme.{_snake(name)}.{_camel(group)}Test"
        errors = sum(result.outcome == "error" for result in some)
        lines = [
            '<?xml version="1.0" encoding="UTF-8"?>',
            (
                '<testsuite xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation='
                '"https://maven.apache.org/surefire/maven-surefire-plugin/xsd/surefire-test-report.xsd" '
                f'version="3.0.2" name="{kind}" time="{_seconds(some):.3f}" tests="{len(some)}" errors="{errors}" '
                f'skipped="{_count(some, "skipped")}" failures="{_count(some, "failed")}">'
            ),
            "  <properties>",
            '    <property name="java.specification.version" value="21"/>',
            "  </properties>",
        ]
        for result in some:
            case = f'  <testcase name="{_lower_camel(result.test.deed)}" classname="{kind}" time="{result.seconds:.3f}"'
            inside = _surefire_inside(result, kind)
            lines += [f"{case}>", *inside, "  </testcase>"] if inside else [f"{case}/>"]
        files[f"target/surefire-reports/TEST-{kind}.xml"] = _document(lines, "</testsuite>")
        summary = f"Tests run: {len(some)}, Failures: {_count(some, 'failed')}, Errors: {errors}"
        files[f"target/surefire-reports/{kind}.txt"] = f"Test set: {kind}\n{summary}\n".encode()
    return files


def _surefire_inside(result: Result, kind: str) -> list[str]:
    if result.outcome == "skipped":
        return [f"    <skipped message={_attribute(result.reason)}/>"]
    lines = []
    if result.trouble:
        tag = "failure" if result.outcome == "failed" else "error"
        trace = _java(result.trouble, kind, result)
        lines.append(f"    <{tag} {_of(result.trouble)}><![CDATA[{trace}]]></{tag}>")
    word = "rerun" if result.trouble else "flaky"
    for trouble in result.before:
        tag = f"{word}{'Failure' if trouble.type == 'AssertionError' else 'Error'}"
        trace = _java(trouble, kind, result)
        lines += [
            f"    <{tag} {_of(trouble)}>",
            f"      <stackTrace><![CDATA[{trace}]]></stackTrace>",
            f"    </{tag}>",
        ]
    return lines


DIALECTS: Mapping[str, Writer] = {
    "pytest": pytest,
    "jest": jest,
    "gtest": gtest,
    "go": go,
    "surefire": surefire,
}
_OF_LANGUAGE = {"TypeScript": "jest", "Python": "pytest", "C++": "gtest", "Go": "go", "Java": "surefire"}


def _of(trouble: Trouble) -> str:
    return f"message={_attribute(trouble.message)} type={_attribute(_java_type(trouble))}"


def _java_type(trouble: Trouble) -> str:
    return {
        "AssertionError": "org.opentest4j.AssertionFailedError",
        "TimeoutError": "java.util.concurrent.TimeoutException",
        "ConnectionError": "java.net.SocketException",
        "StaleElementError": "org.openqa.selenium.StaleElementReferenceException",
    }.get(trouble.type, "java.lang.NullPointerException")


def _java(trouble: Trouble, kind: str, result: Result) -> str:
    at = f"{kind}.{_lower_camel(result.test.deed)}({kind.rsplit('.', 1)[-1]}.java:{result.test.line})"
    return f"{_java_type(trouble)}: {trouble.message}\n\tat {at}\n"


def _python(result: Result, file: str) -> str:
    told = _told(result.trouble)
    return escape(
        f"def test_{_snake(result.test.deed)}():\n>       check()\nE       {told}\n\n"
        f"{file}:{result.test.line}: {result.trouble.type if result.trouble else ''}"
    )


def _javascript(result: Result) -> str:
    # Jest colours what it says, and an escape character is nothing XML may hold: jest-junit leaves it out.
    return escape(
        f"Error: [31m{_told(result.trouble)}[39m\n"
        f"    at Object.<anonymous> (src/{_snake(result.test.group)}.test.ts:{result.test.line}:17)"
    )


def _told(trouble: Trouble | None) -> str:
    return f"{trouble.type}: {trouble.message}" if trouble else ""


def _by_group(results: Iterable[Result]) -> list[tuple[str, list[Result]]]:
    return [(group, list(some)) for group, some in groupby(results, key=lambda result: result.test.group)]


def _bad(results: Iterable[Result]) -> int:
    return sum(result.trouble is not None for result in results)


def _count(results: Iterable[Result], outcome: str) -> int:
    return sum(result.outcome == outcome for result in results)


def _seconds(results: Iterable[Result]) -> float:
    return round(sum(result.seconds for result in results), 3)


def _document(lines: Sequence[str], end: str) -> bytes:
    return ("\n".join([*lines, end]) + "\n").encode()


def _attribute(text: str) -> str:
    return quoteattr(text, {"\n": "&#x0A;"})


def _snake(text: str) -> str:
    return text.lower().replace(" ", "_")


def _camel(text: str) -> str:
    return "".join(word.capitalize() for word in text.split())


def _lower_camel(text: str) -> str:
    camel = _camel(text)
    return camel[:1].lower() + camel[1:]


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%S")
