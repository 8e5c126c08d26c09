"""What is polled: names, patterns, and what is left out."""

from datetime import UTC, datetime, timedelta

from services.poller.deployments import OVERLAP, since_when
from services.poller.deployments import is_due as deployments_due
from services.poller.discovery import is_due
from services.poller.discovery_store import Standing
from services.poller.names import watch
from services.poller.provider import Span, Target
from services.poller.spans import STRETCH, stretches
from services.poller.targets import Pattern, Watch

NOW = datetime(2026, 3, 2, 9, 0, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def at(name: str, provider: str = "github") -> Target:
    return Target(provider, "host", name)


WATCH = watch("github", "host", ["acme/shop", "acme/*", "beta/app-?"], ["acme/old-*", "acme/shop"])


def test_names_and_patterns_are_told_apart() -> None:
    """A star or a question mark makes a pattern."""
    assert [t.name for t in WATCH.targets] == ["acme/shop"]
    assert [p.text for p in WATCH.patterns] == ["acme/*", "beta/app-?"]


def test_what_patterns_find_is_polled_but_for_exclusions() -> None:
    """A named target is polled whatever is excluded; another pattern's or provider's find is not ours."""
    found = [
        (at("acme/shop"), "acme/*"),
        (at("acme/app"), "acme/*"),
        (at("acme/Old-app"), "acme/*"),
        (at("beta/app-1"), "gone/*"),
        (at("acme/app", "gitlab"), "acme/*"),
    ]
    assert [t.name for t in WATCH.found(found)] == ["acme/shop", "acme/app"]
    assert WATCH.wants(at("acme/shop"), discovered_by=None, vanished=True)
    assert WATCH.wants(at("acme/app"), discovered_by="acme/*", vanished=False)
    assert not WATCH.wants(at("acme/app"), discovered_by="acme/*", vanished=True)
    assert not WATCH.wants(at("acme/app"), discovered_by=None, vanished=False)
    assert not WATCH.wants(at("acme/old-x"), discovered_by="acme/*", vanished=False)


def test_what_lies_below_a_name_fits_it() -> None:
    """A multibranch project's branches, and an excluded folder's jobs; not what only begins alike."""
    shop = Pattern("jenkins", "ci", "payments/shop")
    names = ("payments/shop", "payments/shop/main", "payments/shop-old", "payments")
    assert [shop.matches(Target("jenkins", "ci", name)) for name in names] == [True, True, False, False]


def test_providers_add_up() -> None:
    """Each brings its own."""
    both = WATCH + watch("jenkins", "ci", ["folder/*"], [])
    assert {p.provider for p in both.patterns} == {"github", "jenkins"}
    assert Watch() + WATCH == WATCH


def test_when_a_pattern_is_looked_up() -> None:
    """At once, then at its pace; after a failure or a wait no sooner than was said."""
    assert is_due(Standing(), NOW, every=HOUR)
    assert not is_due(Standing(tried_at=NOW - HOUR / 2), NOW, every=HOUR)
    assert is_due(Standing(tried_at=NOW - HOUR), NOW, every=HOUR)
    assert not is_due(Standing(tried_at=NOW - HOUR, not_before=NOW + HOUR), NOW, every=HOUR)
    assert is_due(Standing(tried_at=NOW, not_before=NOW), NOW, every=HOUR)


def test_when_deployments_are_asked_for() -> None:
    """At a pace of their own, from a little before the newest change on; never when that is off."""
    assert deployments_due(None, NOW, every=HOUR)
    assert not deployments_due(NOW - HOUR / 2, NOW, every=HOUR)
    assert deployments_due(NOW - HOUR, NOW, every=HOUR)
    assert not deployments_due(None, NOW, every=None)
    assert since_when(NOW, NOW + HOUR, first=None) == NOW - OVERLAP
    assert since_when(None, NOW, first=NOW - HOUR) == NOW - HOUR
    assert since_when(None, NOW, first=None) == NOW - timedelta(days=30)


def test_a_backfill_goes_in_long_stretches() -> None:
    """They meet without a gap, and the last second belongs to the last of them."""
    spans = stretches(NOW - 2.5 * STRETCH, NOW + timedelta(milliseconds=300))
    assert spans == [
        Span(NOW - 2.5 * STRETCH, NOW - 1.5 * STRETCH),
        Span(NOW - 1.5 * STRETCH, NOW - 0.5 * STRETCH),
        Span(NOW - 0.5 * STRETCH, NOW + timedelta(seconds=1)),
    ]
    assert stretches(NOW, NOW) == []
