"""What runs leave on the sandbox's GitHub, and what can be done to them."""

import io
import re
import time
import zipfile
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.conftest import Running, as_app

RUNS = "/repos/acme/payments/actions/runs"


def completed(sandbox: Running, path: str = RUNS) -> list[dict[str, Any]]:
    """All runs of `ci` that have ended, oldest first."""
    found: list[dict[str, Any]] = []
    for page in range(1, 11):
        params = {"status": "completed", "per_page": 100, "page": page}
        found += sandbox.get(path, params=params).json()["workflow_runs"]
    return [run for run in reversed(found) if run["name"] == "ci"]


def download(sandbox: Running, address: str) -> httpx.Response:
    """Follow a redirect the way a client should: without the token."""
    moved = sandbox.get(address.removeprefix(sandbox.github))
    assert moved.status_code == 302, moved.text
    return sandbox.http.get(moved.headers["location"])


def test_a_download_is_on_another_host_and_wants_no_token(sandbox: Running) -> None:
    """As with Azure's storage, whoever sends the token along is refused."""
    run = next(run for run in completed(sandbox) if run["conclusion"] == "success")
    listed = sandbox.get(f"{RUNS}/{run['id']}/artifacts").json()["artifacts"]
    artifact = next(one for one in listed if one["name"].startswith("test-results"))
    moved = sandbox.get(artifact["archive_download_url"].removeprefix(sandbox.github))
    location = httpx.URL(moved.headers["location"])
    assert location.port != httpx.URL(sandbox.github).port
    refused = sandbox.http.get(location, headers={"authorization": "Bearer sandbox-token"})
    assert (refused.status_code, refused.headers["x-ms-error-code"]) == (400, "InvalidAuthenticationInfo")
    taken = sandbox.http.get(location)
    assert (len(taken.content), taken.headers["content-type"]) == (
        artifact["size_in_bytes"],
        "application/zip",
    )
    assert zipfile.ZipFile(io.BytesIO(taken.content)).namelist() == ["junit.xml"]
    assert sandbox.http.get(location.copy_with(path="/blobs/nothing/x.zip")).status_code == 404


def test_a_bare_artifact_is_its_file(sandbox: Running) -> None:
    """Not every artifact is a ZIP."""
    script = {
        "repository": "acme/bare",
        "artifacts": [{"name": "junit.xml", "files": {"junit.xml": "<testsuite/>"}, "bare": True}],
    }
    run = sandbox.control("POST", "/github/runs", json=script)
    [artifact] = sandbox.get(f"/repos/acme/bare/actions/runs/{run['id']}/artifacts").json()["artifacts"]
    taken = download(sandbox, artifact["archive_download_url"])
    assert (taken.content, taken.headers["content-type"]) == (b"<testsuite/>", "application/xml")


def test_a_log_is_as_the_runner_writes_it(sandbox: Running) -> None:
    """A mark at the beginning, a time on each line in order, groups, colours, and why it failed."""
    run = next(run for run in completed(sandbox) if run["conclusion"] == "failure")
    jobs = sandbox.get(f"{RUNS}/{run['id']}/jobs").json()["jobs"]
    job = next(job for job in jobs if job["conclusion"] == "failure")
    content = download(sandbox, f"{job['url']}/logs").content
    assert content.startswith(b"\xef\xbb\xbf")
    lines = content.decode("utf-8-sig").splitlines()
    moment = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z) ")
    times = [found[1] for line in lines if (found := moment.match(line))]
    assert len(times) == len(lines) > 20
    assert times == sorted(times)
    assert times[0][:19] + "Z" == job["started_at"]
    text = "\n".join(lines)
    assert text.count("##[group]") == text.count("##[endgroup]") > 3
    assert "##[error]Process completed with exit code 1." in text
    assert "\x1b[" in text


def test_a_running_job_has_no_log(sandbox: Running) -> None:
    """Nor has one that never began; what has expired is 410."""
    script = {
        "repository": "acme/logs",
        "status": "completed",
        "conclusion": "failure",
        "jobs": [
            {"name": "going", "status": "in_progress"},
            {"name": "over", "status": "completed", "conclusion": "failure", "log": "told\n"},
        ],
    }
    run = sandbox.control("POST", "/github/runs", json=script)
    path = f"/repos/acme/logs/actions/runs/{run['id']}"
    going, over = sandbox.get(f"{path}/jobs").json()["jobs"]
    assert sandbox.get(f"/repos/acme/logs/actions/jobs/{going['id']}/logs").status_code == 404
    assert download(sandbox, f"{over['url']}/logs").text == "told\n"
    whole = zipfile.ZipFile(io.BytesIO(download(sandbox, f"{run['url']}/logs").content))
    assert {name: whole.read(name) for name in whole.namelist()} == {"1_over.txt": b"told\n"}
    sandbox.control("POST", f"/github/runs/{run['id']}/expire")
    assert sandbox.get(f"/repos/acme/logs/actions/jobs/{over['id']}/logs").status_code == 410
    assert sandbox.get(f"{path}/logs").status_code == 410


def test_running_the_failed_jobs_again_keeps_the_others(sandbox: Running) -> None:
    """What went well keeps its times and leaves nothing new; what failed is run again, and what needs it."""
    run = next(
        run
        for run in reversed(completed(sandbox))
        if run["conclusion"] == "failure"
        and {"success", "failure"}
        <= {job["conclusion"] for job in sandbox.get(f"{RUNS}/{run['id']}/jobs").json()["jobs"]}
    )
    path, attempt = f"{RUNS}/{run['id']}", run["run_attempt"]
    before = {job["name"]: job for job in sandbox.get(f"{path}/jobs").json()["jobs"]}
    left = sandbox.get(f"{path}/artifacts").json()["total_count"]
    assert sandbox.post(f"{path}/rerun-failed-jobs").status_code == 201
    assert sandbox.post(f"{path}/rerun").status_code == 403
    now = sandbox.get(path).json()
    assert (now["run_attempt"], now["created_at"]) == (attempt + 1, run["created_at"])
    assert now["status"] != "completed"
    sandbox.control("POST", "/unfreeze")
    done = until_completed(sandbox, path)
    jobs = {job["name"]: job for job in sandbox.get(f"{path}/jobs").json()["jobs"]}
    for name, job in jobs.items():
        assert (job["run_attempt"], job["id"] != before[name]["id"]) == (attempt + 1, True)
        again = job["started_at"] >= done["run_started_at"]
        assert again is (before[name]["conclusion"] != "success"), name
    assert sandbox.get(f"{path}/attempts/{attempt}/jobs").json()["total_count"] == len(before)
    ran_tests = sum(
        name.startswith(("unit", "integration")) and before[name]["conclusion"] != "success" for name in jobs
    )
    assert sandbox.get(f"{path}/artifacts").json()["total_count"] <= left + 2 * ran_tests


def until_completed(sandbox: Running, path: str) -> dict[str, Any]:
    """Wait until a run has ended; a minute of the company's is a second."""
    for _ in range(600):
        run: dict[str, Any] = sandbox.get(path).json()
        if run["status"] == "completed":
            return run
        time.sleep(0.2)
    raise AssertionError(f"{path} never ended")


def test_a_living_run_is_cancelled(sandbox: Running) -> None:
    """It and its jobs end as cancelled, at once and for good."""
    listed = sandbox.get(RUNS, params={"per_page": 100}).json()["workflow_runs"]
    run = next(run for run in listed if run["conclusion"] == "failure")
    path = f"{RUNS}/{run['id']}"
    sandbox.post(f"{path}/rerun")
    assert sandbox.post(f"{path}/cancel").status_code == 202
    now = sandbox.get(path).json()
    assert (now["status"], now["conclusion"]) == ("completed", "cancelled")
    jobs = sandbox.get(f"{path}/jobs").json()["jobs"]
    assert {job["conclusion"] for job in jobs} <= {"cancelled"}
    again = sandbox.post(f"{path}/cancel")
    assert (again.status_code, again.json()["message"]) == (
        409,
        "Cannot cancel a workflow run that is completed.",
    )
    assert [effect["kind"] for effect in sandbox.effects("github")] == ["rerun", "cancel"]


def test_a_deleted_run_is_gone(sandbox: Running) -> None:
    """From the listing too, and its neighbours stay."""
    before = sandbox.get(RUNS).json()["total_count"]
    run = completed(sandbox)[0]
    assert sandbox.ask("DELETE", f"{RUNS}/{run['id']}").status_code == 204
    assert sandbox.get(f"{RUNS}/{run['id']}").status_code == 404
    assert sandbox.get(RUNS).json()["total_count"] == before - 1


@pytest.mark.parametrize(
    ("claims", "status"),
    [({"iss": "1"}, 404), ({"exp": 1}, 401), ({"exp": 9_999_999_999}, 401), ({"iat": 9_999_999_999}, 401)],
)
def test_an_app_that_is_not_believed(sandbox: Running, claims: dict[str, Any], status: int) -> None:
    """A wrong App, and claims that are over, too long, or from the future."""
    assert sandbox.get("/orgs/acme/installation", headers=as_app(**claims)).status_code == status
    assert sandbox.get("/orgs/acme/installation").status_code == 401


def test_an_installations_token(sandbox: Running) -> None:
    """It sees its owner's repositories alone, has a budget of its own, and can be revoked."""
    sandbox.control("POST", "/github/runs", json={"repository": "other/one"})
    found = sandbox.get("/orgs/acme/installation", headers=as_app()).json()
    made = sandbox.post(f"/app/installations/{found['id']}/access_tokens", headers=as_app()).json()
    headers = {"authorization": f"Bearer {made['token']}"}
    seen = sandbox.get("/repos/acme/shop", headers=headers)
    assert seen.status_code == 200
    used = int(seen.headers["x-ratelimit-used"])
    assert sandbox.get("/repos/other/one", headers=headers).status_code == 404
    assert sandbox.get("/repos/other/one").status_code == 200
    again = sandbox.post(f"/app/installations/{found['id']}/access_tokens", headers=as_app()).json()
    renewed = sandbox.get("/repos/acme/shop", headers={"authorization": f"Bearer {again['token']}"})
    assert int(renewed.headers["x-ratelimit-used"]) == used + 2  # what is not its own costs it, too
    assert renewed.headers["etag"] != seen.headers["etag"]
    sandbox.control("POST", "/github/app", json={"revoke": True})
    assert sandbox.get("/repos/acme/shop", headers=headers).status_code == 401


def test_check_runs_are_for_apps(sandbox: Running) -> None:
    """A token of a person's makes none; fifty annotations are the most of one request, and they add up."""
    checks = "/repos/acme/shop/check-runs"
    note = {"path": "a.py", "start_line": 1, "end_line": 1, "annotation_level": "warning", "message": "flaky"}
    body: dict[str, Any] = {
        "name": "flaky tests",
        "head_sha": "feed",
        "conclusion": "neutral",
        "output": {"title": "Flaky", "summary": "Some", "annotations": [note] * 50},
    }
    assert sandbox.post(checks, json=body).status_code == 403
    found = sandbox.get("/orgs/acme/installation", headers=as_app()).json()
    made = sandbox.post(f"/app/installations/{found['id']}/access_tokens", headers=as_app()).json()
    headers = {"authorization": f"Bearer {made['token']}"}
    check = sandbox.post(checks, json=body, headers=headers).json()
    body["output"]["annotations"].append(note)
    assert sandbox.post(checks, json=body, headers=headers).status_code == 422
    body["output"]["annotations"] = [note] * 7
    changed = sandbox.ask("PATCH", f"{checks}/{check['id']}", json=body, headers=headers).json()
    assert changed["output"]["annotations_count"] == 57
