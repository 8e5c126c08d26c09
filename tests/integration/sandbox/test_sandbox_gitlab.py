"""GitLab as a provisioner uses it: through python-gitlab."""

import json
from collections.abc import Iterator

import gitlab
import pytest
from gitlab.exceptions import (
    GitlabAuthenticationError,
    GitlabCreateError,
    GitlabGetError,
    GitlabListError,
)

from tests.integration.sandbox.conftest import Running


@pytest.fixture
def client(sandbox: Running) -> Iterator[gitlab.Gitlab]:
    """A client with the token."""
    with gitlab.Gitlab(sandbox.addresses["gitlab"], private_token="sandbox-token") as api:
        api.auth()
        yield api


def test_a_repository_is_provisioned(sandbox: Running, client: gitlab.Gitlab) -> None:
    """Look up, create, push in one commit, read back: what a provisioner does works with the real client."""
    group = client.groups.get(123)
    assert group.full_path == client.namespaces.get("acme/platform").full_path == "acme/platform"
    with pytest.raises(GitlabGetError) as absent:
        client.projects.get("acme/platform/new-service")
    assert (absent.value.response_code, absent.value.error_message) == (404, "404 Project Not Found")
    project = client.projects.create(
        {"name": "New Service", "path": "new-service", "namespace_id": group.id, "visibility": "private"}
    )
    assert (project.path_with_namespace, project.empty_repo) == ("acme/platform/new-service", True)
    actions = [
        {"action": "create", "file_path": "README.md", "content": "# New\n"},
        {"action": "create", "file_path": "src/app.py", "content": "cHJpbnQoKQo=", "encoding": "base64"},
        {"action": "create", "file_path": "run.sh", "content": "#!/bin/sh\n", "execute_filemode": True},
    ]
    commit = project.commits.create({"branch": "main", "commit_message": "Scaffold", "actions": actions})
    assert commit.stats == {"additions": 3, "deletions": 0, "total": 3}
    again = client.projects.get("acme/platform/new-service")
    assert (again.id, again.empty_repo, again.default_branch) == (project.id, False, "main")
    assert [one.id for one in again.commits.list(get_all=True)] == [commit.id]
    assert again.commits.get("main").title == "Scaffold"
    tree = again.repository_tree(recursive=True, get_all=True)
    assert [(entry["type"], entry["mode"], entry["path"]) for entry in tree] == [
        ("tree", "040000", "src"),
        ("blob", "100644", "README.md"),
        ("blob", "100755", "run.sh"),
        ("blob", "100644", "src/app.py"),
    ]
    assert again.files.get("src/app.py", ref="main").decode() == b"print()\n"
    assert [(effect["kind"], effect["path"]) for effect in sandbox.effects("gitlab")] == [
        ("project_created", "acme/platform/new-service"),
        ("commit_created", "acme/platform/new-service"),
    ]


def test_a_path_is_taken_once(client: gitlab.Gitlab) -> None:
    """A second project of the same path is refused as GitLab refuses it, in its own group only."""
    client.projects.create({"name": "twice", "namespace_id": 100})
    with pytest.raises(GitlabCreateError) as refused:
        client.projects.create({"name": "twice", "namespace_id": 100})
    assert refused.value.response_code == 400
    assert json.loads(refused.value.response_body or b"{}")["message"]["path"] == ["has already been taken"]
    assert (
        client.projects.create({"name": "twice", "namespace_id": 124}).path_with_namespace == "my-team/twice"
    )


def test_an_empty_repository_has_nothing(client: gitlab.Gitlab) -> None:
    """Before the first commit there are no commits, no tree and no branches."""
    project = client.projects.create({"name": "empty", "namespace_id": 100})
    with pytest.raises(GitlabListError) as commits:
        project.commits.list(get_all=True)
    with pytest.raises(GitlabGetError) as tree:
        project.repository_tree(get_all=True)
    assert (commits.value.response_code, commits.value.error_message) == (404, "404 Repository Not Found")
    assert (tree.value.response_code, tree.value.error_message) == (404, "404 Tree Not Found")
    assert project.branches.list(get_all=True) == []


def test_a_commit_is_all_or_nothing(client: gitlab.Gitlab) -> None:
    """One bad action refuses the commit and leaves the branch as it was."""
    project = client.projects.create({"name": "atomic", "namespace_id": 100, "initialize_with_readme": True})
    head = project.commits.get("main").id
    for action, text in (
        (
            {"action": "create", "file_path": "README.md", "content": ""},
            "A file with this name already exists",
        ),
        ({"action": "update", "file_path": "none", "content": ""}, "A file with this name doesn't exist"),
        ({"action": "create", "file_path": "../x", "content": ""}, "Path cannot include directory traversal"),
    ):
        good = {"action": "create", "file_path": "good.txt", "content": "x"}
        with pytest.raises(GitlabCreateError) as refused:
            project.commits.create({"branch": "main", "commit_message": "Bad", "actions": [good, action]})
        assert (refused.value.response_code, refused.value.error_message) == (400, text)
    assert project.commits.get("main").id == head
    with pytest.raises(GitlabCreateError) as elsewhere:
        project.commits.create({"branch": "nowhere", "commit_message": "x", "actions": [good]})
    assert elsewhere.value.error_message == "You can only create or edit files when you are on a branch"


def test_listings_are_paged(client: gitlab.Gitlab) -> None:
    """Search and pages reach every project once."""
    made = {client.projects.create({"name": f"paged-{n}", "namespace_id": 100}).id for n in range(7)}
    found = client.projects.list(search="paged-", per_page=3, get_all=True)
    assert sorted(project.id for project in found) == sorted(made)
    page = client.projects.list(search="paged-", per_page=3, iterator=True)
    assert (page.total, page.total_pages, page.next_page, page.prev_page) == (7, 3, 2, None)


def test_strangers_are_refused(sandbox: Running) -> None:
    """A wrong token is 401 in GitLab's words, and every answer tells the rate limit."""
    stranger = gitlab.Gitlab(sandbox.addresses["gitlab"], private_token="wrong")
    with pytest.raises(GitlabAuthenticationError) as refused:
        stranger.auth()
    assert refused.value.error_message == "401 Unauthorized"
    response = sandbox.lab("GET", "/user")
    assert response.headers["ratelimit-limit"] == "2000"
    assert int(response.headers["ratelimit-remaining"]) < 2000


def test_the_client_waits_out_a_rate_limit(sandbox: Running, client: gitlab.Gitlab) -> None:
    """python-gitlab obeys Retry-After of a 429 and then succeeds."""
    sandbox.control(
        "POST", "/faults", json={"target": "gitlab", "kind": "rate_limit", "times": 1, "seconds": 1}
    )
    assert client.groups.get(100).full_path == "acme"
    assert sandbox.control("GET", "/requests", params={"target": "gitlab"})["by_status"]["429"] == 1
