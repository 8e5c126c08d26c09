"""GitLab's CI as whoever watches it meets it."""

import io
import zipfile
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from tests.integration.sandbox.conftest import Running, Start


def every(sandbox: Running, path: str, **params: Any) -> list[dict[str, Any]]:
    """All rows of a listing, page by page."""
    rows: list[dict[str, Any]] = []
    page = 1
    while True:
        answer = sandbox.lab("GET", path, params={**params, "per_page": 100, "page": page})
        assert answer.status_code == 200, answer.text
        rows += answer.json()
        if not answer.headers["x-next-page"]:
            return rows
        page += 1


def project(path: str) -> str:
    return f"/projects/{path.replace('/', '%2F')}"


LIVING = project("acme/platform/billing")


def test_pipelines_live(sandbox: Running) -> None:
    """They break and recover, are retried, cancelled, and start children; all kinds are there in two days."""
    parents = every(sandbox, f"{LIVING}/pipelines")
    children = every(sandbox, f"{LIVING}/pipelines", source="parent_pipeline")
    assert {one["source"] for one in parents} == {"push", "merge_request_event", "schedule"}
    assert {one["source"] for one in children} == {"parent_pipeline"}
    assert {"success", "failed"} <= {one["status"] for one in parents}
    on_main = [one["status"] for one in sorted(parents, key=lambda p: p["id"]) if one["ref"] == "main"]
    changes = [(a, b) for a, b in pairwise(on_main) if a != b]
    assert ("success", "failed") in changes
    assert ("failed", "success") in changes
    assert len(parents) > 100
    assert len(children) > 10


def test_a_retried_job_is_hidden_until_it_is_asked_for(sandbox: Running) -> None:
    """It keeps its id and end; its successor is younger, and has its name."""
    served = sandbox.control("GET", "/gitlab/served")
    number = next(
        i for path, i, status, most in served if path.endswith("billing") and most > 1 and status == "success"
    )
    shown = every(sandbox, f"{LIVING}/pipelines/{number}/jobs")
    everything = every(sandbox, f"{LIVING}/pipelines/{number}/jobs", include_retried="true")
    assert len(everything) > len(shown) == len({job["name"] for job in shown})
    twice = next(name for name, count in Counter(j["name"] for j in everything).items() if count > 1)
    first, *again = sorted((j for j in everything if j["name"] == twice), key=lambda j: j["id"])
    assert first["status"] == "failed"
    assert first["failure_reason"] in ("script_failure", "job_execution_timeout")
    assert again[-1]["status"] == "success"
    assert again[0]["created_at"] > first["finished_at"]


def test_a_child_is_found_through_its_parent(sandbox: Running) -> None:
    """By the trigger job; parent and child are of one commit."""
    child = next(one for one in every(sandbox, f"{LIVING}/pipelines", source="parent_pipeline"))
    same = every(sandbox, f"{LIVING}/pipelines", sha=child["sha"])
    bridges = [b for one in same for b in every(sandbox, f"{LIVING}/pipelines/{one['id']}/bridges")]
    assert child["id"] in [b["downstream_pipeline"]["id"] for b in bridges if b["downstream_pipeline"]]


def test_listings_go_by_the_last_change(sandbox: Running) -> None:
    """Newest first, within the bounds that are asked for."""
    everything = every(sandbox, f"{LIVING}/pipelines", order_by="updated_at")
    moments = [one["updated_at"] for one in everything]
    assert moments == sorted(moments, reverse=True)
    middle, oldest = moments[len(moments) // 2], moments[-1]
    some = every(
        sandbox, f"{LIVING}/pipelines", order_by="updated_at", updated_after=oldest, updated_before=middle
    )
    assert {one["id"] for one in some} == {
        one["id"] for one in everything if oldest < one["updated_at"] < middle
    }


def test_what_has_not_changed_is_answered_304(sandbox: Running) -> None:
    """And is counted all the same."""
    first = sandbox.lab("GET", f"{LIVING}/pipelines")
    again = sandbox.http.get(
        f"{sandbox.api}{LIVING}/pipelines",
        headers={"private-token": "sandbox-token", "if-none-match": first.headers["etag"]},
    )
    assert (again.status_code, again.content) == (304, b"")
    assert int(again.headers["ratelimit-remaining"]) < int(first.headers["ratelimit-remaining"]) or (
        again.headers["ratelimit-reset"] != first.headers["ratelimit-reset"]
    )


def test_a_scripted_pipeline_goes_its_way(sandbox: Running) -> None:
    """Made, failed, retried, passed; its test report shows the latest execution, its archive both."""
    made = sandbox.control(
        "POST",
        "/gitlab/pipelines",
        json={"project": "acme/scripted", "jobs": [{"name": "unit", "status": "running", "report": True}]},
    )
    path = f"{project('acme/scripted')}/pipelines/{made['id']}"
    sandbox.control(
        "PATCH",
        f"/gitlab/pipelines/{made['id']}",
        json={"status": "failed", "jobs": [{"name": "unit", "status": "failed", "archive": True}]},
    )
    assert sandbox.lab("GET", path).json()["finished_at"] is not None
    report = sandbox.lab("GET", f"{path}/test_report").json()
    assert report["failed_count"] > 0
    (old,) = every(sandbox, f"{path}/jobs")
    archive = sandbox.lab("GET", f"{project('acme/scripted')}/jobs/{old['id']}/artifacts")
    with zipfile.ZipFile(io.BytesIO(archive.content)) as packed:
        assert b"<failure" in packed.read("reports/junit.xml")
    assert "Job failed" in sandbox.lab("GET", f"{project('acme/scripted')}/jobs/{old['id']}/trace").text
    sandbox.control("PATCH", f"/gitlab/pipelines/{made['id']}", json={"status": "running", "retry": ["unit"]})
    assert [job["status"] for job in every(sandbox, f"{path}/jobs", include_retried="true")] == [
        "pending",
        "failed",
    ]
    sandbox.control(
        "PATCH",
        f"/gitlab/pipelines/{made['id']}",
        json={"status": "success", "jobs": [{"name": "unit", "status": "success"}]},
    )
    assert sandbox.lab("GET", f"{path}/test_report").json()["failed_count"] == 0
    assert ["acme/scripted", made["id"], "success", 2] in sandbox.control("GET", "/gitlab/served")


def test_gitlab_does_what_it_is_asked(sandbox: Running) -> None:
    """Retry runs what failed, cancel ends what runs, a new pipeline begins; each is an effect."""
    jobs = [{"name": "lint", "status": "success"}, {"name": "unit", "status": "failed"}]
    made = sandbox.control(
        "POST", "/gitlab/pipelines", json={"project": "acme/asked", "status": "failed", "jobs": jobs}
    )
    place = project("acme/asked")
    path = f"{place}/pipelines/{made['id']}"
    assert sandbox.lab("POST", f"{path}/retry").json()["status"] == "running"
    names = [job["name"] for job in every(sandbox, f"{path}/jobs", include_retried="true")]
    assert sorted(names) == ["lint", "unit", "unit"]
    assert sandbox.lab("POST", f"{path}/cancel").json()["status"] == "canceled"
    new = sandbox.lab("POST", f"{place}/pipeline", json={"ref": "main"})
    assert (new.status_code, new.json()["source"]) == (201, "api")
    assert sandbox.lab("POST", f"{place}/pipeline", json={"ref": "none"}).status_code == 400
    status = {"state": "failed", "name": "quarantine"}
    assert sandbox.lab("POST", f"{place}/statuses/{made['sha']}", json=status).status_code == 201
    again = sandbox.lab("POST", f"{place}/statuses/{made['sha']}", json=status)
    assert (again.status_code, "Cannot transition" in again.text) == (400, True)
    assert [effect["kind"] for effect in sandbox.effects("gitlab")] == [
        "pipeline_retried",
        "pipeline_canceled",
        "pipeline_created",
        "commit_status",
    ]


def test_a_living_pipeline_can_be_retried(sandbox: Running) -> None:
    """It goes on from where it is, and passes within seconds."""
    failed = next(
        one for one in every(sandbox, f"{LIVING}/pipelines", status="failed") if one["ref"] == "main"
    )
    path = f"{LIVING}/pipelines/{failed['id']}"
    before = every(sandbox, f"{path}/jobs", include_retried="true")
    sandbox.lab("POST", f"{path}/retry")
    after = every(sandbox, f"{path}/jobs", include_retried="true")
    ran = {job["name"] for job in before if job["status"] == "failed"}
    assert len(after) > len(before)
    assert {job["name"] for job in after if job["id"] not in {j["id"] for j in before}} <= ran


def test_a_spent_minute_is_refused(start: Start) -> None:
    """As GitLab does: 429, a plain text, and when to come back."""
    running = start("--repositories", "0", "--gitlab-limit", "3")
    answers = [running.lab("GET", "/version") for _ in range(8)]
    refused = [one for one in answers if one.status_code == 429]
    assert refused
    assert 0 < int(refused[0].headers["retry-after"]) <= 60
    assert refused[0].headers["ratelimit-remaining"] == "0"


@pytest.mark.parametrize(
    ("params", "paths"),
    [
        ({}, {"acme/ledger"}),
        ({"include_subgroups": "true"}, {"acme/ledger", "acme/platform/billing"}),
    ],
)
def test_a_groups_projects(start: Start, params: dict[str, str], paths: set[str]) -> None:
    """Its own, or those of its subgroups too."""
    running = start("--repositories", "0", "--gitlab-projects", "2")
    rows = every(running, "/groups/acme/projects", **params)
    assert {row["path_with_namespace"] for row in rows} == paths
