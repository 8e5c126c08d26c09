"""Secrets are masked, wherever in a log they stand."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reports.job_log import JobLog
from reports.secrets import LONGEST_LINE, MASK, Masker

# Made up, and put together here so that no scanner takes this file for a leak.
A36 = "abcdefghijklmnopqrstuvwxyz0123456789"
KEY_BODY = [
    f"MIIE{n:02d}AIBAAKCAQEA7ynZ2fG0mE8Wq0d1c2VhcmNoIGluIHZhaW4gZm9yIG1lYW5p{n:02d}" for n in range(12)
]
SECRETS = {
    "github personal": "ghp_" + A36,
    "github server": "ghs_" + A36,
    "github fine": "github_pat_" + "11ABCDEFG0" + A36,
    "gitlab": "glpat-" + "Zx9" + A36[:17],
    "slack": "xox" + "b-1234567890-" + A36[:24],
    "aws id": "AKIA" + "IOSFODNN7EXAMPLF",
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
    "npm": "npm_" + A36,
    "google": "AIza" + A36[:35],
    "stripe": "sk_" + "live_" + A36[:24],
    "pypi": "pypi-" + "AgEIcHlwaS5vcmc" + A36,
}
NAMED = [
    ("password={}", "Tr0ub4dor&3"),
    ("DB_PASSWORD: {}", "correct-horse"),
    ("export API_TOKEN='{}'", "battery staple"),
    ('{{"id": 1, "client_secret": "{}"}}', 'with \\" a quote'),
    ("AWS_SECRET_ACCESS_KEY={}", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("Authorization: Basic {}", "dXNlcjpwYXNz"),
    ("curl -H 'Authorization: token {}' https://api.example", "0123456789abcdef"),
    ("> PRIVATE-TOKEN: {}", "hunter2hunter2"),
    ("Set-Cookie: session={}; Path=/", "s3ss10n"),
    ("git clone https://ada:{}@git.example/shop.git", "p@ss/w#rd"),
    ("amqp://guest:{}@rabbit:5672//", "gu3st"),
    ("git clone https://{}@git.example/shop.git", "0123456789abcdef0123"),
    ("deploy --api-key {} --dry-run", "k-12345"),
    ("curl -u ada:{} https://nexus.example", "n3xus"),
    ("machine nexus.example login ada password {}", "n3xus"),
    ("https://store.example/x?sv=1&sig={}&se=2", "aGVsbG8"),
    ("password={}", "$ecret-Value1"),
    ("password={}", "$ecretvalue1"),
    ("DB_PASSWORD={}", "null-pointer-42"),
    ("db_pwd: {}", "<3horses9"),
    ("deploy --password {}", "true-story-9"),
    ("password={}", "%Ab1-cd%"),
    ("password={}", "***but-more"),
    ("curl -u ada:{} https://nexus.example", "$n3xus"),
    ("password={}", "${DB:-horse-battery}"),
]


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
@pytest.mark.parametrize("line", ["{}", "using {} here", "'{}'", "x={},", "(\t{})", "url/{}/path"])
def test_a_token_of_known_shape(secret: str, line: str) -> None:
    """No part of it is left, whatever stands around it."""
    masked, count = Masker().mask(line.format(secret))
    assert masked == line.format(MASK)
    assert count == 1


@pytest.mark.parametrize(("line", "secret"), NAMED)
def test_what_is_called_a_secret(line: str, secret: str) -> None:
    """Headers, assignments, options, addresses: the name stays, the value goes."""
    masked, count = Masker().mask(line.format(secret))
    assert secret not in masked
    assert all(part not in masked for part in secret.split() if len(part) > 3)
    assert masked.startswith(line.format(secret)[:6])
    assert count >= 1


@pytest.mark.parametrize(
    "line",
    [
        "SyntaxError: Unexpected token (14:3)",
        "max_tokens=100",
        "Cache not found for input keys: Linux-pip-0a1b",
        "password: ***",
        "TOKEN=$GITHUB_TOKEN",
        "TOKEN=${GITHUB_TOKEN} make",
        "token: ${{ secrets.GITHUB_TOKEN }}",
        "PASSWORD=$(cat /run/secrets/db) run",
        "set PASSWORD=%DB_PASSWORD%",
        "deploy --password <your-password>",
        '{"password": null, "token": none}',
        "curl -u ada:$NEXUS_PASSWORD https://nexus.example",
        "password=null",
        "https://x-access-token:***@github.com/acme/shop",
        "fetch http://localhost:8080/a@b",
        "ssh://git@github.com/acme/shop.git",
        "assert tokenizer.count == 3",
        "error: the secret is not there",
    ],
)
def test_what_is_none_stays(line: str) -> None:
    """What CI has masked already, variables, ports and prose."""
    assert Masker().mask(line)[1] == 0 or line.startswith("https://x-access-token")


@pytest.mark.parametrize("prefix", ["", "    ", "+ ", "| "])
@pytest.mark.parametrize("kind", ["RSA ", "", "OPENSSH ", "EC ", "ENCRYPTED "])
def test_a_private_key_over_several_lines(prefix: str, kind: str) -> None:
    """Every line of it, and nothing after it."""
    lines = [f"-----BEGIN {kind}PRIVATE KEY-----", *KEY_BODY, "Zm9v", f"-----END {kind}PRIVATE KEY-----"]
    masker = Masker()
    shown = [masker.mask(prefix + line)[0] for line in lines]
    assert not any(line in "\n".join(shown) for line in lines)
    assert masker.mask("Compiling shop v0.1.0") == ("Compiling shop v0.1.0", 0)


def test_a_private_key_without_an_end() -> None:
    """Lines that are plainly no part of a key are shown again."""
    masker = Masker()
    masker.mask("-----BEGIN PRIVATE KEY-----")
    masker.mask(KEY_BODY[0])
    assert masker.mask("error: could not read the key (exit code 1)")[0].startswith("error: could not")


def test_a_private_key_on_one_line() -> None:
    text = "-----BEGIN PRIVATE KEY-----\\n" + "\\n".join(KEY_BODY) + "\\n-----END PRIVATE KEY-----"
    assert Masker().mask(f'key = "{text}" then') == ('key = "[masked]" then', 1)


@pytest.mark.parametrize("distance", range(-60, 60, 7))
def test_at_the_edge_of_a_long_line(distance: int) -> None:
    """A secret that a cut would go through is not shown in part."""
    for edge in (LONGEST_LINE - 512, LONGEST_LINE):
        line = "x " * ((edge + distance) // 2) + "ghp_" + A36 + " y" * 5000
        masked, _ = Masker().mask(line)
        assert "ghp_" not in masked
        assert A36[:6] not in masked


def test_a_key_that_begins_in_what_is_cut_off() -> None:
    """The beginning of a key far out in a long line: its other lines are masked all the same."""
    reader = JobLog()
    log = "x" * 100_000 + "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join(KEY_BODY) + "\nerror: no\n"
    for start in range(0, len(log), 999):
        reader.feed(log[start : start + 999].encode())
    text = reader.close().text
    assert "MIIE" not in text
    assert "error: no" in text


def test_hostile_lines_take_no_time() -> None:
    """Lines made to have a pattern try every way."""
    pieces = ("a", "password", "://", "://a:", "token ", '"password" ', "-", "--a-", " login ", "-----BEGIN A ",
                  "authorization", "eyJ", "eyJaaaaaaaa.", "://a@", "key    ", "-u  ",
              "SG.", "[Pipeline] ", "::")  # fmt: skip
    for piece in pieces:
        line = piece * (LONGEST_LINE // len(piece))
        began = time.perf_counter()
        Masker().mask(line)
        assert time.perf_counter() - began < 1.0, piece


COLOURS = st.sampled_from(["", "\x1b[31m", "\x1b[0m", "\x1b[1;32m", "\x00", "\x1b]8;;x\x07"])


@settings(max_examples=100, deadline=None)
@example(SECRETS["google"], 1, "", 1, "\x9b", False)
@example(SECRETS["google"], 1, "", 1, "\x1b[", False)
@given(
    st.sampled_from(sorted(SECRETS.values())),
    st.integers(1, 20),
    COLOURS,
    st.integers(1, 40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.booleans(),
)
def test_a_planted_secret_is_never_shown(
    secret: str, at: int, colour: str, piece: int, around: str, fails: bool
) -> None:
    """Also with colours in the middle of it, and however the log is cut into pieces."""
    planted = secret[:at] + colour + secret[at:]
    log = f"{around}\n$ echo {planted}\n{'error: it failed' if fails else around} {planted}\n".encode()
    reader = JobLog()
    for start in range(0, len(log), piece):
        reader.feed(log[start : start + piece])
    text = reader.close().text
    assert secret not in text
    assert secret[4:] not in text
