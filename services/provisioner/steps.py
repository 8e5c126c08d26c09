"""Carrying out a run, step by step, so that a try that is killed anywhere can be followed by another.

A step that is on record is not said again. `validate`, `workspace` and `render` only read, so another try
does them again when it needs them; `create` and `push` find what an earlier try made. After the commit is on
record nothing of that is needed any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from pydantic import SecretStr

from services.provisioner.blueprints import Blueprint, Catalogue, problems, with_defaults
from services.provisioner.gitlab import GitLab, Group, Project
from services.provisioner.job import CannotProvision
from services.provisioner.metrics import STEP_DURATION
from services.provisioner.render import File, Limits, render
from services.provisioner.store import Alone, Run
from services.provisioner.workspace import Workspaces

T = TypeVar("T")

Tell = Callable[[Alone], Awaitable[None]]
"""Has the control plane told how the run stands."""
At = Callable[[str], Awaitable[None]]
"""Called at named points (`before create`, `did create`, `recorded create`), for tests that end a try there."""

_PROBLEMS_SAID = 5


async def nowhere(_: str) -> None:
    """Go on."""


@dataclass(frozen=True)
class Tools:
    """What every run is carried out with."""

    catalogue: Catalogue
    workspaces: Workspaces
    limits: Limits
    gitlab_url: str
    gitlab_token: SecretStr | None
    gitlab_timeout_seconds: float
    default_group: str | None
    tells: str
    """What the step `report` says of the control plane."""

    async def gitlab(self, ask: Callable[[GitLab], T]) -> T:
        """Ask GitLab in a thread."""
        token = self.gitlab_token.get_secret_value() if self.gitlab_token else None

        def conversation() -> T:
            client = GitLab(self.gitlab_url, token, timeout_seconds=self.gitlab_timeout_seconds)
            with closing(client):
                return ask(client)

        return await asyncio.to_thread(conversation)


@dataclass(frozen=True)
class Done(Generic[T]):
    """What a step came to. `also` is written in the transaction that records it."""

    result: T
    detail: str
    also: Callable[[Alone], Awaitable[None]] | None = None


@dataclass(frozen=True)
class Plan:
    blueprint: Blueprint
    group: Group


class Walk:
    """One try at one run, which nobody else is at."""

    def __init__(self, tools: Tools, alone: Alone, run: Run, *, tell: Tell, at: At = nowhere) -> None:
        self.current = "validate"
        """The step it is at: where it failed, when it did."""
        self._tools = tools
        self._alone = alone
        self._run = run
        self._job = run.job
        self._tell = tell
        self._at = at
        self._done: frozenset[str] = frozenset()

    async def go(self) -> None:
        """Go on from where the last try ended, to the end.

        Raises:
            CannotProvision: the run has failed, at `current`.
        """
        self._done = frozenset(
            step["step"] for step in await self._alone.steps() if step["status"] == "succeeded"
        )
        with ExitStack() as kept:
            if self._run.commit_sha is None:
                await self._make(kept)
            await self._step("report", self._report)
            await self._tell(self._alone)
            await self._step("cleanup", lambda: self._clean(kept))
        await self._at("before succeeded")
        await self._alone.succeed(_now())

    async def _make(self, kept: ExitStack) -> None:
        plan = await self._step("validate", self._validate)
        folder = await self._step("workspace", lambda: self._workspace(kept))
        files = await self._step("render", lambda: self._render(plan, folder))
        project = await self._step("create", lambda: self._create(plan))
        await self._step("push", lambda: self._push(project, files))

    async def _step(self, name: str, action: Callable[[], Awaitable[Done[T]]]) -> T:
        self.current = name
        await self._at(f"before {name}")
        started_at = _now()
        if name not in self._done:
            await self._alone.begin_step(name, started_at)
        done = await action()
        await self._at(f"did {name}")
        if name not in self._done:
            at = _now()
            await self._alone.finish_step(
                self._run, name, detail=done.detail, started_at=started_at, at=at, also=done.also
            )
            STEP_DURATION.labels(name).observe((at - started_at).total_seconds())
        await self._at(f"recorded {name}")
        return done.result

    async def _validate(self) -> Done[Plan]:
        asked = self._job.blueprint
        blueprint = await asyncio.to_thread(self._tools.catalogue.find, asked.template)
        wrong = problems(blueprint, asked.values)
        if wrong:
            more = f"; and {len(wrong) - _PROBLEMS_SAID} more" if len(wrong) > _PROBLEMS_SAID else ""
            raise CannotProvision("; ".join(wrong[:_PROBLEMS_SAID]) + more)
        name = self._job.git_config.group_id or self._tools.default_group or asked.namespace
        # First of all that needs GitLab: while it is away, a run that waits costs one call a try.
        group = await self._tools.gitlab(lambda gitlab: gitlab.group(name))
        return Done(Plan(blueprint, group), f"{blueprint.name} for {group.path}/{asked.name}")

    async def _workspace(self, kept: ExitStack) -> Done[Path]:
        try:
            folder = kept.enter_context(self._tools.workspaces.one())
        except OSError as error:
            raise CannotProvision(f"No workspace ({error.strerror}): look at WORKSPACE_DIR") from None
        return Done(folder, "an empty folder, readable by the provisioner alone")

    async def _render(self, plan: Plan, folder: Path) -> Done[list[File]]:
        asked = self._job.blueprint
        meta = {
            "run_id": self._job.run_id,
            "kind": self._job.kind,
            "template": plan.blueprint.name,
            "version": plan.blueprint.version,
            # When it was asked for: every try renders the same.
            "timestamp": self._run.created_at.isoformat(timespec="seconds"),
            "host": urlsplit(self._tools.gitlab_url).hostname or "",
            "project_path": f"{plan.group.path}/{asked.name}",
        }
        answers = {
            **asked.values,
            "name": asked.name,
            "namespace": asked.namespace,
            "values": with_defaults(plan.blueprint, asked.values),
            "meta": meta,
        }
        files = await render(plan.blueprint, answers, folder / "rendered", self._tools.limits)
        size = sum(len(file.content) for file in files)
        return Done(files, f"{_files(len(files))}, {size:,} bytes")

    async def _create(self, plan: Plan) -> Done[Project]:
        run = self._run
        if run.project_id is not None and run.project_path is not None and run.project_url is not None:
            return Done(Project(run.project_id, run.project_path, run.project_url, is_new=False), "on record")
        project = await self._tools.gitlab(
            lambda gitlab: gitlab.create(
                plan.group,
                self._job.blueprint.name,
                visibility=self._job.git_config.visibility,
                run_id=self._job.run_id,
                template=plan.blueprint.name,
            )
        )
        return Done(
            project,
            f"{project.path} " + ("created" if project.is_new else "was there from an earlier try"),
            lambda alone: alone.created(project.id, project.url, project.path),
        )

    async def _push(self, project: Project, files: list[File]) -> Done[None]:
        asked = self._job.blueprint
        commit = await self._tools.gitlab(
            lambda gitlab: gitlab.push(
                project,
                files,
                message=f"Start {asked.name} from the blueprint {asked.template}",
                run_id=self._job.run_id,
            )
        )
        return Done(
            None,
            f"{_files(len(files))} in commit {commit.sha[:12]}"
            if commit.is_new
            else f"commit {commit.sha[:12]} was there from an earlier try",
            lambda alone: alone.pushed(commit.sha),
        )

    async def _report(self) -> Done[None]:
        return Done(None, self._tools.tells, lambda alone: alone.reported())

    async def _clean(self, kept: ExitStack) -> Done[None]:
        await asyncio.to_thread(kept.close)
        return Done(None, "the workspace is gone")


def _files(count: int) -> str:
    return f"{count} file" + ("" if count == 1 else "s")


def _now() -> datetime:
    return datetime.now(UTC)
