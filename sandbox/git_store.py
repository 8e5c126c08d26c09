"""The little of git that GitLab's commit API needs: branches, commits, a tree of files, all in memory."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any


class UnacceptableError(ValueError):
    """An action that GitLab would refuse, in GitLab's words."""


@dataclass(frozen=True, slots=True)
class File:
    """One file's bytes and mode."""

    content: bytes
    executable: bool = False

    @property
    def sha(self) -> str:
        return sha1(b"blob %d\0" % len(self.content) + self.content, usedforsecurity=False).hexdigest()

    @property
    def mode(self) -> str:
        return "100755" if self.executable else "100644"


@dataclass(frozen=True, slots=True)
class StoredCommit:
    """A commit and the whole tree it leaves behind."""

    sha: str
    message: str
    author_name: str
    author_email: str
    at: datetime
    parent: str | None
    files: Mapping[str, File]
    additions: int
    deletions: int


@dataclass(slots=True)
class GitStore:
    """One repository."""

    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, StoredCommit] = field(default_factory=dict)

    def find(self, ref: str) -> StoredCommit | None:
        """A commit by branch, sha or at least seven digits of it."""
        sha = self.branches.get(ref, ref)
        if sha in self.commits:
            return self.commits[sha]
        if len(sha) < 7:
            return None
        return next((commit for known, commit in self.commits.items() if known.startswith(sha)), None)

    def history(self, ref: str) -> list[StoredCommit]:
        """Newest first; empty for an unknown ref."""
        commits = []
        commit = self.find(ref)
        while commit:
            commits.append(commit)
            commit = self.commits.get(commit.parent) if commit.parent else None
        return commits

    def commit(
        self,
        branch: str,
        start: str | None,
        message: str,
        author: tuple[str, str],
        actions: list[dict[str, Any]],
    ) -> StoredCommit:
        """Apply the actions to a branch, all or nothing; raises UnacceptableError."""
        if self.branches and branch not in self.branches:
            if start is None:
                raise UnacceptableError("You can only create or edit files when you are on a branch")
            if self.find(start) is None:
                raise UnacceptableError(f"Cannot find start branch '{start}'")
        parent = self.find(branch) or (self.find(start) if start else None)
        before = dict(parent.files) if parent else {}
        files = dict(before)
        for action in actions:
            _apply(files, action)
        changed = {path for path in files.keys() | before.keys() if files.get(path) != before.get(path)}
        now = datetime.now(UTC)
        digest = sha1(repr((parent, branch, message, now, sorted(files))).encode(), usedforsecurity=False)
        commit = StoredCommit(
            sha=digest.hexdigest(),
            message=message,
            author_name=author[0],
            author_email=author[1],
            at=now,
            parent=parent.sha if parent else None,
            files=files,
            additions=sum(_lines(files.get(path)) for path in changed),
            deletions=sum(_lines(before.get(path)) for path in changed),
        )
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit


def entries(files: Mapping[str, File], folder: str, *, recursive: bool) -> list[dict[str, str]]:
    """A tree listing in GitLab's order: folders first, by path."""
    prefix = f"{folder.strip('/')}/" if folder.strip("/") else ""
    folders: set[str] = set()
    found = []
    for path, file in files.items():
        if not path.startswith(prefix):
            continue
        parts = path.removeprefix(prefix).split("/")
        folders |= {
            prefix + "/".join(parts[:depth]) for depth in range(1, len(parts) if recursive else 2)
        } - {path}
        if recursive or len(parts) == 1:
            found.append({"id": file.sha, "name": parts[-1], "type": "blob", "path": path, "mode": file.mode})
    trees = [
        {
            "id": sha1(path.encode(), usedforsecurity=False).hexdigest(),
            "name": path.rsplit("/", 1)[-1],
            "type": "tree",
            "path": path,
            "mode": "040000",
        }
        for path in folders
    ]
    return sorted(trees, key=lambda entry: entry["path"]) + sorted(found, key=lambda entry: entry["path"])


def _lines(file: File | None) -> int:
    return len(file.content.splitlines()) if file else 0


def _apply(files: dict[str, File], action: dict[str, Any]) -> None:
    path = action.get("file_path", "")
    if not path:
        raise UnacceptableError("You must provide a file path")
    if ".." in path.split("/"):
        raise UnacceptableError("Path cannot include directory traversal")
    old = files.get(path)
    match action.get("action"):
        case "create":
            if old:
                raise UnacceptableError("A file with this name already exists")
            if any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in files):
                raise UnacceptableError("A directory or file with this name already exists")
            files[path] = File(_content(action), bool(action.get("execute_filemode")))
        case "update":
            if old is None:
                raise UnacceptableError("A file with this name doesn't exist")
            files[path] = File(_content(action), old.executable)
        case "delete":
            if old is None:
                raise UnacceptableError("A file with this name doesn't exist")
            del files[path]
        case "move":
            source = files.pop(action.get("previous_path", ""), None)
            if source is None:
                raise UnacceptableError("A file with this name doesn't exist")
            if old:
                raise UnacceptableError("A file with this name already exists")
            content = _content(action) if "content" in action else source.content
            files[path] = File(content, source.executable)
        case "chmod":
            if old is None:
                raise UnacceptableError("A file with this name doesn't exist")
            files[path] = File(old.content, bool(action.get("execute_filemode")))
        case _:
            raise UnacceptableError("actions[0][action] does not have a valid value")


def _content(action: dict[str, Any]) -> bytes:
    content = action.get("content") or ""
    if action.get("encoding") != "base64":
        return str(content).encode()
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error:
        raise UnacceptableError("Invalid base64 content") from None
