"""The builds that builds come from: started by, replayed or restarted from."""

from collections.abc import Iterable
from typing import Any

from buildlight_contracts.builds import BuildRef
from services.poller.provider import PollFailedError
from services.poller.providers.jenkins.api import Api
from services.poller.providers.jenkins.mapping import PROVIDER, origin_of
from services.poller.providers.jenkins.names import run_id_of
from services.poller.providers.jenkins.recent import Recent
from services.poller.providers.jenkins.values import number, rows

MOST_JOBS = 10
"""How many upstream jobs are asked about for one page of builds."""
_MOST_BUILDS = 100

Origin = tuple[str, int]
"""A job's full name and a build's number."""


class Origins:
    """Jenkins names a build's origin by number; the time that is part of its id takes a call a job, once."""

    def __init__(self, api: Api, instance: str) -> None:
        self._api = api
        self._instance = instance
        self._timestamps: Recent[Origin, int | None] = Recent(50_000)

    async def of(self, job: str, wanted: Iterable[Any], shown: Iterable[Any]) -> dict[Origin, BuildRef]:
        """The origins of the builds `wanted`, those that Jenkins still has; `shown` are builds of the same job."""
        self._learn(job, shown)
        origins = {origin for row in wanted if (origin := origin_of(row, job)) is not None}
        unknown = {origin for origin in origins if origin not in self._timestamps}
        for upstream in sorted({name for name, _ in unknown})[:MOST_JOBS]:
            newest = await self._newest(upstream)
            if newest is None:
                continue
            self._learn(upstream, newest)
            for origin in unknown:
                if origin[0] == upstream and origin not in self._timestamps:
                    self._timestamps.put(origin, None)
        known = ((origin, self._timestamps.get(origin)) for origin in origins)
        return {
            origin: BuildRef(
                provider=PROVIDER,
                instance=self._instance,
                repository_id=origin[0],
                run_id=run_id_of(origin[1], stamp),
            )
            for origin, stamp in known
            if stamp is not None and len(origin[0]) <= 255
        }

    def _learn(self, job: str, builds: Iterable[Any]) -> None:
        for row in builds:
            if isinstance(row, dict) and (count := number(row.get("number"))) is not None:
                self._timestamps.put((job, count), number(row.get("timestamp")))

    async def _newest(self, job: str) -> list[Any] | None:
        """None when Jenkins fails: for want of an origin no build is kept back."""
        tree = f"allBuilds[number,timestamp]{{0,{_MOST_BUILDS}}}"
        try:
            found = await self._api.fetch(self._api.job(job), tree, f"the job {job}")
        except PollFailedError as failure:
            if failure.reason not in ("forbidden", "server_error", "nonsense"):
                raise
            return None
        return list(rows(found, "allBuilds")) if found else []
