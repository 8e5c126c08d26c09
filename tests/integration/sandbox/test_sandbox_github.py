"""GitHub's manners: budget, ETags, pages, filters, reruns, refusals."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.conftest import Running

RUNS = "/repos/acme/shop/actions/runs"


def used(sandbox: Running) -> int:
    """How much of the hour is spent; asking costs nothing."""
    return int(sandbox.get("/rate_limit").json()["rate"]["used"])


def following(sandbox: Running, path: str, **params: Any) -> list[dict[str, Any]]:
    """Walk a listing by its Link header, as a client should."""
    response = sandbox.get(path, params=params)
    found: list[dict[str, Any]] = response.json()["workflow_runs"]
    while "next" in response.links:
        response = sandbox.http.get(
            response.links["next"]["url"], headers={"authorization": "Bearer sandbox-token"}
        )
        found += response.json()["workflow_runs"]
    return found


def test_unchanged_answers_cost_nothing(sandbox: Running) -> None:
    """An ETag that still holds is answered 304, empty, and costs nothing; a stale one is not."""
    first = sandbox.get(RUNS)
    assert (first.status_code, used(sandbox)) == (200, 1)
    again = sandbox.get(RUNS, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content, used(sandbox)) == (304, b"", 1)
    assert again.headers["x-ratelimit-remaining"] == first.headers["x-ratelimit-remaining"] == "4999"
    sandbox.control("POST", "/github/runs", json={"repository": "acme/shop"})
    changed = sandbox.get(RUNS, headers={"if-none-match": first.headers["etag"]})
    assert (changed.status_code, used(sandbox)) == (200, 2)


def test_walking_the_pages_meets_every_run_once(sandbox: Running) -> None:
    """Following `next` yields as many different runs as `total_count` says, newest first."""
    total = sandbox.get(RUNS).json()["total_count"]
    runs = following(sandbox, RUNS, per_page=50)
    assert len(runs) == len({run["id"] for run in runs}) == total > 100
    created = [run["created_at"] for run in runs]
    assert created == sorted(created, reverse=True)


def test_links_name_all_ways_to_go(sandbox: Running) -> None:
    """A middle page links to its neighbours and both ends; per_page is capped at 100."""
    middle = sandbox.get(RUNS, params={"page": 2, "per_page": 500})
    assert len(middle.json()["workflow_runs"]) == 100
    last = -(-middle.json()["total_count"] // 100)
    pages = {
        name: int(re.search(r"[?&]page=(\d+)", link["url"])[1])  # type: ignore[index]
        for name, link in middle.links.items()
    }
    assert pages == {"prev": 1, "next": 3, "last": last, "first": 1}
    beyond = sandbox.get(RUNS, params={"page": last + 5, "per_page": 100}).json()
    assert (beyond["workflow_runs"], beyond["total_count"]) == ([], middle.json()["total_count"])


def test_filtered_listings_stop_at_a_thousand(sandbox: Running) -> None:
    """A search counts all it finds but shows a thousand; a split window, or no filter, shows the rest."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)
    scripts = [
        {
            "repository": "acme/huge",
            "id": 5_000_000 + n,
            "created_at": (begin + timedelta(minutes=n)).isoformat(),
        }
        for n in range(1100)
    ]
    sandbox.control("POST", "/github/runs", json=scripts)
    path = "/repos/acme/huge/actions/runs"
    assert sandbox.get(path, params={"created": ">=2026-03-01"}).json()["total_count"] == 1100
    assert len(following(sandbox, path, created=">=2026-03-01", per_page=100)) == 1000
    assert len(following(sandbox, path, per_page=100)) == 1100
    noon = "2026-03-01T12:00:00Z"
    early = following(sandbox, path, created=f"*..{noon}", per_page=100)
    late = following(sandbox, path, created=f">{noon}", per_page=100)
    assert (len(early), len(late)) == (721, 379)
    assert len({run["id"] for run in early + late}) == 1100


def test_filters_choose(sandbox: Running) -> None:
    """Status (or conclusion), branch, event and created each keep exactly the runs that match."""
    runs = following(sandbox, RUNS, per_page=100)
    oldest, newest = runs[-1]["created_at"], runs[0]["created_at"]
    middle = runs[len(runs) // 2]["created_at"]
    wanted: dict[str, Callable[[dict[str, Any]], bool]] = {
        "failure": lambda run: run["conclusion"] == "failure",
        "completed": lambda run: run["status"] == "completed",
    }
    for status, keeps in wanted.items():
        got = following(sandbox, RUNS, status=status, per_page=100)
        assert [run["id"] for run in got] == [run["id"] for run in runs if keeps(run)]
    for field, name in (("head_branch", "branch"), ("event", "event")):
        value = runs[3][field]
        got = following(sandbox, RUNS, per_page=100, **{name: value})
        assert [run["id"] for run in got] == [run["id"] for run in runs if run[field] == value]
    for created, low, high in (
        (f">={middle}", middle, newest),
        (f"{oldest}..{middle}", oldest, middle),
        (f"<={middle}", oldest, middle),
    ):
        got = following(sandbox, RUNS, created=created, per_page=100)
        assert [run["id"] for run in got] == [run["id"] for run in runs if low <= run["created_at"] <= high]
    assert sandbox.get(RUNS, params={"created": ">=yesterday"}).status_code == 422


def test_a_rerun_keeps_its_identity(sandbox: Running) -> None:
    """A rerun keeps id, number and creation, raises attempt, start and change; the first stays readable."""
    created = datetime.now(UTC) - timedelta(hours=1)
    script = {
        "repository": "acme/rerun",
        "status": "completed",
        "conclusion": "failure",
        "created_at": created.isoformat(),
        "jobs": [{"name": "unit", "status": "completed", "conclusion": "failure"}],
    }
    first = sandbox.control("POST", "/github/runs", json=script)
    path = f"/repos/acme/rerun/actions/runs/{first['id']}"
    job = {"name": "unit", "status": "in_progress"}
    sandbox.control(
        "PATCH",
        f"/github/runs/{first['id']}",
        json={"new_attempt": True, "status": "in_progress", "jobs": [job]},
    )
    second = sandbox.get(path).json()
    assert [second[name] for name in ("id", "run_number", "created_at")] == [
        first[name] for name in ("id", "run_number", "created_at")
    ]
    assert (second["run_attempt"], second["status"], second["conclusion"]) == (2, "in_progress", None)
    assert second["updated_at"] > first["updated_at"]
    assert second["run_started_at"] > first["run_started_at"] == first["created_at"]
    assert second["previous_attempt_url"] == f"{sandbox.github}{path}/attempts/1"
    assert sandbox.get(f"{path}/attempts/1").json() == first
    latest = sandbox.get(f"{path}/jobs").json()["jobs"]
    every = sandbox.get(f"{path}/jobs", params={"filter": "all"}).json()["jobs"]
    assert [(one["run_attempt"], one["conclusion"]) for one in latest] == [(2, None)]
    assert [(one["run_attempt"], one["conclusion"]) for one in every] == [(1, "failure"), (2, None)]
    assert len({one["id"] for one in every}) == 2
    assert sandbox.get(f"{path}/attempts/3").status_code == 404


def test_living_reruns_are_there(sandbox: Running) -> None:
    """Every attempt of a living rerun can be read with its own jobs."""
    runs = following(sandbox, RUNS, per_page=100)
    run = next(run for run in runs if run["run_attempt"] == 2 and run["status"] == "completed")
    path = f"{RUNS}/{run['id']}"
    jobs = [sandbox.get(f"{path}/attempts/{n}/jobs").json()["jobs"] for n in (1, 2)]
    assert [{job["run_attempt"] for job in some} for some in jobs] == [{1}, {2}]
    assert sandbox.get(f"{path}/jobs", params={"filter": "all"}).json()["jobs"] == jobs[0] + jobs[1]
    assert sandbox.get(f"{path}/jobs").json()["jobs"] == jobs[1]


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"authorization": ""}, "Requires authentication"),
        ({"authorization": "token nope"}, "Bad credentials"),
    ],
)
def test_strangers_are_refused(sandbox: Running, headers: dict[str, str], message: str) -> None:
    """Without a token, or with a wrong one, there is 401 in GitHub's words and nothing spent."""
    response = sandbox.get(RUNS, headers=headers)
    assert (response.status_code, response.json()["message"]) == (401, message)
    assert used(sandbox) == 0


def test_what_is_not_there_is_404(sandbox: Running) -> None:
    """An unknown repository, run, attempt or path answers GitHub's Not Found, and costs."""
    run = sandbox.get(RUNS).json()["workflow_runs"][0]["id"]
    for path in ("/repos/acme/none", f"{RUNS}/1", f"{RUNS}/{run}/attempts/99", f"{RUNS}/{run}/nothing", "/x"):
        response = sandbox.get(path)
        assert (response.status_code, response.json()["message"]) == (404, "Not Found")
    assert used(sandbox) == 6


def test_the_budget_runs_out_and_comes_back(sandbox: Running) -> None:
    """After the last request there is 403 with GitHub's headers until a new window begins."""
    sandbox.control("POST", "/github/budget", json={"remaining": 2, "reset_seconds": 2})
    assert [sandbox.get("/user").headers["x-ratelimit-remaining"] for _ in range(2)] == ["1", "0"]
    refused = sandbox.get("/user")
    assert refused.status_code == 403
    assert refused.json()["message"].startswith("API rate limit exceeded for user ID")
    assert refused.headers["x-ratelimit-remaining"] == "0"
    reset = int(refused.headers["x-ratelimit-reset"])
    assert 0 <= reset - time.time() + 1 <= 4
    deadline = time.time() + 10
    while (response := sandbox.get("/user")).status_code != 200:
        assert time.time() < deadline, "the window never ended"
        time.sleep(0.1)
    assert response.headers["x-ratelimit-remaining"] == "4999"


def test_urls_lead_back(sandbox: Running) -> None:
    """The addresses inside an answer work when followed."""
    run = sandbox.get(RUNS).json()["workflow_runs"][0]
    headers = {"authorization": "Bearer sandbox-token"}
    for name in ("url", "jobs_url"):
        assert sandbox.http.get(run[name], headers=headers).status_code == 200
    assert sandbox.http.get(run["repository"]["url"], headers=headers).json()["full_name"] == "acme/shop"
    page = sandbox.http.get(run["html_url"])
    assert page.status_code == 200
    assert str(run["id"]) in page.text


def test_requests_are_counted(sandbox: Running) -> None:
    """The control tells how often each path was answered with what: a poller's thrift can be tested."""
    first: httpx.Response = sandbox.get("/repos/acme/docs")
    sandbox.get("/repos/acme/docs", headers={"if-none-match": first.headers["etag"]})
    sandbox.get("/repos/acme/docs", headers={"if-none-match": first.headers["etag"]})
    counted = sandbox.control("GET", "/requests", params={"target": "github"})
    assert (counted["total"], counted["by_status"]) == (3, {"200": 1, "304": 2})
    assert {
        "target": "github",
        "method": "GET",
        "path": "/repos/acme/docs",
        "status": 304,
        "count": 2,
    } in counted["by_path"]
