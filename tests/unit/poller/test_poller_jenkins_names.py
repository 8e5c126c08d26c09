"""Names of jobs and builds, and what patterns mean."""

import pytest

from services.poller.providers.jenkins.names import (
    Pattern,
    Run,
    combination_in,
    name_in,
    path_of,
    run_id_of,
    run_of,
)


def test_a_name_and_its_address() -> None:
    """A branch's slash is escaped in its name, and the escape again in an address."""
    name = "acme/shop/feature%2Fcards & more"
    assert path_of(name) == "/job/acme/job/shop/job/feature%252Fcards%20%26%20more"
    assert name_in(f"https://ci.test/jenkins{path_of(name)}/7/") == name
    assert name_in("job/acme/job/shop/7/") == "acme/shop"
    assert name_in("job/matrix/OS=linux/7/") == "matrix"
    assert path_of("") == ""
    assert name_in("https://ci.test/view/all/") is None


def test_a_build_and_its_id() -> None:
    """A bare number is whichever build has it; anything else is none."""
    assert run_of(run_id_of(7, 1772442000123)) == Run(7, 1772442000123)
    assert run_of("7") == Run(7, None)
    for odd in ("", "x", "7@", "@7", "7@x", "-7", "7 ", "٧", "1" * 40):
        assert run_of(odd) is None


def test_a_combination() -> None:
    """It stands between job and number; a plain build has none."""
    assert combination_in("https://ci.test/job/m/OS=linux%2CPY=3/7/", 7) == "OS=linux,PY=3"
    assert combination_in("https://ci.test/job/m/7/", 7) is None
    assert combination_in("https://ci.test/job/m/OS=linux/7/", 8) is None


@pytest.mark.parametrize(
    ("pattern", "root", "fits", "fits_not"),
    [
        ("acme/shop", "acme", ["acme/shop"], ["acme", "acme/shop/main", "shop"]),
        ("shop", "", ["shop"], ["acme/shop"]),
        ("*", "", ["shop"], ["acme/shop"]),
        ("acme/*", "acme", ["acme/shop"], ["acme", "acme/shop/main"]),
        ("acme/**", "acme", ["acme/shop", "acme/shop/main"], ["acme", "other/shop"]),
        ("**", "", ["shop", "a/b/c"], []),
        ("*/nightly-*", "", ["acme/nightly-x"], ["acme/ci", "nightly-x"]),
        ("acme/**/main", "acme", ["acme/shop/main", "acme/a/b/main"], ["acme/main", "acme/shop/dev"]),
    ],
)
def test_patterns(pattern: str, root: str, fits: list[str], fits_not: list[str]) -> None:
    """A star is one part, or some of one; two are any parts; and no folder is opened in vain."""
    read = Pattern.read(pattern)
    assert read.root == root
    assert [name for name in fits + fits_not if read.fits(name)] == fits
    for name in fits:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            assert read.leads_past("/".join(parts[:depth]))
    assert not Pattern.read("acme/*").leads_past("other")
    assert not Pattern.read("acme/*").leads_past("acme/shop")
