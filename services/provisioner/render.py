"""A blueprint and a job become files: rendered by a limited process, read back with suspicion."""

import asyncio
import base64
import contextlib
import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.provisioner.blueprints import Blueprint
from services.provisioner.job import CannotProvision, without_values

MAX_FILES = 2_000
MAX_PATH_BYTES = 1_000
_CHILD = Path(__file__).with_name("render_child.py")
_LOOK_SECONDS = 0.25
_LONGEST_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class Limits:
    """What a rendering may use."""

    seconds: float = 600.0
    workspace_bytes: int = 500 * 1024**2
    commit_bytes: int = 20 * 1024**2
    """What the files may have together."""
    memory_bytes: int = 768 * 1024**2
    """Of address space, of which the interpreter and Copier take some 200 MiB."""


@dataclass(frozen=True)
class File:
    """A rendered file. `path` is relative, with forward slashes."""

    path: str
    content: bytes
    executable: bool = False

    def actions(self) -> list[dict[str, Any]]:
        """What GitLab's commits API is told: text as it is, anything else in base64; the mode apart."""
        try:
            text = self.content.decode()
        except UnicodeDecodeError:
            text = "\0"
        if "\0" in text:
            content = {"content": base64.b64encode(self.content).decode(), "encoding": "base64"}
        else:
            content = {"content": text, "encoding": "text"}
        create = {"action": "create", "file_path": self.path, **content}
        chmod = {"action": "chmod", "file_path": self.path, "execute_filemode": True}
        return [create, chmod] if self.executable else [create]


async def render(
    blueprint: Blueprint, answers: Mapping[str, Any], destination: Path, limits: Limits
) -> list[File]:
    """Render into `destination`, which is made. Returns the files, ordered by path.

    Raises:
        CannotProvision: the template or an answer is no good, or it used more than it may.
    """
    order = {
        "template": str(blueprint.folder.resolve()),
        "destination": str(destination),
        "answers": answers,
        "limits": {
            "cpu_seconds": max(1, int(limits.seconds)),
            "memory_bytes": limits.memory_bytes,
            "file_bytes": limits.workspace_bytes,
        },
    }
    error = await _run(json.dumps(order).encode(), destination, limits)
    if error is not None:
        reason = without_values(error, answers["values"])[:_LONGEST_REASON_CHARACTERS]
        raise CannotProvision(f"The blueprint {blueprint.name} cannot be rendered: {reason}")
    files = await asyncio.to_thread(collect, destination, max_bytes=limits.commit_bytes)
    if not files:
        raise CannotProvision(f"The blueprint {blueprint.name} renders no file; tell its owner")
    return files


def collect(root: Path, *, max_bytes: int) -> list[File]:
    """The files under `root`, ordered by path.

    Raises:
        CannotProvision: something that is no plain file, a name that git refuses, too many or too much.
    """
    found: list[File] = []
    size = 0
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            path = Path(entry.path).relative_to(root).as_posix()
            _check_name(path, entry.name)
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(mode.st_mode):
                waiting.append(Path(entry.path))
                continue
            if not stat.S_ISREG(mode.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(mode.st_mode) else "no plain file"
                raise CannotProvision(
                    f"A rendered path is {kind}; a blueprint may make files and folders only"
                )
            size += mode.st_size
            if size > max_bytes:
                raise CannotProvision(
                    f"The rendered files have over {max_bytes:,} bytes together, more than one commit may"
                )
            if len(found) == MAX_FILES:
                raise CannotProvision(f"Over {MAX_FILES:,} files were rendered; one commit may have as many")
            found.append(File(path, Path(entry.path).read_bytes(), bool(mode.st_mode & stat.S_IXUSR)))
    return sorted(found, key=lambda file: file.path)


def _check_name(path: str, name: str) -> None:
    if name.lower().rstrip(". ") == ".git" or name.lower() == "git~1":
        raise CannotProvision("A rendered path has a part called .git, which git refuses")
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise CannotProvision(f"A rendered path is longer than {MAX_PATH_BYTES:,} bytes")
    if not path.isprintable():
        raise CannotProvision("A rendered path holds characters that cannot be shown, or that are not UTF-8")


async def _run(order: bytes, destination: Path, limits: Limits) -> str | None:
    """Run the child to its end. Returns what went wrong, if anything."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(_CHILD),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"HOME": str(destination), "PATH": "", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=destination.parent,
        start_new_session=True,
    )
    talking = asyncio.create_task(child.communicate(order))
    try:
        async with asyncio.timeout(limits.seconds):
            while not talking.done():
                await asyncio.wait([talking], timeout=_LOOK_SECONDS)
                used = await asyncio.to_thread(_size_of, destination)
                if used > limits.workspace_bytes:
                    return f"it fills more than {limits.workspace_bytes:,} bytes (MAX_WORKSPACE_SIZE)"
    except TimeoutError:
        return f"it takes longer than {limits.seconds:g} s (MAX_JOB_DURATION)"
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
        await asyncio.gather(talking, return_exceptions=True)
    answer = talking.result()[0]
    try:
        error = json.loads(answer).get("error")
    except ValueError:
        return f"its process ended with {child.returncode}, as when it uses more than it may"
    return None if error is None else str(error)


def _size_of(folder: Path) -> int:
    size = 0
    for directory, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                size += Path(directory, file).lstat().st_size
    return size
