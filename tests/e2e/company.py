"""The sandbox as the tests use it: scripted runs, faults on order, and what it was made to do."""

from collections.abc import Mapping, Sequence
from typing import Any

import httpx


class Company:
    """A client of the sandbox's remote control; `told` is the line of JSON it printed."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self.addresses = told
        self._http = httpx.AsyncClient(base_url=told["control"], timeout=30, trust_env=False)

    async def close(self) -> None:
        await self._http.aclose()

    async def control(self, method: str, path: str, **options: Any) -> Any:
        """Use the remote control; the answer's JSON, if it has any."""
        response = await self._http.request(method, path, **options)
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def run(self, repository: str, **script: Any) -> int:
        """Make a run, queued unless told otherwise; its id."""
        made = await self.control("POST", "/github/runs", json={"repository": repository, **script})
        return int(made["id"])

    async def ended(self, repository: str, conclusion: str, **script: Any) -> int:
        """Make a run that has ended; its id."""
        return await self.run(repository, status="completed", conclusion=conclusion, **script)

    async def advance(self, run_id: int, **change: Any) -> None:
        await self.control("PATCH", f"/github/runs/{run_id}", json=change)

    async def effects(self, target: str) -> list[dict[str, Any]]:
        """What was really taken by `slack`, `smtp`, `gitlab` or `control_plane`, in order."""
        answer = await self.control("GET", "/effects", params={"target": target})
        effects: list[dict[str, Any]] = answer["effects"]
        return effects

    async def requests(self, target: str) -> list[dict[str, Any]]:
        """How often each path was answered with what: `{method, path, status, count}`."""
        answer = await self.control("GET", "/requests", params={"target": target})
        counted: list[dict[str, Any]] = answer["by_path"]
        return counted

    async def fault(self, target: str, kind: str, **options: Any) -> None:
        await self.control("POST", "/faults", json={"target": target, "kind": kind, **options})

    async def hook(self, provider: str, url: str, **options: Any) -> bool:
        """Have a provider's webhooks sent to `url` from now on; False where the sandbox sends none."""
        script = {"provider": provider, "url": url, **options}
        response = await self._http.post("/webhooks", json=script)
        assert response.is_success or response.status_code == 404, response.text
        return response.is_success

    async def hooks(self) -> list[dict[str, Any]]:
        """The hooks, and what became of their deliveries."""
        hooks: list[dict[str, Any]] = await self.control("GET", "/webhooks")
        return hooks

    async def unhook(self) -> None:
        """Have no webhooks sent any more, where they are."""
        await self._http.delete("/webhooks")

    async def repair(self, target: str | None = None) -> None:
        """Take every fault back, or those of one target."""
        await self.control("DELETE", "/faults", params={"target": target} if target else {})


def slack_texts(effects: Sequence[Mapping[str, Any]]) -> list[str]:
    return [effect["body"]["text"] for effect in effects]


def mail_subjects(effects: Sequence[Mapping[str, Any]]) -> list[str]:
    return [effect["subject"] for effect in effects]
