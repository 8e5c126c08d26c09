"""GitLab's REST API v4: what somebody needs who provisions repositories, and (in gitlab_ci) who watches CI."""

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sandbox import gitlab_shapes as shapes
from sandbox.address import base_of
from sandbox.git_store import UnacceptableError, entries
from sandbox.gitlab_ci import CI
from sandbox.gitlab_listing import GROUPS, RefusalError, body_of, missing, page_of, search
from sandbox.gitlab_shapes import Body, Group, Project
from sandbox.ledger import Ledger

TOKEN = "sandbox-token"  # noqa: S105 - the one the sandbox accepts
RATE_LIMIT = 2000
VISIBILITIES = ("private", "internal", "public")
_PATH_RULE = (
    "can contain only letters, digits, '_', '-' and '.'. "
    "Cannot start with '-', end in '.git' or end in '.atom'"
)
_UNIQUE = ("project_namespace.name", "name", "path")
_AUTHOR = ("Sandbox Robot", "sandbox@acme.example")


class GitLab:
    """The server: a few groups, the projects made since it started, and those with CI."""

    def __init__(self, ledger: Ledger, ci: CI, *, limit: int = RATE_LIMIT) -> None:
        """`limit`: requests a minute."""
        self._ledger = ledger
        self._ci = ci
        self._projects = ci.projects
        self._next_id = 1001
        self._window = (0, 0)
        self.limit = limit

    def routes(self) -> list[Route]:
        project = "/api/v4/projects/{id}"
        endpoints: list[tuple[str, str, Callable[[Request, Body], Response]]] = [
            ("GET", "/api/v4/user", self.user),
            ("GET", "/api/v4/version", self.version),
            ("GET", "/api/v4/groups", self.groups),
            ("GET", "/api/v4/groups/{id}", self.group),
            ("GET", "/api/v4/namespaces", self.namespaces),
            ("GET", "/api/v4/namespaces/{id}", self.namespace),
            ("GET", "/api/v4/namespaces/{id}/exists", self.namespace_exists),
            ("GET", "/api/v4/projects", self.projects),
            ("POST", "/api/v4/projects", self.create_project),
            ("GET", project, self.project),
            ("DELETE", project, self.delete_project),
            ("GET", f"{project}/repository/commits", self.commits),
            ("POST", f"{project}/repository/commits", self.create_commit),
            ("GET", f"{project}/repository/commits/{{sha}}", self.commit),
            ("GET", f"{project}/repository/tree", self.tree),
            ("GET", f"{project}/repository/branches", self.branches),
            ("GET", f"{project}/repository/branches/{{branch}}", self.branch),
            ("GET", f"{project}/repository/files/{{path}}", self.file),
            ("GET", f"{project}/repository/files/{{path}}/raw", self.raw_file),
        ]
        endpoints += self._ci.endpoints()
        routes = [Route(path, self._endpoint(answer), methods=[method]) for method, path, answer in endpoints]
        everything = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        return [*routes, Route("/{rest:path}", self._endpoint(self.unknown), methods=everything)]

    def _endpoint(
        self, answer: Callable[[Request, Body], Response]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
                if TOKEN not in (request.headers.get("private-token"), bearer):
                    raise RefusalError(401, {"message": "401 Unauthorized"})  # noqa: TRY301
                if self._spent():
                    return PlainTextResponse("Retry later\n", 429, headers=self._rate_limit() | _wait())
                response = answer(request, await body_of(request))
            except RefusalError as refusal:
                response = JSONResponse(refusal.body, refusal.status)
            if request.method == "GET" and response.status_code == 200:
                response = _conditional(request, response)
            response.headers.update(self._rate_limit())
            return response

        return endpoint

    def _spent(self) -> bool:
        minute, used = self._window
        return minute == _minute() and used >= self.limit

    def _rate_limit(self) -> dict[str, str]:
        """GitLab counts by the minute, and an answer of 304 like any other."""
        minute = _minute()
        used = self._window[1] + 1 if self._window[0] == minute else 1
        self._window = (minute, used)
        return {
            "ratelimit-limit": str(self.limit),
            "ratelimit-name": "throttle_authenticated_api",
            "ratelimit-observed": str(used),
            "ratelimit-remaining": str(max(0, self.limit - used)),
            "ratelimit-reset": str((minute + 1) * 60),
        }

    def unknown(self, request: Request, body: Body) -> Response:
        del request, body
        raise RefusalError(404, {"error": "404 Not Found"})

    def user(self, request: Request, body: Body) -> Response:
        del body
        return JSONResponse(shapes.user(base_of(request)))

    def version(self, request: Request, body: Body) -> Response:
        del request, body
        return JSONResponse({"version": "17.11.0", "revision": "sandbox"})

    def groups(self, request: Request, body: Body) -> Response:
        del body
        found = [group for group in GROUPS[:-1] if search(request, group.full_path, group.name)]
        return page_of(request, [shapes.group(group, base_of(request)) for group in found])

    def group(self, request: Request, body: Body) -> Response:
        del body
        return JSONResponse(shapes.group(self._find_group(request, "Group"), base_of(request)))

    def namespaces(self, request: Request, body: Body) -> Response:
        del body
        found = [group for group in GROUPS if search(request, group.full_path, group.name)]
        return page_of(request, [self._namespace(group, request) for group in found])

    def namespace(self, request: Request, body: Body) -> Response:
        del body
        return JSONResponse(self._namespace(self._find_group(request, "Namespace"), request))

    def namespace_exists(self, request: Request, body: Body) -> Response:
        del body
        wanted = unquote(request.path_params["id"])
        exists = any(group.full_path == wanted for group in GROUPS)
        return JSONResponse({"exists": exists, "suggests": [f"{wanted}1"] if exists else []})

    def projects(self, request: Request, body: Body) -> Response:
        del body
        found = [
            project
            for project in sorted(self._projects.values(), key=lambda project: -project.id)
            if search(request, project.full_path, project.name)
        ]
        return page_of(request, [shapes.basic_project(project, base_of(request)) for project in found])

    def create_project(self, request: Request, body: Body) -> Response:
        name, path = body.get("name"), body.get("path")
        if not name and not path:
            raise RefusalError(400, {"error": "name, path are missing, at least one must be provided"})
        path = path or re.sub(r"[^a-z0-9_.-]+", "-", str(name).lower()).strip("-")
        name = name or path
        if body.get("visibility", "private") not in VISIBILITIES:
            raise RefusalError(400, {"error": "visibility does not have a valid value"})
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", path) or path.endswith((".git", ".atom", ".")):
            raise RefusalError(400, {"message": {"path": [_PATH_RULE]}})
        group = GROUPS[-1]
        if (wanted := body.get("namespace_id")) not in (None, ""):
            found = next((group for group in GROUPS if str(group.id) == str(wanted)), None)
            if found is None:
                raise RefusalError(404, {"message": "404 Namespace Not Found"})
            group = found
        if any(
            known.group == group and known.path.lower() == path.lower() for known in self._projects.values()
        ):
            taken = ["has already been taken"]
            raise RefusalError(400, {"message": dict.fromkeys(_UNIQUE, taken)})
        now = datetime.now(UTC)
        project = Project(
            id=self._next_id,
            group=group,
            path=path,
            name=name,
            description=body.get("description"),
            visibility=body.get("visibility", "private"),
            default_branch=body.get("default_branch") or "main",
            topics=list(body.get("topics") or ()),
            created=now,
            active=now,
        )
        self._next_id += 1
        self._projects[project.id] = project
        if str(body.get("initialize_with_readme")).lower() in ("true", "1"):
            action = {"action": "create", "file_path": "README.md", "content": f"# {name}\n"}
            project.git.commit(project.default_branch, None, "Initial commit", _AUTHOR, [action])
        self._ledger.effect("gitlab", "project_created", id=project.id, path=project.full_path)
        return JSONResponse(shapes.project(project, base_of(request)), 201)

    def project(self, request: Request, body: Body) -> Response:
        del body
        project = self._find(request)
        access = {"project_access": None, "group_access": {"access_level": 50, "notification_level": 3}}
        return JSONResponse(shapes.project(project, base_of(request)) | {"permissions": access})

    def delete_project(self, request: Request, body: Body) -> Response:
        del body
        project = self._find(request)
        del self._projects[project.id]
        self._ledger.effect("gitlab", "project_deleted", id=project.id, path=project.full_path)
        return JSONResponse({"message": "202 Accepted"}, 202)

    def commits(self, request: Request, body: Body) -> Response:
        del body
        project = self._find(request)
        if not project.git.branches:
            raise missing("Repository")
        ref = request.query_params.get("ref_name") or project.default_branch
        found = project.git.history(ref)
        return page_of(request, [shapes.commit(project, commit, base_of(request)) for commit in found])

    def create_commit(self, request: Request, body: Body) -> Response:
        project = self._find(request)
        absent = [name for name in ("branch", "commit_message", "actions") if not body.get(name)]
        if absent:
            raise RefusalError(400, {"error": ", ".join(f"{name} is missing" for name in absent)})
        author = (body.get("author_name") or _AUTHOR[0], body.get("author_email") or _AUTHOR[1])
        try:
            commit = project.git.commit(
                body["branch"], body.get("start_branch"), body["commit_message"], author, body["actions"]
            )
        except UnacceptableError as error:
            raise RefusalError(400, {"message": str(error)}) from None
        project.active = commit.at
        self._ledger.effect(
            "gitlab",
            "commit_created",
            project=project.id,
            path=project.full_path,
            branch=body["branch"],
            sha=commit.sha,
            message=commit.message,
            files=len(commit.files),
        )
        return JSONResponse(shapes.commit_detail(project, commit, base_of(request)), 201)

    def commit(self, request: Request, body: Body) -> Response:
        del body
        project = self._find(request)
        commit = project.git.find(unquote(request.path_params["sha"]))
        if commit is None:
            raise missing("Commit")
        return JSONResponse(shapes.commit_detail(project, commit, base_of(request)))

    def tree(self, request: Request, body: Body) -> Response:
        del body
        project, query = self._find(request), request.query_params
        commit = project.git.find(query.get("ref") or project.default_branch)
        if commit is None:
            raise missing("Tree")
        recursive = query.get("recursive", "").lower() in ("true", "1")
        found = entries(commit.files, query.get("path", ""), recursive=recursive)
        if not found and query.get("path"):
            raise RefusalError(404, {"message": "404 invalid revision or path Not Found"})
        return page_of(request, found)

    def branches(self, request: Request, body: Body) -> Response:
        del body
        project = self._find(request)
        return page_of(
            request, [shapes.branch(project, name, base_of(request)) for name in sorted(project.git.branches)]
        )

    def branch(self, request: Request, body: Body) -> Response:
        del body
        project, name = self._find(request), unquote(request.path_params["branch"])
        if name not in project.git.branches:
            raise missing("Branch")
        return JSONResponse(shapes.branch(project, name, base_of(request)))

    def file(self, request: Request, body: Body) -> Response:
        del body
        project, path = self._find(request), unquote(request.path_params["path"])
        ref = request.query_params.get("ref") or project.default_branch
        commit = project.git.find(ref)
        file = commit.files.get(path) if commit else None
        if commit is None or file is None:
            raise missing("File" if commit else "Commit")
        return JSONResponse(
            {
                "file_name": path.rsplit("/", 1)[-1],
                "file_path": path,
                "size": len(file.content),
                "encoding": "base64",
                "content": base64.b64encode(file.content).decode(),
                "ref": ref,
                "blob_id": file.sha,
                "commit_id": commit.sha,
                "last_commit_id": commit.sha,
                "execute_filemode": file.executable,
            }
        )

    def raw_file(self, request: Request, body: Body) -> Response:
        del body
        project = self._find(request)
        commit = project.git.find(request.query_params.get("ref") or project.default_branch)
        file = commit.files.get(unquote(request.path_params["path"])) if commit else None
        if file is None:
            raise missing("File")
        return Response(file.content, media_type="text/plain; charset=utf-8")

    def _namespace(self, group: Group, request: Request) -> Body:
        projects = sum(project.group == group for project in self._projects.values())
        return shapes.namespace(group, base_of(request), projects)

    def _find(self, request: Request) -> Project:
        wanted = unquote(request.path_params["id"])
        for project in self._projects.values():
            if wanted in (str(project.id), project.full_path):
                return project
        raise missing("Project")

    @staticmethod
    def _find_group(request: Request, what: str) -> Group:
        wanted = unquote(request.path_params["id"])
        for group in GROUPS:
            if wanted in (str(group.id), group.full_path):
                return group
        raise missing(what)


def _minute() -> int:
    return int(datetime.now(UTC).timestamp()) // 60


def _wait() -> dict[str, str]:
    return {"retry-after": str(60 - int(datetime.now(UTC).timestamp()) % 60)}


def _conditional(request: Request, response: Response) -> Response:
    """The answer with an ETag, or 304 where the client has it already."""
    if isinstance(response, StreamingResponse):
        return response
    etag = f'W/"{hashlib.md5(response.body, usedforsecurity=False).hexdigest()}"'
    response.headers["etag"] = etag
    if request.headers.get("if-none-match") != etag:
        return response
    return Response(status_code=304, headers={"etag": etag})
