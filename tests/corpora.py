"""Where tests find the recorded data that is not part of the repository."""

import os
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parent.parent


def corpora() -> Path:
    """The folder of corpora: BUILDLIGHT_CORPORA, else `shared/corpora` beside the checkout."""
    named = os.environ.get("BUILDLIGHT_CORPORA")
    return Path(named) if named else _CHECKOUT.parent / "shared" / "corpora"


def corpus(path: str) -> Path:
    """A file or folder of the corpora, as in `corpus("junit")`; skips the test where it is absent."""
    found = corpora() / path
    if not found.exists():
        pytest.skip(f"the corpora have no {path} here: set BUILDLIGHT_CORPORA to the folder that has it")
    return found
