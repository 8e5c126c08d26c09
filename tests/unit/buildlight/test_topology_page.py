"""The page that lists every queue is the one the code would write."""

from pathlib import Path

from buildlight.topology import page

ROOT = Path(__file__).parents[3]


def test_the_page_of_queues_is_up_to_date() -> None:
    """`make schemas` writes docs/topology.md from the services' own declarations."""
    assert (ROOT / "docs" / "topology.md").read_text(encoding="utf-8") == page()
