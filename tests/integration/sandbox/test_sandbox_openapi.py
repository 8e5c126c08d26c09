"""The sandbox is no fiction that agrees with itself: its answers fit the providers' own API descriptions."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS30Validator
from referencing import Registry
from referencing.jsonschema import DRAFT4

from tests.corpora import corpus
from tests.integration.sandbox.conftest import CHECKOUT, Running, as_app


class Check(Protocol):
    def __call__(self, path: str, response: httpx.Response, method: str = "get") -> None: ...


RUN = "/repos/{owner}/{repo}/actions/runs/{run_id}"


def _description() -> dict[str, Any]:
    file = CHECKOUT / "node_modules/@octokit/openapi/generated/api.github.com.json"
    if not file.exists():
        pytest.skip("GitHub's OpenAPI description is not installed: run `npm ci`")
    document: dict[str, Any] = json.loads(file.read_text())
    # The description says a job's conclusion may be null, but leaves null out of its enumeration; GitHub
    # means the former, as every job still running shows.
    conclusion = document["components"]["schemas"]["job"]["properties"]["conclusion"]
    assert conclusion["nullable"]
    conclusion["enum"].append(None)
    return document


@pytest.fixture(scope="module")
def described() -> Check:
    """Compares a GitHub answer with what its OpenAPI description says about that path and status."""
    document = _description()
    registry: Registry[Any] = Registry().with_resource("urn:github", DRAFT4.create_resource(document))

    def check(path: str, response: httpx.Response, method: str = "get") -> None:
        answers = document["paths"][path][method]["responses"]
        assert str(response.status_code) in answers, (path, response.status_code, response.text[:300])
        answer = answers[str(response.status_code)]
        escaped = path.replace("~", "~0").replace("/", "~1")
        place = f"paths/{escaped}/{method}/responses/{response.status_code}"
        if "$ref" in answer:
            place = answer["$ref"].removeprefix("#/")
        elif "content" not in answer:
            assert response.content == b""
            return
        reference = f"urn:github#/{place}/content/application~1json/schema"
        validator = OAS30Validator(
            {"$ref": reference}, registry=registry, format_checker=OAS30Validator.FORMAT_CHECKER
        )
        errors = [
            f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(response.json())
        ]
        assert errors == []

    return check


def test_every_endpoint_answers_as_described(sandbox: Running, described: Check) -> None:
    """Repository, listings, runs, attempts, jobs, user and rate limit have the shape GitHub promises."""
    described("/repos/{owner}/{repo}", sandbox.get("/repos/acme/shop"))
    described("/user", sandbox.get("/user"))
    described("/rate_limit", sandbox.get("/rate_limit"))
    for repository in sandbox.control("GET", "/")["repositories"]:
        described(
            "/repos/{owner}/{repo}/actions/runs",
            sandbox.get(f"/repos/{repository}/actions/runs", params={"per_page": 100}),
        )


def test_runs_of_every_kind_answer_as_described(sandbox: Running, described: Check) -> None:
    """Whatever became of a run: it, each of its attempts and their jobs have the shape GitHub promises."""
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for repository in sandbox.control("GET", "/")["repositories"]:
        for page in range(1, 7):
            params = {"per_page": 100, "page": page}
            listing = sandbox.get(f"/repos/{repository}/actions/runs", params=params).json()
            for run in listing["workflow_runs"]:
                kind = (run["name"], run["event"], run["status"], run["conclusion"], run["run_attempt"])
                kinds.setdefault(kind, run)
    assert len(kinds) > 20
    for run in kinds.values():
        path = run["url"].removeprefix(sandbox.github)
        described(RUN, sandbox.get(path))
        described(f"{RUN}/jobs", sandbox.get(f"{path}/jobs", params={"filter": "all"}))
        for attempt in range(1, run["run_attempt"] + 1):
            described(f"{RUN}/attempts/{{attempt_number}}", sandbox.get(f"{path}/attempts/{attempt}"))
            described(
                f"{RUN}/attempts/{{attempt_number}}/jobs", sandbox.get(f"{path}/attempts/{attempt}/jobs")
            )


def test_what_runs_leave_answers_as_described(sandbox: Running, described: Check) -> None:
    """Artifacts, their download, single jobs and logs, of living runs and of scripted ones."""
    params = {"status": "completed", "per_page": 100}
    artifacts = []
    for run in sandbox.get("/repos/acme/shop/actions/runs", params=params).json()["workflow_runs"][:40]:
        path = run["url"].removeprefix(sandbox.github)
        listed = sandbox.get(f"{path}/artifacts")
        described(f"{RUN}/artifacts", listed)
        artifacts += listed.json()["artifacts"]
        described(f"{RUN}/logs", sandbox.get(f"{path}/logs"))
        for job in sandbox.get(f"{path}/jobs").json()["jobs"]:
            at = job["url"].removeprefix(sandbox.github)
            described("/repos/{owner}/{repo}/actions/jobs/{job_id}", sandbox.get(at))
            if job["conclusion"] != "skipped" and job["steps"]:
                described("/repos/{owner}/{repo}/actions/jobs/{job_id}/logs", sandbox.get(f"{at}/logs"))
    assert len(artifacts) > 20
    for artifact in artifacts[:10]:
        at = artifact["url"].removeprefix(sandbox.github)
        described("/repos/{owner}/{repo}/actions/artifacts/{artifact_id}", sandbox.get(at))
        described(
            "/repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}", sandbox.get(f"{at}/zip")
        )
    script = {
        "repository": "acme/left",
        "status": "completed",
        "artifacts": [{"name": "old", "files": {"junit.xml": "<testsuite/>"}, "expired": True}],
    }
    path = f"/repos/acme/left/actions/runs/{sandbox.control('POST', '/github/runs', json=script)['id']}"
    [old] = sandbox.get(f"{path}/artifacts").json()["artifacts"]
    assert old["expired"]
    described(
        "/repos/{owner}/{repo}/actions/artifacts/{artifact_id}/{archive_format}",
        sandbox.get(f"{old['url'].removeprefix(sandbox.github)}/zip"),
    )


def test_changes_answer_as_described(sandbox: Running, described: Check) -> None:
    """Rerun, cancel, delete and commit statuses have the shape GitHub promises, and so has a refusal."""
    script = {"repository": "acme/changed", "status": "completed", "conclusion": "failure"}
    path = f"/repos/acme/changed/actions/runs/{sandbox.control('POST', '/github/runs', json=script)['id']}"
    described(f"{RUN}/rerun", sandbox.post(f"{path}/rerun"), "post")
    described(f"{RUN}/cancel", sandbox.post(f"{path}/cancel"), "post")
    described(f"{RUN}/cancel", sandbox.post(f"{path}/cancel"), "post")
    described(f"{RUN}/rerun-failed-jobs", sandbox.post(f"{path}/rerun-failed-jobs"), "post")
    sandbox.post(f"{path}/cancel")
    described(RUN, sandbox.ask("DELETE", path), "delete")
    assert sandbox.get(path).status_code == 404
    body = {
        "state": "success",
        "context": "flaky tests",
        "description": "none",
        "target_url": "https://x.test/",
    }
    described(
        "/repos/{owner}/{repo}/statuses/{sha}",
        sandbox.post("/repos/acme/shop/statuses/0a1b2c", json=body),
        "post",
    )
    described(
        "/repos/{owner}/{repo}/commits/{ref}/statuses",
        sandbox.get("/repos/acme/shop/commits/0a1b2c/statuses"),
    )


def test_deployments_answer_as_described(sandbox: Running, described: Check) -> None:
    """Deployments and their statuses, in all the states there are."""
    listed = sandbox.get("/repos/acme/shop/deployments", params={"per_page": 100})
    described("/repos/{owner}/{repo}/deployments", listed)
    states = set()
    for one in listed.json():
        at = one["url"].removeprefix(sandbox.github)
        described("/repos/{owner}/{repo}/deployments/{deployment_id}", sandbox.get(at))
        statuses = sandbox.get(f"{at}/statuses")
        described("/repos/{owner}/{repo}/deployments/{deployment_id}/statuses", statuses)
        states |= {status["state"] for status in statuses.json()}
    assert states >= {"pending", "in_progress", "success", "inactive"}


def test_owners_answer_as_described(sandbox: Running, described: Check) -> None:
    """Organisations and the repositories of organisations, people and the token's owner."""
    described("/orgs/{org}", sandbox.get("/orgs/acme"))
    described("/orgs/{org}/repos", sandbox.get("/orgs/acme/repos"))
    described("/users/{username}/repos", sandbox.get("/users/acme/repos"))
    described("/user/repos", sandbox.get("/user/repos"))
    described("/orgs/{org}", sandbox.get("/orgs/nobody"))
    archived = {one["full_name"]: one["archived"] for one in sandbox.get("/orgs/acme/repos").json()}
    assert archived["acme/attic"]
    assert not archived["acme/shop"]


def test_an_app_is_answered_as_described(sandbox: Running, described: Check) -> None:
    """Its installation, the token it gets, what that sees, and the check runs it makes."""
    described(
        "/repos/{owner}/{repo}/installation", sandbox.get("/repos/acme/shop/installation", headers=as_app())
    )
    found = sandbox.get("/orgs/acme/installation", headers=as_app())
    described("/orgs/{org}/installation", found)
    described("/users/{username}/installation", sandbox.get("/users/acme/installation", headers=as_app()))
    made = sandbox.post(f"/app/installations/{found.json()['id']}/access_tokens", headers=as_app())
    described("/app/installations/{installation_id}/access_tokens", made, "post")
    headers = {"authorization": f"Bearer {made.json()['token']}"}
    described("/installation/repositories", sandbox.get("/installation/repositories", headers=headers))
    note = {"path": "a.py", "start_line": 1, "end_line": 1, "annotation_level": "warning", "message": "flaky"}
    body = {
        "name": "flaky tests",
        "head_sha": "0a1b2c",
        "status": "completed",
        "conclusion": "neutral",
        "output": {"title": "1 flaky test", "summary": "It passed when run again.", "annotations": [note]},
    }
    checks = "/repos/acme/shop/check-runs"
    check = sandbox.post(checks, json=body, headers=headers)
    described("/repos/{owner}/{repo}/check-runs", check, "post")
    one = f"{checks}/{check.json()['id']}"
    described("/repos/{owner}/{repo}/check-runs/{check_run_id}", sandbox.get(one, headers=headers))
    changed = sandbox.ask("PATCH", one, json={"conclusion": "failure"}, headers=headers)
    described("/repos/{owner}/{repo}/check-runs/{check_run_id}", changed, "patch")
    described(
        "/repos/{owner}/{repo}/commits/{ref}/check-runs",
        sandbox.get("/repos/acme/shop/commits/0a1b2c/check-runs", headers=headers),
    )


def test_errors_answer_as_described(sandbox: Running, described: Check) -> None:
    """What is not there and who is not known are refused in GitHub's shape."""
    described("/repos/{owner}/{repo}", sandbox.get("/repos/acme/nothing"))
    described(
        f"{RUN}/attempts/{{attempt_number}}/jobs",
        sandbox.get("/repos/acme/shop/actions/runs/1/attempts/1/jobs"),
    )
    described("/user", sandbox.get("/user", headers={"authorization": "Bearer wrong"}))


def test_no_field_is_invented(sandbox: Running) -> None:
    """Runs, jobs and repositories have no field that GitHub's description does not know."""
    schemas = _description()["components"]["schemas"]
    finished = {"status": "success", "per_page": 1}
    run = sandbox.get("/repos/acme/shop/actions/runs", params=finished).json()["workflow_runs"][0]
    job = sandbox.get(f"/repos/acme/shop/actions/runs/{run['id']}/jobs").json()["jobs"][0]
    repository = sandbox.get("/repos/acme/shop").json()
    assert set(run) <= set(schemas["workflow-run"]["properties"])
    assert set(job) <= set(schemas["job"]["properties"])
    assert set(job["steps"][0]) <= set(schemas["job"]["properties"]["steps"]["items"]["properties"])
    assert set(repository) <= set(schemas["full-repository"]["properties"])


@pytest.mark.parametrize(
    ("status", "conclusion"),
    [
        ("queued", None),
        ("waiting", None),
        ("in_progress", None),
        ("completed", "action_required"),
        ("completed", "success"),
    ],
)
def test_scripted_runs_answer_as_described(
    sandbox: Running, described: Check, status: str, conclusion: str | None
) -> None:
    """A scripted run has the same shape as a living one, in every state a run passes through."""
    script = {"repository": "acme/scripted-shape", "status": status, "conclusion": conclusion}
    run = sandbox.control("POST", "/github/runs", json=script)
    path = f"/repos/acme/scripted-shape/actions/runs/{run['id']}"
    described(RUN, sandbox.get(path))
    described(f"{RUN}/jobs", sandbox.get(f"{path}/jobs"))
    described("/repos/{owner}/{repo}", sandbox.get("/repos/acme/scripted-shape"))


def test_gitlab_answers_as_described(sandbox: Running) -> None:
    """Projects, commits, tree, groups, namespaces have the types, and only the fields, GitLab describes."""
    document = yaml.load(corpus("openapi/gitlab-v2.yaml").read_text(), Loader=yaml.CSafeLoader)
    name = "described-project"
    made = sandbox.lab("POST", "/projects", json={"name": name, "namespace_id": 123})
    project = f"/projects/{made.json()['id']}"
    actions = [{"action": "create", "file_path": "src/app.py", "content": "print()\n"}]
    commit = sandbox.lab(
        "POST",
        f"{project}/repository/commits",
        json={"branch": "main", "commit_message": "Begin", "actions": actions},
    )
    answers = {
        ("post", "/api/v4/projects"): made,
        ("post", "/api/v4/projects/{id}/repository/commits"): commit,
        ("get", "/api/v4/projects"): sandbox.lab("GET", "/projects"),
        ("get", "/api/v4/projects/{id}"): sandbox.lab("GET", project),
        ("get", "/api/v4/projects/{id}/repository/commits"): sandbox.lab(
            "GET", f"{project}/repository/commits"
        ),
        ("get", "/api/v4/projects/{id}/repository/commits/{sha}"): sandbox.lab(
            "GET", f"{project}/repository/commits/main"
        ),
        ("get", "/api/v4/projects/{id}/repository/tree"): sandbox.lab("GET", f"{project}/repository/tree"),
        ("get", "/api/v4/groups/{id}"): sandbox.lab("GET", "/groups/acme%2Fplatform"),
        ("get", "/api/v4/namespaces"): sandbox.lab("GET", "/namespaces"),
        ("get", "/api/v4/namespaces/{id}"): sandbox.lab("GET", "/namespaces/123"),
        ("get", "/api/v4/namespaces/{id}/exists"): sandbox.lab("GET", "/namespaces/acme/exists"),
    }
    for (method, path), response in answers.items():
        assert response.is_success, (path, response.text)
        described = document["paths"][path][method]["responses"]
        # Creating a commit is described as 200 and answered with 201, as GitLab does.
        schema = described.get(str(response.status_code), described.get("200"))["schema"]
        # A tree is described as one entry where GitLab answers a list.
        rows = response.json() if isinstance(response.json(), list) else [response.json()]
        assert rows
        for row in rows:
            assert _unlike(row, schema.get("items", schema), document, path) == []


@pytest.fixture(scope="module")
def gitlab_described() -> Callable[[str, str, httpx.Response], None]:
    """Compares an answer of GitLab's CI with what its description says about that path."""
    document = yaml.load(corpus("openapi/gitlab-v2.yaml").read_text(), Loader=yaml.CSafeLoader)

    def check(method: str, path: str, response: httpx.Response) -> None:
        assert response.is_success, (path, response.text)
        described = document["paths"][f"/api/v4/projects/{{id}}{path}"][method]["responses"]
        schema = described.get(str(response.status_code), described.get("200"))["schema"]
        rows = response.json() if isinstance(response.json(), list) else [response.json()]
        assert rows
        for row in rows:
            assert _unlike(row, schema.get("items", schema), document, path) == []

    return check


def test_gitlabs_ci_answers_as_described(
    sandbox: Running, gitlab_described: Callable[[str, str, httpx.Response], None]
) -> None:
    """Pipelines of every kind, their jobs, trigger jobs, reports, deployments, and what changes them."""
    project = "/projects/acme%2Fplatform%2Fbilling"
    params: dict[str, Any] = {"per_page": 100}
    listings = [
        sandbox.lab("GET", f"{project}/pipelines", params=params | more)
        for more in ({}, {"source": "parent_pipeline"}, {"source": "schedule"})
    ]
    kinds: dict[tuple[str, ...], int] = {}
    for listing in listings:
        gitlab_described("get", "/pipelines", listing)
        kinds |= {(row["source"], row["status"]): row["id"] for row in listing.json()}
    assert len(kinds) > 5
    jobs: dict[str, dict[str, Any]] = {}
    bridges = 0
    for number in kinds.values():
        one = f"{project}/pipelines/{number}"
        gitlab_described("get", "/pipelines/{pipeline_id}", sandbox.lab("GET", one))
        gitlab_described(
            "get", "/pipelines/{pipeline_id}/test_report", sandbox.lab("GET", f"{one}/test_report")
        )
        found = sandbox.lab("GET", f"{one}/jobs", params=params | {"include_retried": "true"})
        if found.json():
            gitlab_described("get", "/pipelines/{pipeline_id}/jobs", found)
            jobs |= {row["status"]: row for row in found.json()}
        found = sandbox.lab("GET", f"{one}/bridges")
        if found.json():
            bridges += 1
            gitlab_described("get", "/pipelines/{pipeline_id}/bridges", found)
    assert bridges
    assert {"success", "failed"} <= set(jobs)
    for row in jobs.values():
        gitlab_described("get", "/jobs/{job_id}", sandbox.lab("GET", f"{project}/jobs/{row['id']}"))
    gitlab_described("get", "/deployments", sandbox.lab("GET", f"{project}/deployments"))
    made = sandbox.control(
        "POST", "/gitlab/pipelines", json={"project": "acme/described", "status": "failed"}
    )
    place = "/projects/acme%2Fdescribed"
    one = f"{place}/pipelines/{made['id']}"
    gitlab_described("post", "/pipelines/{pipeline_id}/retry", sandbox.lab("POST", f"{one}/retry"))
    gitlab_described("post", "/pipelines/{pipeline_id}/cancel", sandbox.lab("POST", f"{one}/cancel"))
    gitlab_described("post", "/pipeline", sandbox.lab("POST", f"{place}/pipeline", json={"ref": "main"}))
    status = {"state": "success", "name": "flaky tests", "description": "none"}
    gitlab_described(
        "post", "/statuses/{sha}", sandbox.lab("POST", f"{place}/statuses/{made['sha']}", json=status)
    )


def _unlike(value: Any, schema: dict[str, Any], document: dict[str, Any], at: str) -> list[str]:
    """Where a value is not what Swagger says.

    GitLab's description calls whatever has no declared type a plain "string", and never says what may be
    null; so a plain string says nothing, and null is let pass.
    """
    if "$ref" in schema:
        schema = document["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    kinds = {"integer": int, "boolean": bool, "array": list, "object": dict}
    kind = schema.get("type")
    if value is None or (kind == "string" and "format" not in schema):
        return []
    if kind == "string":
        moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        fits = isinstance(value, str) and (schema["format"] != "date-time" or re.fullmatch(moment, value))
        return [] if fits else [f"{at}: {value!r} is no {schema['format']}"]
    if kind in kinds and not isinstance(value, kinds[kind]):
        return [f"{at}: {value!r} is no {kind}"]
    wrong = []
    if kind == "array":
        for one in value:
            wrong += _unlike(one, schema.get("items", {}), document, f"{at}[]")
    elif "properties" in schema:
        for name, inner in value.items():
            if name in schema["properties"]:
                wrong += _unlike(inner, schema["properties"][name], document, f"{at}.{name}")
            else:
                wrong.append(f"{at}.{name} is not described")
    return wrong


def test_the_check_itself_can_fail() -> None:
    """A wrong type and an invented field are both found."""
    schema = {"type": "object", "properties": {"id": {"type": "integer"}}}
    assert _unlike({"id": "7", "nick": "x"}, schema, {}, "it") == [
        "it.id: '7' is no integer",
        "it.nick is not described",
    ]


def test_recorded_answers_are_served_as_they_were(start: Callable[..., Running]) -> None:
    """Every recorded row comes back unchanged, alone, from GitHub's endpoints."""
    folder: Path = corpus("api/github/devlake-raw")
    recorded = start("--recorded", str(folder))
    served = recorded.control("GET", "/github/served")
    assert len(served) == 35
    assert {status for _, _, status, _ in served} >= {
        "completed",
        "COMPLETED",
        "STALE",
        "REQUESTED",
        "WAITING",
    }
    assert recorded.control("GET", "/")["repositories"] == ["panjf2000/ants"]
    path = "/repos/panjf2000/ants/actions/runs"
    listing = recorded.get(path, params={"per_page": 100}).json()
    assert listing["total_count"] == 35
    rows = {run["id"]: run for run in listing["workflow_runs"]}
    created = [run["created_at"] for run in listing["workflow_runs"]]
    assert created == sorted(created, reverse=True)
    for run_id, attempt, status, conclusion in served:
        run = recorded.get(f"{path}/{run_id}").json()
        assert run == rows[run_id] == recorded.get(f"{path}/{run_id}/attempts/{attempt}").json()
        assert (run["status"], run["conclusion"]) == (status, conclusion)
        assert recorded.get(f"{path}/{run_id}/attempts/{attempt + 1}").status_code == 404
        jobs = recorded.get(f"{path}/{run_id}/attempts/{attempt}/jobs")
        assert (jobs.status_code, jobs.json()) == (200, {"total_count": 0, "jobs": []})
    second = next(run_id for run_id, attempt, _, _ in served if attempt == 2)
    assert recorded.get(f"{path}/{second}/attempts/1").status_code == 404
    assert recorded.get(f"{path}/{second}/attempts/1/jobs").status_code == 404
    assert recorded.get(f"{path}/577324554/jobs").json()["total_count"] == 6
    assert recorded.get(f"{path}/577324554").status_code == 404
    assert recorded.get(f"{path}/1/jobs").status_code == 404
    with_query = {"created": "2022-09-01..2022-09-03"}
    some = recorded.get(path, params=with_query).json()["workflow_runs"]
    assert [run["created_at"] for run in some] == [at for at in created if "2022-09-01" <= at < "2022-09-04"]
    assert some
