"""Masking of what must not be shown: tokens of well-known shapes, credentials in headers, addresses and assignments.

Wrong in one direction on purpose: what only looks like a secret is masked too. What has no shape and no name
(a password alone on a line) cannot be known; CI systems mask those they were told of.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

MASK = "[masked]"
LONGEST_LINE = 8192
"""Characters of a line that are looked at."""
_MARGIN = 512
"""At the end of a longer line so many are dropped: a secret that begins there cannot be recognised for sure."""

# A whole value that tells nothing: what CI masked, no value at all, or the name of what holds one. A variable's name
# is upper case, so that a password which begins with `$` is not taken for one.
_HARMLESS = (
    r"(?:(?:\*{3,}|\[masked\]|\[redacted\]|null|none|true|false|undefined|<[a-z-]{1,40}>|\$\([^()\r\n]{1,200}\)"
    r"|\$\{\{[\w .\[\]-]{1,200}\}\}|\$\{[A-Za-z_][\w.]{0,100}\}"
    r"|(?-i:\$[A-Z_][A-Z0-9_]{0,100}|%[A-Z_][A-Z0-9_]{0,100}%))[)\]}]{0,4}(?=[\s\"',;&]|$))"
)
_VALUE = r"(?:\"(?:\\.|[^\"\\])*\"?|'(?:\\.|[^'\\])*'?|[^\s\"',;&]+)"
_NAMES = (
    r"passw(?:or)?d|passwd|passphrase|pwd|secret|token(?!iz|s\b)|api[_-]?key|access[_-]?key|private[_-]?key"
    r"|account[_-]?key|shared[_-]?key|credentials?|signature"
)
_NAME_CUES = ("passw", "passphrase", "pwd", "secret", "token", "key", "credential", "signature")


@dataclass(frozen=True, slots=True)
class _Rule:
    """Of a match, what is outside the group `kept` is masked. Looked for in lines that hold one of `cues`."""

    cues: tuple[str, ...]
    pattern: re.Pattern[str]


def _rule(cues: tuple[str, ...], pattern: str) -> _Rule:
    return _Rule(cues, re.compile(pattern))


# No pattern may begin with a repetition, nor repeat one inside another: lines are long and hostile.
_RULES = (
    # Whole values first, then shapes.
    _rule(
        ("authorization", "-token", "api-key", "cookie"),
        r"(?i)(?P<kept>\b(?:(?:proxy-)?authorization|(?:private|job|deploy|auth|access|vault)-token|x-api-key"
        r"|x-auth-token|(?:set-)?cookie)[\"']?\s{0,4}[:=]\s{0,4})(?!\s|\*{3}|\[masked\])[^\r\n]+",
    ),
    _rule(("bearer ", "basic "), r"(?i)(?P<kept>\b(?:bearer|basic)\s{1,4})(?!\*{3})[A-Za-z0-9._~+/=-]{8,}"),
    # A password may hold what an address may not, even `@`; what looks like a port and a path is one.
    _rule(
        ("://",),
        r"(?P<kept>://)[^\s/?#@\"'<>:]{0,256}:(?!\d{1,5}(?:[/?#\s]|$))[^\s\"'<>]{1,512}(?=@)",
    ),
    _rule(("://",), r"(?P<kept>://)(?!\[masked\])[^\s/?#@\"'<>:]{12,512}(?=@)"),
    _rule(("login",), r"(?i)(?P<kept>\blogin\s+\S+\s+password\s+)\S+"),
    _rule(
        ("-u ", "-u\t", "--user"),
        rf"(?P<kept>(?<![\w-])(?:-u|--user)[ \t=]{{1,4}}[\"']?[^\s:\"']{{1,256}}:)(?!{_HARMLESS})[^\s\"']+",
    ),
    _rule(
        ("--",),
        rf"(?i)(?P<kept>--(?:[a-z0-9]{{1,20}}-){{0,4}}(?:{_NAMES})[ \t]{{1,4}})(?!--|{_HARMLESS}){_VALUE}",
    ),
    _rule(
        _NAME_CUES,
        rf"(?i)(?P<kept>(?:{_NAMES})[\w.-]{{0,40}}[\"'\]]{{0,2}}\s{{0,8}}(?::=|=>|={{1,2}}|:)\s{{0,8}})"
        rf"(?!=|{_HARMLESS}){_VALUE}",
    ),
    _rule(("sig=",), r"(?P<kept>[?&]sig=)[^\s&\"']+"),
    _rule(
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"\b(?:gh[pousr]_[A-Za-z0-9_]{10,}|github_pat_[A-Za-z0-9_]{10,})",
    ),
    _rule(
        ("gl", "gr1348941"),
        r"\b(?:gl(?:pat|ptt|dt|rt|rtr|cbt|ft|imt|agent|soat|oas|ffct|wt)-[A-Za-z0-9_.=-]{10,}|GR1348941[\w-]{10,})",
    ),
    _rule(("xox", "xapp-", "hooks.slack.com"), r"\bxox[a-z]-[A-Za-z0-9-]{6,}|\bxapp-[A-Za-z0-9-]{10,}"),
    _rule(
        ("hooks.slack.com",), r"(?P<kept>hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9/_-]+"
    ),
    _rule(
        ("akia", "asia", "agpa", "aida", "aroa", "anpa", "abia", "acca"),
        r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA|ANPA|ABIA|ACCA)[A-Z0-9]{12,}",
    ),
    _rule(("eyj",), r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]+){1,4}"),
    _rule(("aiza", "ya29.", "goc", "1//0"), r"\b(?:AIza[\w-]{30,}|ya29\.[\w-]{10,}|GOCSPX-[\w-]{10,})"),
    _rule(
        ("k_live_", "k_test_", "sk-", "sk"),
        r"\b(?:[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|sk-[A-Za-z0-9_-]{20,}|SK[0-9a-f]{32})",
    ),
    _rule(
        (
            "npm_",
            "pypi-",
            "sg.",
            "dckr_",
            "hvs.",
            "hvb.",
            "_v1_",
            "hf_",
            "atlasv1",
            "lin_api",
            "shpat_",
            "pul-",
        ),
        r"\b(?:npm_[A-Za-z0-9]{20,}|pypi-[\w-]{30,}|SG\.[\w-]{10,}(?:\.[\w-]+)?|dckr_[a-z]{2,4}_[\w-]{10,}"
        r"|hv[sb]\.[\w-]{16,}|do[opr]_v1_[a-f0-9]{20,}|hf_[A-Za-z0-9]{20,}|lin_api_\w{20,}|shpat_[a-fA-F0-9]{20,}"
        r"|pul-[a-f0-9]{20,})",
    ),
)

_BY_CUE = tuple((cue, rule) for rule in _RULES for cue in rule.cues)
_KEY_MARK = "-----begin"

_KEY_BEGINS = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_ENDS = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_KEY_MATERIAL = re.compile(r"[A-Za-z0-9+/=]{20}")
_KEY_LAST_LINE = re.compile(r"[\s|>+\"'\\n]*[A-Za-z0-9+/=\\]*[\s\"',\\n]*")
_KEY_HEADER = re.compile(r"[\s|>+]*(?:Proc-Type|DEK-Info|Comment|Version|Hash|Charset): ")
_LONGEST_KEY_LINES = 400


class Masker:
    """Masks line after line of one text: a private key goes on over several."""

    def __init__(self) -> None:
        self._by_cue = _BY_CUE
        self._key_lines = 0
        """How many lines of a private key were seen; 0 outside of one."""

    @classmethod
    def of(cls, lower: str) -> "Masker":
        """One for the lines of a whole text, here in lower case: it looks for what can be in there."""
        masker = cls()
        masker._by_cue = tuple((cue, rule) for cue, rule in _BY_CUE if cue in lower)
        return masker

    @property
    def is_idle(self) -> bool:
        return not self._by_cue

    def mask(self, line: str, *, is_cut: bool = False, key_begins: bool = False) -> tuple[str, int]:
        """The line with every secret replaced by `MASK`, and how many there were.

        Of a line longer than `LONGEST_LINE` the beginning is returned. `is_cut`: it was longer already, and
        `key_begins` in what was cut off.
        """
        if len(line) > LONGEST_LINE:
            is_cut = True
            key_begins = key_begins or _KEY_BEGINS.search(line, LONGEST_LINE - 100) is not None
            line = line[:LONGEST_LINE]
        count = 0
        if self._key_lines or "-----BEGIN" in line:
            line, count = self._keys(line)
        if key_begins:
            self._key_lines = max(1, self._key_lines)
        lower = line.lower()
        done: _Rule | None = None
        for cue, rule in self._by_cue:
            if rule is not done and cue in lower:
                line, found = _apply(rule.pattern, line)
                count += found
                done = rule
        return (line[: max(0, len(line) - _MARGIN)] if is_cut else line), count

    def _keys(self, line: str) -> tuple[str, int]:
        kept, count = "", 0
        while True:
            if self._key_lines:
                end = _KEY_ENDS.search(line)
                if end is None:
                    if not self._is_key(line):
                        self._key_lines = 0
                        return kept + line, count
                    self._key_lines += 1
                    return kept or MASK, count
                self._key_lines = 0
                line = line[end.end() :]
                kept = kept or MASK
            begin = _KEY_BEGINS.search(line)
            if begin is None:
                return kept + line, count
            count += 1
            kept += line[: begin.start()] + MASK
            line = line[begin.end() :]
            self._key_lines = 1
            if not _KEY_ENDS.search(line):
                # What follows on the same line is the key's, whatever it looks like.
                return kept, count

    def _is_key(self, line: str) -> bool:
        if self._key_lines > _LONGEST_KEY_LINES:
            return False
        return bool(_KEY_MATERIAL.search(line) or _KEY_LAST_LINE.fullmatch(line) or _KEY_HEADER.match(line))


def masked(text: str, *, is_end: bool = False) -> str:
    """A whole text with every secret masked. `is_end`: it may begin in the middle of a private key.

    Of a line longer than `LONGEST_LINE` the beginning is kept.
    """
    lower = text.lower()
    if is_end and (end := _KEY_ENDS.search(text)) and not _KEY_BEGINS.search(text, 0, end.start()):
        return MASK + masked(text[end.end() :])
    masker = Masker.of(lower)
    if masker.is_idle and _KEY_MARK not in lower and len(text) <= LONGEST_LINE:
        return text
    return "\n".join(masker.mask(line)[0] for line in text.split("\n"))


def _apply(pattern: re.Pattern[str], line: str) -> tuple[str, int]:
    replace: Callable[[re.Match[str]], str] | str
    replace = (lambda match: match["kept"] + MASK) if "kept" in pattern.groupindex else MASK
    return pattern.subn(replace, line)
