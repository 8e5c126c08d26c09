"""The sandbox's Jenkins: what `tree` leaves, who may ask, and a history that is the same whenever it is asked."""

from typing import Any

import httpx
import pytest

from sandbox.company import Company, build
from sandbox.jenkins_tree import TreeError, parse, pruned

BODY = {
    "_class": "Job",
    "name": "x",
    "lastBuild": {"_class": "Run", "number": 3},
    "builds": [
        {"_class": "Run", "number": n, "actions": [{}, {"causes": [{"a": 1, "b": 2}]}]} for n in (3, 2, 1)
    ],
}
START = 1_780_000_000.0


@pytest.mark.parametrize(
    ("tree", "left"),
    [
        ("name", {"_class": "Job", "name": "x"}),
        ("nothing", {"_class": "Job"}),
        ("lastBuild", {"_class": "Job", "lastBuild": {"_class": "Run", "number": 3}}),
        (
            "builds[number]{1,3}",
            {"_class": "Job", "builds": [{"_class": "Run", "number": n} for n in (2, 1)]},
        ),
        ("builds[number]{,1}", {"_class": "Job", "builds": [{"_class": "Run", "number": 3}]}),
        ("builds[number]{2,}", {"_class": "Job", "builds": [{"_class": "Run", "number": 1}]}),
        ("builds[number]{1}", {"_class": "Job", "builds": [{"_class": "Run", "number": 2}]}),
        ("builds[number]{9,99}", {"_class": "Job", "builds": []}),
        (
            "builds[actions[causes[b]]]{0,1},name",
            {
                "_class": "Job",
                "name": "x",
                "builds": [{"_class": "Run", "actions": [{}, {"causes": [{"b": 2}]}]}],
            },
        ),
        ("lastBuild[*]", {"_class": "Job", "lastBuild": {"_class": "Run", "number": 3}}),
    ],
)
def test_what_a_tree_leaves(tree: str, left: dict[str, Any]) -> None:
    """What is named, and the classes; a wrong name is no error, and its field is not there."""
    assert pruned(BODY, parse(tree)) == left


@pytest.mark.parametrize(
    "tree", ["a[b", "a]", "a[b]]", "a{1", "a{}", "a{x,2}", "a[b]c", "[a]", "a;b", "a{1,2,3}"]
)
def test_a_wrong_tree(tree: str) -> None:
    with pytest.raises(TreeError):
        parse(tree)


def client(
    company: Company, auth: tuple[str, str] | None = ("sandbox", "sandbox-token")
) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(company.app)
    return httpx.AsyncClient(transport=transport, base_url="http://sandbox", auth=auth)


async def test_who_may_ask() -> None:
    """Nobody without an account; a token needs no crumb, a password does, with its session."""
    company = build(repositories=1, backlog_hours=5, speed=0, start=START)
    async with client(company, None) as http:
        answer = await http.get("/jenkins/api/json?tree=jobs[name]")
        assert (answer.status_code, answer.headers["x-you-are-authenticated-as"]) == (403, "anonymous")
    async with client(company, ("sandbox", "wrong")) as http:
        assert (await http.get("/jenkins/api/json")).status_code == 401
    job = "/jenkins/job/acme/job/ledger/job/main"
    async with client(company) as http:
        assert (await http.post(f"{job}/build")).status_code == 201
        assert (await http.get(f"{job}/build")).status_code == 405
        assert (await http.post(f"{job}/buildWithParameters")).status_code == 400
    async with client(company, ("sandbox", "sandbox-password")) as http:
        assert "No valid crumb" in (await http.post(f"{job}/build")).text
        crumb = (await http.get("/jenkins/crumbIssuer/api/json")).json()
        headers = {crumb["crumbRequestField"]: crumb["crumb"]}
        assert (await http.post(f"{job}/build", headers=headers)).status_code == 201
        http.cookies.clear()
        assert (await http.post(f"{job}/build", headers=headers)).status_code == 403


async def test_the_history_is_the_same_whenever_it_is_asked() -> None:
    """Numbers follow the time at which builds began, whether it was asked on the way or not."""
    companies = [build(repositories=2, backlog_hours=12, speed=0, start=START) for _ in range(2)]
    seen = []
    for company in companies:
        async with client(company) as http:
            seen.append((await http.get("/_sandbox/jenkins/served")).json())
    assert seen[0] == seen[1]
    assert len(seen[0]) > 20
    by_job: dict[str, list[tuple[int, int]]] = {}
    for job, number, timestamp, _, _ in seen[0]:
        by_job.setdefault(job, []).append((timestamp, number))
    for builds in by_job.values():
        assert [number for _, number in sorted(builds)] == list(range(1, len(builds) + 1))
    assert {"acme/ledger/main", "acme/ledger-deploy"} <= set(by_job)


async def test_a_started_build_takes_the_next_number() -> None:
    """And what is stopped has ended; what was never there is not found."""
    company = build(repositories=1, backlog_hours=12, speed=0, start=START)
    job = "/jenkins/job/acme/job/ledger/job/main"
    async with client(company) as http:
        tree = {"tree": "lastBuild[number,building,result]"}
        before = (await http.get(f"{job}/api/json", params=tree)).json()["lastBuild"]["number"]
        await http.post(f"{job}/build")
        after = (await http.get(f"{job}/api/json", params=tree)).json()["lastBuild"]
        assert (after["number"], after["building"]) == (before + 1, True)
        assert (await http.post(f"{job}/{after['number']}/stop")).status_code == 302
        stopped = (await http.get(f"{job}/api/json", params=tree)).json()["lastBuild"]
        assert (stopped["building"], stopped["result"]) == (False, "ABORTED")
        for path in ("/999/api/json", "/999/wfapi/describe", "/1/nothing"):
            assert (await http.get(f"{job}{path}")).status_code == 404
        assert (await http.get("/jenkins/job/none/api/json")).status_code == 404
        assert (await http.get(f"{job}/api/json?tree=a[")).status_code == 400
        kinds = {
            effect["kind"]
            for effect in (await http.get("/_sandbox/effects?target=jenkins")).json()["effects"]
        }
        assert kinds == {"build_started", "build_stopped"}


async def test_stages_and_reports_of_what_lives() -> None:
    """A pipeline's builds have stages, a matrix's do not; a build whose tests failed has them in its report."""
    company = build(repositories=1, backlog_hours=48, speed=0, start=START)
    async with client(company) as http:
        served = (await http.get("/_sandbox/jenkins/served")).json()
        job, number = next(
            (job, n) for job, n, _, _, result in served if result == "UNSTABLE" and "/main" in job
        )
        path = f"/jenkins/{'/'.join(f'job/{part}' for part in job.split('/'))}/{number}"
        stages = (await http.get(f"{path}/wfapi/describe")).json()["stages"]
        assert {"SUCCESS", "FAILED"} <= {stage["status"] for stage in stages}
        failed = next(stage for stage in stages if stage["status"] == "FAILED")
        node = (await http.get(f"{path}/execution/node/{failed['id']}/wfapi/describe")).json()
        logs = [step for step in node["stageFlowNodes"] if "log" in step["_links"]]
        assert logs
        text = await http.get(f"{path}/execution/node/{logs[0]['id']}/log/logText/progressiveText?start=0")
        assert text.text.startswith("+ ")
        report = (await http.get(f"{path}/testReport/api/json?tree=failCount,suites[cases[status]]")).json()
        bad = [case for suite in report["suites"] for case in suite["cases"] if case["status"] == "FAILED"]
        assert len(bad) == report["failCount"] > 0
        nightly = "/jenkins/job/acme/job/ledger-nightly/1"
        assert (await http.get(f"{nightly}/wfapi/describe")).status_code == 404
        runs = (await http.get(f"{nightly}/api/json?tree=runs[url,number]")).json()["runs"]
        assert any("BROWSER" in run["url"] for run in runs)
        assert (await http.get(f"{nightly}/consoleText")).text.startswith("Started by")
