"""GitLab's things (groups, projects, commits) and their JSON, as its API description has them."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.git_store import GitStore, StoredCommit

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """A namespace that owns projects."""

    id: int
    path: str
    name: str
    parent: "Group | None" = None
    kind: str = "group"

    @property
    def full_path(self) -> str:
        return f"{self.parent.full_path}/{self.path}" if self.parent else self.path


@dataclass(slots=True)
class Project:
    """A repository with its settings."""

    id: int
    group: Group
    path: str
    name: str
    description: str | None
    visibility: str
    default_branch: str
    topics: list[str]
    created: datetime
    active: datetime
    git: GitStore = field(default_factory=GitStore)

    @property
    def full_path(self) -> str:
        return f"{self.group.full_path}/{self.path}"


def iso(moment: datetime) -> str:
    """GitLab's way to write a time: UTC, milliseconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def user(base: str) -> Body:
    """The owner of the accepted token."""
    return {
        "id": 1,
        "username": "sandbox",
        "name": "Sandbox Robot",
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{base}/sandbox",
        "created_at": "2019-03-04T09:12:45.000Z",
        "bio": "",
        "bot": True,
        "email": "sandbox@acme.example",
    }


def group(group: Group, base: str) -> Body:
    """A group's details."""
    return {
        "id": group.id,
        "web_url": f"{base}/groups/{group.full_path}",
        "name": group.name,
        "path": group.path,
        "description": "",
        "visibility": "private",
        "project_creation_level": "developer",
        "default_branch": "main",
        "avatar_url": None,
        "full_name": f"{group.parent.name} / {group.name}" if group.parent else group.name,
        "full_path": group.full_path,
        "created_at": "2019-03-04T09:20:11.000Z",
        "parent_id": group.parent.id if group.parent else None,
    }


def namespace_basic(group: Group, base: str) -> Body:
    """The namespace inside a project."""
    place = "groups/" if group.kind == "group" else ""
    return {
        "id": group.id,
        "name": group.name,
        "path": group.path,
        "kind": group.kind,
        "full_path": group.full_path,
        "parent_id": group.parent.id if group.parent else None,
        "avatar_url": None,
        "web_url": f"{base}/{place}{group.full_path}",
    }


def namespace(group: Group, base: str, projects: int) -> Body:
    """A namespace looked up for itself."""
    return {
        **namespace_basic(group, base),
        "members_count_with_descendants": 3,
        "projects_count": projects,
        "plan": "default",
        "trial": False,
    }


def basic_project(project: Project, base: str) -> Body:
    """A project in a listing."""
    page = f"{base}/{project.full_path}"
    commit = project.git.find(project.default_branch)
    has_readme = commit is not None and "README.md" in commit.files
    return {
        "id": project.id,
        "description": project.description,
        "name": project.name,
        "name_with_namespace": f"{project.group.name} / {project.name}",
        "path": project.path,
        "path_with_namespace": project.full_path,
        "created_at": iso(project.created),
        "default_branch": project.default_branch if project.git.branches else None,
        "tag_list": project.topics,
        "topics": project.topics,
        "ssh_url_to_repo": f"git@localhost:{project.full_path}.git",
        "http_url_to_repo": f"{page}.git",
        "web_url": page,
        "readme_url": f"{page}/-/blob/{project.default_branch}/README.md" if has_readme else None,
        "forks_count": 0,
        "avatar_url": None,
        "star_count": 0,
        "last_activity_at": iso(project.active),
        "namespace": namespace_basic(project.group, base),
    }


def project(project: Project, base: str) -> Body:
    """A project's details."""
    api = f"{base}/api/v4/projects/{project.id}"
    return {
        **basic_project(project, base),
        "_links": {
            "self": api,
            "issues": f"{api}/issues",
            "merge_requests": f"{api}/merge_requests",
            "repo_branches": f"{api}/repository/branches",
            "labels": f"{api}/labels",
            "events": f"{api}/events",
            "members": f"{api}/members",
        },
        "packages_enabled": True,
        "empty_repo": not project.git.branches,
        "archived": False,
        "visibility": project.visibility,
        "issues_enabled": True,
        "merge_requests_enabled": True,
        "wiki_enabled": True,
        "jobs_enabled": True,
        "snippets_enabled": True,
        "shared_runners_enabled": True,
        "lfs_enabled": True,
        "creator_id": 1,
        "import_status": "none",
        "open_issues_count": 0,
        "updated_at": iso(project.active),
        "merge_method": "merge",
        "request_access_enabled": True,
    }


def commit(project: Project, stored: StoredCommit, base: str) -> Body:
    """A commit in a listing."""
    moment = iso(stored.at)
    return {
        "id": stored.sha,
        "short_id": stored.sha[:8],
        "created_at": moment,
        "parent_ids": [stored.parent] if stored.parent else [],
        "title": stored.message.splitlines()[0],
        "message": stored.message,
        "author_name": stored.author_name,
        "author_email": stored.author_email,
        "authored_date": moment,
        "committer_name": stored.author_name,
        "committer_email": stored.author_email,
        "committed_date": moment,
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{base}/{project.full_path}/-/commit/{stored.sha}",
    }


def commit_detail(project: Project, stored: StoredCommit, base: str) -> Body:
    """A commit asked for by itself."""
    changed = {"additions": stored.additions, "deletions": stored.deletions}
    return {
        **commit(project, stored, base),
        "stats": changed | {"total": stored.additions + stored.deletions},
        "status": None,
        "project_id": project.id,
        "last_pipeline": None,
    }


def branch(project: Project, name: str, base: str) -> Body:
    """A branch and the commit at its head."""
    default = name == project.default_branch
    return {
        "name": name,
        "commit": commit(project, project.git.commits[project.git.branches[name]], base),
        "merged": False,
        "protected": default,
        "developers_can_push": False,
        "developers_can_merge": False,
        "can_push": True,
        "default": default,
        "web_url": f"{base}/{project.full_path}/-/tree/{name}",
    }
