"""What the notification plugin's posts lead to."""

import json
from typing import Any

import pytest

from services.poller.providers.jenkins.webhook import PHASES, facts_of
from services.poller.seen import Seen
from tests.corpora import corpus

BODY: dict[str, Any] = {
    "name": "feature%2Fcards",
    "display_name": "feature/cards",
    "url": "job/acme/job/shop/job/feature%252Fcards/",
    "build": {
        "full_url": "https://ci.test/jenkins/job/acme/job/shop/job/feature%252Fcards/7/",
        "number": 7,
        "queue_id": 22,
        "timestamp": 1772442061623,
        "duration": 61500,
        "phase": "COMPLETED",
        "status": "UNSTABLE",
        "url": "job/acme/job/shop/job/feature%252Fcards/7/",
        "scm": {"url": "git@git.test:acme/shop.git", "branch": "feature/cards", "commit": "acb5820c"},
        "parameters": {"A": "b"},
        "log": "",
        "notes": "",
        "artifacts": {},
        "test_summary": {"total": 10, "failed": 1, "passed": 9, "skipped": 0, "failed_tests": ["a.B.c"]},
    },
}


def told(body: dict[str, Any]) -> Seen:
    return facts_of("", body, instance="ci.test")


@pytest.mark.parametrize("phase", [*PHASES, "NEW"])
def test_every_phase_is_a_hint(phase: str) -> None:
    """Its time is the phase's: no fact, but the build to look at, by its job's full name."""
    seen = told(BODY | {"build": BODY["build"] | {"phase": phase}})
    assert seen == Seen(refresh=(("acme/shop/feature%2Fcards", "7"),))


def test_any_of_the_addresses_will_do() -> None:
    """Older versions of the plugin send fewer; a server's own path is not the job's."""
    build = BODY["build"]
    for left_out in ({"url"}, {"full_url"}, {"url", "full_url"}):
        fewer = {key: value for key, value in build.items() if key not in left_out}
        assert told(BODY | {"build": fewer}).refresh == (("acme/shop/feature%2Fcards", "7"),)
    bare = {"name": "nightly", "build": {"number": 3}}
    assert told(bare).refresh == (("nightly", "3"),)


def test_what_names_no_build_is_left() -> None:
    """It is said why, and nothing raises."""
    odd_values: tuple[Any, ...] = (None, "", -1, 0, True, [], {}, "7", 1.5)
    for odd in odd_values:
        assert "build.number" in str(told(BODY | {"build": BODY["build"] | {"number": odd}}).ignored)
        assert "build.number" in str(told(BODY | {"build": odd}).ignored)
        odd_names = told({"name": odd, "url": odd, "build": {"number": 7, "url": odd, "full_url": odd}})
        assert odd_names.refresh or odd_names.ignored
    assert told({"build": {"number": 7, "url": "http://[odd"}}).ignored


def test_recorded_posts() -> None:
    """Each leads to the build it was sent for."""
    recorded = json.loads(corpus("webhooks/jenkins/public-samples.json").read_text(encoding="utf-8"))
    assert recorded
    for sample in recorded:
        body = sample["payload"]
        assert told(body).refresh == ((body["name"], str(body["build"]["number"])),)
