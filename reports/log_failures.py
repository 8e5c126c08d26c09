"""What in a log tells that something failed: words of CI systems, of languages, and of common tools."""

import re
from typing import Literal

from reports.log_lines import Line

FoundBy = Literal["error_marker", "exception", "failure_line", "exit_code", "tail"]

RANK: tuple[FoundBy, ...] = ("error_marker", "failure_line", "exception", "exit_code")
"""Which is shown when several are there. A tool's own line before an exception: passing tests log exceptions too."""

_CUES = (
    "error", "fail", "exception", "fatal", "panic", "traceback", "caused by", "uncaught", "unhandled", "terminat",
    "segmentation", "not ok", "●", "✕", "✗", "exit", "err!", "e  ", "undefined reference", "went wrong",
    "not found", "returned", "canceled", "cancelled", "aborted", "unstable", ".go:", "denied", "killed",
    "cannot", "unable", "***", "stopped", "no such", "no space", "out of memory", "enoent", "econnrefused",
)  # fmt: skip

_CLOCK = r"(?:\[?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]?\s{1,4})?"

_ENDS = re.compile(
    r"Process completed with exit code [1-9-]"
    r"|ERROR: Job failed"
    r"|ERROR: script returned exit code [1-9-]"
    r"|Build step '.{1,200}' marked build as failure"
    r"|Finished: (?:FAILURE|ABORTED|UNSTABLE|NOT_BUILT)$"
    r"|The operation was cancell?ed\.$"
    r"|The (?:job|runner) .{0,200}(?:exceeded|lost communication|has received a shutdown signal)"
)
_EXIT_CODE = re.compile(
    r"(?i)\b(?:exit(?:ed)?(?: with)?(?: an?)?(?: error)?(?: code| status|code)[:= ]{1,3}-?[1-9]\d{0,9}"
    r"|returned (?:a )?non-?zero|non-zero exit (?:code|status))"
)
_EXCEPTION = re.compile(
    _CLOCK + r"\s{0,12}(?:"
    r"Traceback \(most recent call last\)"
    r"|Exception in thread \""
    r"|(?:[\w$]{1,80}\.){1,12}[A-Z]\w{0,100}(?:Exception|Error)(?::|$)"
    r"|[A-Z]\w{0,100}(?:Exception|Error)(?: \[\w+\])?:\s"
    r"|(?:Uncaught|Unhandled) "
    r"|panic: |fatal error: |thread '.{0,200}' panicked at|goroutine \d+ \[running\]"
    r"|terminate called after throwing|==\d+==ERROR: \w+Sanitizer|Segmentation fault"
    r"|\[error\] .{0,40}Exception)"
)
_LINE_START = re.compile(
    _CLOCK + r"(?:"
    # Python
    r"=+ (?:FAILURES|ERRORS) =+$|FAILED \S|E {3,}\S|ERROR collecting |(?:FAIL|ERROR): \w+ \("
    # JavaScript
    r"|\s{0,8}● \S|\s{0,4}(?:✕|✗|×) \S|\s{0,4}FAIL\s{1,4}\S+\.\w+|\s{0,4}\d{1,6} failing$|not ok \d"
    r"|npm (?:ERR!|error) |error Command failed|\s?ERR_PNPM|\s{1,8}\d{1,6}:\d{1,6}\s{1,8}error\s"
    # Go
    r"|\s{0,16}--- FAIL: |FAIL\s{1,4}[\w./-]+|FAIL$|(?:\./|\.\./)?[\w./-]{1,300}\.go:\d{1,7}:\d{1,5}: "
    # Java, Kotlin, Scala
    r"|\[ERROR\] \S|FAILURE: Build failed|> Task \S{1,300} FAILED|\* What went wrong|\[error\] \S"
    r"|\S.{0,300} > .{0,300} FAILED$|Tests run: \d{1,9}, Failures: (?:[1-9]|0, Errors: [1-9])"
    # Rust, C, C++, make
    r"|error(?:\[E\d{4}\])?: |test .{1,300} \.\.\. FAILED|test result: FAILED|make(?:\[\d+\])?: \*\*\* "
    r"|ninja: build stopped|CMake Error|FAILED: \S|collect2: error|ld(?:\.\w+)?: "
    # Ruby, PHP, .NET, TAP
    r"|Failures:$|rspec \./|There (?:was|were) \d{1,9} (?:failure|error)|\s{0,4}Failed \S.{0,300}\[\d"
    r"|Failed!\s{1,4}- Failed: |\[FAIL\] |.{0,300} \[FAIL\]$"
    # The rest
    r"|ERROR: |Error: |FATAL|fatal: |\[FATAL\]|│ Error: |curl: \(\d|E: |ERROR\s{1,4}\S"
    r"|\S{1,100}: line \d{1,7}: |(?:ba)?sh: \d{0,7}:? ?.{1,200}: not found)"
)
_ANYWHERE = re.compile(
    r":\d{1,7}(?::\d{1,5})?:? (?:fatal )?[eE]rror\b|\(\d{1,7},\d{1,5}\): error [A-Z]|: error [A-Z]{1,10}\d{1,6}:"
    r"|undefined reference to |: command not found$|: Permission denied$|: No space left on device"
    r"|\bKilled$|[Oo]ut of memory|ENOENT: |EACCES: |ECONNREFUSED"
)
_HARMLESS = re.compile(r"(?i)\b(?:0 (?:errors?|failed|failures?)|no errors?|without errors?)\b")


def sign(line: Line) -> tuple[FoundBy | None, bool]:
    """What the line gives away; and whether with it the CI system itself ends a step or a job as failed."""
    text = line.text
    is_marked = any(mark.kind == "error" for mark in line.marks)
    if not is_marked:
        if line.marks or not text:
            return None, False
        lower = text.lower()
        for cue in _CUES:
            if cue in lower:
                break
        else:
            return None, False
    if _ENDS.search(text):
        return "exit_code", True
    if is_marked:
        return "error_marker", False
    if _LINE_START.match(text) or _ANYWHERE.search(text):
        return (None if _HARMLESS.search(text) else "failure_line"), False
    if _EXCEPTION.match(text):
        return "exception", False
    if _EXIT_CODE.search(text):
        return "exit_code", False
    return None, False
