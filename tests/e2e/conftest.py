"""One deployment for the tests that leave it whole; those that break its servers make their own."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.e2e.fleet import Fleet

REPOSITORIES = ("acme/story", "acme/letters", "acme/steady", "acme/trouble")
"""One a test file, so that none sees another's builds."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def fleet(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleet]:
    """All of Buildlight, running; never with a server killed."""
    async with Fleet(tmp_path_factory.mktemp("fleet"), repositories=REPOSITORIES) as fleet:
        yield fleet
