"""The company put together: one HTTP application with every provider under its prefix, and a mailbox."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from sandbox import catalogue
from sandbox.blobs import Blobs
from sandbox.clock import Clock
from sandbox.control import Control
from sandbox.control_plane import ControlPlane
from sandbox.faults import Faults
from sandbox.gate import Gate
from sandbox.github import GitHub
from sandbox.github_hooks import GitHubHooks
from sandbox.gitlab import RATE_LIMIT, GitLab
from sandbox.gitlab_ci import CI
from sandbox.gitlab_control import GitLabControl
from sandbox.gitlab_hooks import GitLabHooks
from sandbox.gitlab_story import LivingPipelines
from sandbox.gitlab_story import living as living_projects
from sandbox.history import History
from sandbox.jenkins import Jenkins
from sandbox.jenkins_control import JenkinsControl
from sandbox.jenkins_hooks import JenkinsHooks
from sandbox.jenkins_living import Living as LivingJobs
from sandbox.jenkins_scripted import Scripted as ScriptedJobs
from sandbox.ledger import Ledger
from sandbox.mail import Mailbox
from sandbox.scripted import Scripted
from sandbox.shelves import Living, Recorded, Shelf
from sandbox.slack import Slack
from sandbox.story import Story
from sandbox.webhooks import Hooks

REPOSITORIES = len(catalogue.NAMED)
GITLAB_PROJECTS = 2
IDS_BEGIN = 1_577_836_800
"""2020-01-01: run ids count from here, so that a sandbox started again does not give old ids to new runs."""


@dataclass(frozen=True, slots=True)
class Company:
    """What the process serves."""

    app: Starlette
    mailbox: Mailbox
    hooks: Hooks
    repositories: tuple[str, ...]
    """GitHub's, by full name."""
    blobs: Blobs
    projects: tuple[str, ...] = ()
    """GitLab's with CI, by full path."""


def build(
    *,
    seed: int = 1,
    speed: float = 60.0,
    backlog_hours: float = 48.0,
    repositories: int | None = None,
    recorded: Path | None = None,
    github_limit: int = 5000,
    gitlab_projects: int | None = None,
    gitlab_limit: int = RATE_LIMIT,
    start: float | None = None,
) -> Company:
    """Compose the sandbox.  `repositories` None means the usual few, or none beside recorded rows.

    `gitlab_projects` None means the usual few where `repositories` does, else none.

    Raises:
        FileNotFoundError: `recorded` holds no rows.
    """
    start = time.time() if start is None else start
    clock = Clock(start, backlog_seconds=backlog_hours * 3600, speed=speed)
    count = repositories if repositories is not None else 0 if recorded else REPOSITORIES
    company = catalogue.repositories(count)

    def history_of(repositories: Sequence[catalogue.Repository]) -> History:
        return History(
            seed,
            repositories,
            first_id=(int(start) - IDS_BEGIN) // 10 * 100_000 + 1,
            stamp=clock.real,
            stories=[iter(Story(seed, repository)) for repository in repositories],
        )

    living = Living(history_of(company), clock)
    scripted = Scripted(living.find)
    shelves: list[Shelf] = [living, scripted]
    if recorded:
        shelves.append(Recorded(recorded))
    faults, ledger = Faults(), Ledger()
    jobs = ScriptedJobs()
    older = history_of(catalogue.built_by_jenkins(count))
    living_jobs = LivingJobs(older, clock, seed)
    jenkins = Jenkins(jobs, [living_jobs], ledger)
    blobs = Blobs()
    github = GitHub(shelves, limit=github_limit, blobs=blobs, ledger=ledger)
    usual = GITLAB_PROJECTS if repositories is None and not recorded else 0
    projects = living_projects(usual if gitlab_projects is None else gitlab_projects, start)
    pipelines = LivingPipelines(
        seed, projects, first_id=(int(start) - IDS_BEGIN) // 10 * 10 + 1, stamp=clock.real
    )
    ci = CI(pipelines, clock, ledger, [project for _, project in projects])
    gitlab = GitLab(ledger, ci, limit=gitlab_limit)
    # Recorded rows never change, so that there is nothing to tell of them.
    hooks = Hooks(
        seed,
        {
            "github": GitHubHooks((living, scripted)),
            "gitlab": GitLabHooks(ci),
            "jenkins": JenkinsHooks((living_jobs, jobs)),
        },
    )
    control = Control(
        clock=clock, github=github, scripted=scripted, faults=faults, ledger=ledger, hooks=hooks
    )
    app = Starlette(
        routes=[
            Mount("/github", routes=github.routes()),
            Mount("/blobs", routes=blobs.routes()),
            Mount("/gitlab", routes=gitlab.routes()),
            Mount("/jenkins", routes=jenkins.routes()),
            Mount("/slack", routes=Slack(ledger).routes()),
            Mount("/control-plane", routes=ControlPlane(ledger).routes()),
            Mount(
                "/_sandbox",
                routes=[
                    *control.routes(),
                    *GitLabControl(gitlab, ci).routes(),
                    *JenkinsControl(jenkins, jobs).routes(),
                ],
            ),
        ],
        middleware=[Middleware(Gate, faults=faults, ledger=ledger)],
    )
    names = tuple(name for shelf in shelves for name, _ in shelf.repositories())
    paths = tuple(project.full_path for _, project in projects)
    return Company(app, Mailbox(ledger, faults), hooks, names, blobs, paths)
