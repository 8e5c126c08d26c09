"""GitLab as the provisioner uses it: a group, a project of ours in it, one commit of ours in that.

Every call is safe to repeat: what an earlier try made is found by its mark and taken over.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chassis.outage import Outage
from chassis.retry import Transient
from services.provisioner.job import CannotProvision
from services.provisioner.render import File

if TYPE_CHECKING:
    from requests import RequestException, Response

_LONGEST_ANSWER_CHARACTERS = 300


@dataclass(frozen=True)
class Group:
    id: int
    path: str
    """All of it: `acme/platform`."""


@dataclass(frozen=True)
class Project:
    id: int
    path: str
    url: str
    is_new: bool = True
    """False when an earlier try had made it."""


@dataclass(frozen=True)
class Commit:
    sha: str
    is_new: bool = True


def mark(run_id: str) -> str:
    """The line in a project's description and a commit's message that says whose they are."""
    return f"Buildlight-Run: {run_id}"


def bears(text: str | None, run_id: str) -> bool:
    return mark(run_id) in (line.strip() for line in (text or "").splitlines())


class GitLab:
    """One conversation with GitLab, for one thread: python-gitlab's sessions are not to be shared.

    Every method blocks, and raises:
        CannotProvision: GitLab refused for good; the text says what to do.
        Transient: it may work later (429 with its wait, 5xx, an answer that is no JSON, is slow or breaks off).
        Outage: no connection to it can be made.
    """

    def __init__(self, url: str, token: str | None, *, timeout_seconds: float) -> None:
        if not token:
            raise CannotProvision(
                "GITLAB_TOKEN is not set: give the provisioner a token that may create projects"
            )
        # 15 MiB that only a process at work needs.
        import gitlab  # noqa: PLC0415
        import requests  # noqa: PLC0415

        self._url = url
        self._wait_seconds: float | None = None
        session = requests.Session()
        session.hooks["response"].append(self._remember_wait)
        self._api = gitlab.Gitlab(
            url, private_token=token, timeout=timeout_seconds, session=session, retry_transient_errors=False
        )

    def close(self) -> None:
        self._api.session.close()

    def group(self, name: str) -> Group:
        """The group with this id or full path."""
        with self._errors(f"the group {name}", absent=_no_group(name)):
            # obey_rate_limit=False, everywhere: a thread does not sleep for minutes, the message does.
            found = self._api.groups.get(name, obey_rate_limit=False)
            return Group(int(found.id), str(found.full_path))

    def create(self, group: Group, name: str, *, visibility: str, run_id: str, template: str) -> Project:
        """The run's own project in the group: made, or found when an earlier try made it."""
        path = f"{group.path}/{name}"
        existing = self._find(path)
        if existing is None:
            existing = self._make(group, name, visibility=visibility, run_id=run_id, template=template)
            if isinstance(existing, Project):
                return existing
        if not bears(existing.description, run_id):
            raise CannotProvision(
                f"The path {path} is taken: {existing.web_url} exists and is not of this run. "
                "Choose another name, or remove that project, and ask again with a new run_id"
            )
        return _project(existing, is_new=False)

    def push(self, project: Project, files: Sequence[File], *, message: str, run_id: str) -> Commit:
        """The run's one commit: found when an earlier try made it, else made."""
        import gitlab  # noqa: PLC0415

        with self._errors("the project", absent=_gone(project)):
            handle = self._api.projects.get(project.id, obey_rate_limit=False)
        made = self._own_commit(handle, project, run_id)
        if made is not None:
            return Commit(made, is_new=False)
        order = {
            "branch": handle.default_branch or "main",
            "commit_message": f"{message}\n\n{mark(run_id)}\n",
            "actions": [action for file in files for action in file.actions()],
        }
        try:
            with self._errors("the commit", absent=_gone(project), advice=_is_empty(project)):
                return Commit(str(handle.commits.create(order, obey_rate_limit=False).id))
        except CannotProvision as refusal:
            # An earlier try may have reached GitLab only now: then the files are there, and that is the refusal.
            if isinstance(refusal.__cause__, gitlab.GitlabError):
                made = self._own_commit(handle, project, run_id)
            if made is None:
                raise
            return Commit(made, is_new=False)

    def _find(self, path: str) -> Any:
        """The project at `path`, or None."""
        import gitlab  # noqa: PLC0415

        try:
            with self._errors(f"the path {path}"):
                found = self._api.projects.get(path, obey_rate_limit=False)
        except CannotProvision as refusal:
            cause = refusal.__cause__
            if isinstance(cause, gitlab.GitlabError) and cause.response_code == 404:
                return None
            raise
        # GitLab answers with a project that was moved away, too; its old path is free.
        return found if str(found.path_with_namespace).lower() == path.lower() else None

    def _make(self, group: Group, name: str, *, visibility: str, run_id: str, template: str) -> Any:
        import gitlab  # noqa: PLC0415

        path = f"{group.path}/{name}"
        order = {
            "name": name,
            "path": name,
            "namespace_id": group.id,
            "visibility": visibility,
            "description": f"Made from the blueprint {template}\n{mark(run_id)}",
            "initialize_with_readme": False,
        }
        try:
            with self._errors(f"the project {path}", absent=_no_group(group.path)):
                return _project(self._api.projects.create(order, obey_rate_limit=False))
        except CannotProvision as refusal:
            cause = refusal.__cause__
            if not isinstance(cause, gitlab.GitlabError) or "already been taken" not in str(cause):
                raise
        existing = self._find(path)
        if existing is None:
            raise CannotProvision(
                f"The path {path} is taken, by something this token cannot see or that is being deleted. "
                "Choose another name and ask again with a new run_id"
            )
        return existing

    def _own_commit(self, handle: Any, project: Project, run_id: str) -> str | None:
        """The sha of the commit with this run's mark, or None."""
        import gitlab  # noqa: PLC0415

        try:
            with self._errors("the commits", advice=_is_empty(project)):
                for commit in handle.commits.list(iterator=True, per_page=100, obey_rate_limit=False):
                    if bears(commit.message, run_id):
                        return str(commit.id)
        except CannotProvision as refusal:
            cause = refusal.__cause__
            if not isinstance(cause, gitlab.GitlabError) or cause.response_code != 404:
                raise  # an empty repository has no commits to list
        return None

    def _remember_wait(self, response: "Response", *_: Any, **__: Any) -> None:
        header = response.headers.get("retry-after", "")
        self._wait_seconds = float(header) if header.isdecimal() else None

    @contextlib.contextmanager
    def _errors(self, what: str, *, absent: str | None = None, advice: str = "") -> Iterator[None]:
        """Say what an error means for the run. `absent`: what a 404 means."""
        import gitlab  # noqa: PLC0415
        import requests  # noqa: PLC0415

        try:
            yield
        except gitlab.GitlabParsingError as error:
            raise Transient(f"GitLab's answer about {what} is not JSON") from error
        except gitlab.GitlabError as error:
            status = error.response_code or 0
            said = str(error.error_message)[:_LONGEST_ANSWER_CHARACTERS]
            if status == 429 or status >= 500:
                raise Transient(
                    f"GitLab answered {status} about {what}: {said}", retry_after_seconds=self._wait_seconds
                ) from error
            raise CannotProvision(_meaning(status, said, what, absent) + advice) from error
        except requests.RequestException as error:
            if _never_connected(error):
                raise Outage("gitlab", f"{self._url}: {type(error).__name__}") from error
            raise Transient(
                f"GitLab did not answer about {what}, and may have done it: {type(error).__name__}"
            ) from error


def _never_connected(error: "RequestException") -> bool:
    """Whether no connection was made at all: then it is GitLab that is away, and not this request it chokes on."""
    import requests  # noqa: PLC0415
    from urllib3.exceptions import MaxRetryError  # noqa: PLC0415

    # requests has one class for a refused connection and one that broke; urllib3 retries (here: never) only the first.
    return isinstance(error, requests.ConnectTimeout) or (
        isinstance(error, requests.ConnectionError)
        and bool(error.args)
        and isinstance(error.args[0], MaxRetryError)
    )


def _meaning(status: int, said: str, what: str, absent: str | None) -> str:
    if status == 401:
        return "GitLab refuses the token (401): make a new one with the scope api and set GITLAB_TOKEN"
    if status == 403:
        return (
            f"GitLab forbids it (403, {what}): {said}. The token needs the scope api, and its user the role "
            "Maintainer in the group (or Developer, where the group lets developers create projects)"
        )
    if status == 404 and absent is not None:
        return absent
    return f"GitLab refused {what} ({status}): {said}"


def _no_group(name: str) -> str:
    return (
        f"GitLab has no group {name} that the token may see (404): set git_config.group_id in the job, or "
        "GITLAB_GROUP_ID, to the id of a group whose member the token's user is"
    )


def _gone(project: Project) -> str:
    return f"The project {project.path} was made and is gone (404): ask again with a new run_id"


def _is_empty(project: Project) -> str:
    return (
        f". The project {project.url} exists and is empty: remove it, and ask again with a new run_id "
        "when the reason is mended"
    )


def _project(found: Any, *, is_new: bool = True) -> Project:
    return Project(int(found.id), str(found.path_with_namespace), str(found.web_url), is_new=is_new)
