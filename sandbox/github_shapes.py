"""GitHub's JSON, field for field as its OpenAPI description has it: repositories, users, runs and jobs."""

from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

from sandbox.catalogue import Person, Repository
from sandbox.history import JobState, RunState, StepState

Body = dict[str, Any]

_REPOSITORY_PATHS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}
_USER_PATHS = {
    "followers_url": "/followers",
    "following_url": "/following{/other_user}",
    "gists_url": "/gists{/gist_id}",
    "starred_url": "/starred{/owner}{/repo}",
    "subscriptions_url": "/subscriptions",
    "organizations_url": "/orgs",
    "repos_url": "/repos",
    "events_url": "/events{/privacy}",
    "received_events_url": "/received_events",
}


def iso(moment: float) -> str:
    """GitHub's way to write a time: UTC, whole seconds, cut off rather than rounded."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int) -> str:
    """An opaque id of GraphQL's."""
    return f"{kind}_{b64encode(number.to_bytes(9, 'big')).decode()}"


def user(person: Person, base: str) -> Body:
    """A `simple-user`."""
    url = f"{base}/users/{person.login}"
    return {
        "login": person.login,
        "id": person.number,
        "node_id": node_id("U", person.number),
        "avatar_url": f"{base}/avatars/{person.number}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{base}/{person.login}",
        **{name: url + path for name, path in _USER_PATHS.items()},
        "type": person.kind,
        "user_view_type": "public",
        "site_admin": False,
    }


def token_owner(person: Person, base: str) -> Body:
    """The `public-user` to whom the accepted token belongs."""
    return {
        **user(person, base),
        "name": person.name,
        "company": "Acme",
        "blog": "",
        "location": None,
        "email": person.email,
        "hireable": None,
        "bio": None,
        "public_repos": 6,
        "public_gists": 0,
        "followers": 3,
        "following": 1,
        "created_at": "2019-03-04T09:12:45Z",
        "updated_at": "2026-01-09T15:30:00Z",
    }


def organization(owner: Person, repositories: int, base: str) -> Body:
    """An `organization-full`."""
    url = f"{base}/orgs/{owner.login}"
    return {
        "login": owner.login,
        "id": owner.number,
        "node_id": node_id("O", owner.number),
        "url": url,
        "repos_url": f"{url}/repos",
        "events_url": f"{url}/events",
        "hooks_url": f"{url}/hooks",
        "issues_url": f"{url}/issues",
        "members_url": f"{url}/members{{/member}}",
        "public_members_url": f"{url}/public_members{{/member}}",
        "avatar_url": f"{base}/avatars/{owner.number}",
        "description": None,
        "html_url": f"{base}/{owner.login}",
        "has_organization_projects": True,
        "has_repository_projects": True,
        "public_repos": repositories,
        "public_gists": 0,
        "followers": 0,
        "following": 0,
        "type": "Organization",
        "archived_at": None,
        "created_at": "2019-03-04T09:12:45Z",
        "updated_at": "2026-01-09T15:30:00Z",
    }


def minimal_repository(repository: Repository, base: str) -> Body:
    """The `minimal-repository` inside a run."""
    url = f"{base}/repos/{repository.full_name}"
    return {
        "id": repository.number,
        "node_id": node_id("R", repository.number),
        "name": repository.name,
        "full_name": repository.full_name,
        "private": False,
        "owner": user(repository.owner, base),
        "html_url": f"{base}/{repository.full_name}",
        "description": repository.description,
        "fork": False,
        "url": url,
        **{name: url + path for name, path in _REPOSITORY_PATHS.items()},
    }


def full_repository(repository: Repository, base: str) -> Body:
    """The `full-repository` of GET /repos/{owner}/{repo}."""
    page = f"{base}/{repository.full_name}"
    return {
        **minimal_repository(repository, base),
        "clone_url": f"{page}.git",
        "git_url": f"git://localhost/{repository.full_name}.git",
        "ssh_url": f"git@localhost:{repository.full_name}.git",
        "svn_url": page,
        "mirror_url": None,
        "homepage": None,
        "language": repository.language,
        "license": None,
        "default_branch": "main",
        "visibility": "public",
        "size": 4210,
        "topics": [],
        "forks": 0,
        "forks_count": 0,
        "network_count": 0,
        "open_issues": 3,
        "open_issues_count": 3,
        "stargazers_count": 7,
        "subscribers_count": 5,
        "watchers": 7,
        "watchers_count": 7,
        "has_issues": True,
        "has_projects": False,
        "has_wiki": False,
        "has_pages": False,
        "has_downloads": True,
        "has_discussions": False,
        "allow_forking": True,
        "archived": False,
        "disabled": False,
        "is_template": False,
        "web_commit_signoff_required": False,
        "permissions": {"admin": False, "maintain": False, "push": True, "triage": True, "pull": True},
        "organization": user(repository.owner, base),
        "created_at": "2019-03-04T09:20:11Z",
        "updated_at": "2026-01-09T15:30:00Z",
        "pushed_at": "2026-01-09T15:30:00Z",
    }


def workflow_run(run: RunState, base: str) -> Body:
    """A `workflow-run`."""
    repository = run.repository
    api = f"{base}/repos/{repository.full_name}"
    url = f"{api}/actions/runs/{run.id}"
    suite = run.id * 3 + 1
    person = {"name": run.author.name, "email": run.author.email}
    subject = run.message.splitlines()[0] if run.message else ""
    return {
        "id": run.id,
        "name": run.workflow.name,
        "node_id": node_id("WFR", run.id),
        "head_branch": run.branch,
        "head_sha": run.sha,
        "path": run.workflow.path,
        "display_title": run.workflow.name if run.event == "schedule" else subject,
        "run_number": run.number,
        "event": run.event,
        "status": run.status,
        "conclusion": run.conclusion,
        "workflow_id": run.workflow.number,
        "check_suite_id": suite,
        "check_suite_node_id": node_id("CS", suite),
        "url": url,
        "html_url": f"{base}/{repository.full_name}/actions/runs/{run.id}",
        "pull_requests": _pull_requests(run, api),
        "created_at": iso(run.created),
        "updated_at": iso(run.updated),
        "actor": user(run.actor, base),
        "run_attempt": run.attempt,
        "referenced_workflows": [],
        "run_started_at": iso(run.started),
        "triggering_actor": user(run.triggering_actor, base),
        "jobs_url": f"{url}/jobs",
        "logs_url": f"{url}/logs",
        "check_suite_url": f"{api}/check-suites/{suite}",
        "artifacts_url": f"{url}/artifacts",
        "cancel_url": f"{url}/cancel",
        "rerun_url": f"{url}/rerun",
        "previous_attempt_url": f"{url}/attempts/{run.attempt - 1}" if run.attempt > 1 else None,
        "workflow_url": f"{api}/actions/workflows/{run.workflow.number}",
        "head_commit": {
            "id": run.sha,
            "tree_id": run.sha[::-1],
            "message": run.message,
            "timestamp": iso(run.committed),
            "author": person,
            "committer": person,
        },
        "repository": minimal_repository(repository, base),
        "head_repository": minimal_repository(repository, base),
    }


def job(run: RunState, state: JobState, base: str) -> Body:
    """A `job`."""
    api = f"{base}/repos/{run.repository.full_name}"
    return {
        "id": state.id,
        "run_id": run.id,
        "workflow_name": run.workflow.name,
        "head_branch": run.branch,
        "run_url": f"{api}/actions/runs/{run.id}",
        "run_attempt": run.attempt,
        "node_id": node_id("CR", state.id),
        "head_sha": run.sha,
        "url": f"{api}/actions/jobs/{state.id}",
        "html_url": f"{base}/{run.repository.full_name}/actions/runs/{run.id}/job/{state.id}",
        "status": state.status,
        "conclusion": state.conclusion,
        "created_at": iso(state.created),
        "started_at": iso(state.started),
        "completed_at": None if state.completed is None else iso(state.completed),
        "name": state.name,
        "steps": [_step(step) for step in state.steps],
        "check_run_url": f"{api}/check-runs/{state.id}",
        "labels": [state.label],
        "runner_id": state.runner,
        "runner_name": None if state.runner is None else f"GitHub Actions {state.runner}",
        "runner_group_id": None if state.runner is None else 2,
        "runner_group_name": None if state.runner is None else "GitHub Actions",
    }


def _step(step: StepState) -> Body:
    return {
        "name": step.name,
        "status": step.status,
        "conclusion": step.conclusion,
        "number": step.number,
        "started_at": None if step.started is None else iso(step.started),
        "completed_at": None if step.completed is None else iso(step.completed),
    }


def _pull_requests(run: RunState, api: str) -> list[Body]:
    if run.pull_request is None:
        return []
    repository = {"id": run.repository.number, "url": api, "name": run.repository.name}
    return [
        {
            "id": run.repository.number * 10_000 + run.pull_request,
            "number": run.pull_request,
            "url": f"{api}/pulls/{run.pull_request}",
            "head": {"ref": run.branch, "sha": run.sha, "repo": repository},
            "base": {"ref": "main", "sha": run.sha[::-1], "repo": repository},
        }
    ]
