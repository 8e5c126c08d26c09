"""Which build this process is part of, as the CI system around it tells in the environment."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from buildlight_contracts.builds import BuildRef


@dataclass(frozen=True, slots=True)
class Build:
    """A build, and what else a report's facts say of it."""

    ref: BuildRef
    repository: str
    branch: str | None = None
    commit_sha: str | None = None
    job: str | None = None

    def query(self) -> dict[str, Any]:
        """As `POST /api/v1/test-reports` takes it."""
        told = {
            **self.ref.model_dump(),
            "repository": self.repository,
            "branch": self.branch,
            "commit_sha": self.commit_sha,
            "job": self.job,
        }
        return {name: value for name, value in told.items() if value is not None}


def build_of_environment(environ: Mapping[str, str]) -> Build | None:
    """The build around this process: GitHub Actions' or GitLab CI's; None elsewhere.

    Variables: docs.github.com "Default environment variables", docs.gitlab.com "Predefined CI/CD variables".
    """
    if environ.get("GITHUB_ACTIONS") == "true":
        return _github(environ)
    if environ.get("GITLAB_CI") == "true":
        return _gitlab(environ)
    return None


def _github(environ: Mapping[str, str]) -> Build:
    return Build(
        BuildRef(
            provider="github",
            instance=urlsplit(environ.get("GITHUB_API_URL") or "https://api.github.com").netloc,
            repository_id=environ["GITHUB_REPOSITORY_ID"],
            run_id=environ["GITHUB_RUN_ID"],
            attempt=int(environ.get("GITHUB_RUN_ATTEMPT") or 1),
        ),
        repository=environ["GITHUB_REPOSITORY"],
        # A pull request's own branch; GITHUB_REF_NAME is `12/merge` there.
        branch=environ.get("GITHUB_HEAD_REF") or environ.get("GITHUB_REF_NAME") or None,
        commit_sha=environ.get("GITHUB_SHA") or None,
        job=environ.get("GITHUB_JOB") or None,
    )


def _gitlab(environ: Mapping[str, str]) -> Build:
    return Build(
        BuildRef(
            provider="gitlab",
            instance=urlsplit(environ["CI_SERVER_URL"]).netloc,
            repository_id=environ["CI_PROJECT_ID"],
            run_id=environ["CI_PIPELINE_ID"],
        ),
        repository=environ["CI_PROJECT_PATH"],
        branch=environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME")
        or environ.get("CI_COMMIT_REF_NAME")
        or None,
        commit_sha=environ.get("CI_COMMIT_SHA") or None,
        job=environ.get("CI_JOB_NAME") or None,
    )


def build_from(
    named: str | None,
    environ: Mapping[str, str],
    *,
    repository: str | None = None,
    branch: str | None = None,
    commit: str | None = None,
    job: str | None = None,
) -> Build:
    """The build that was named, or else the one around this process; what is given wins over what that tells.

    Raises:
        ValueError: none is known, or its name is wrong; says what to do.
    """
    if named is not None:
        ref = parse_build(named)
        found = Build(ref, repository or ref.repository_id)
    else:
        try:
            around = build_of_environment(environ)
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"the CI system's variables do not name the build ({error}): give --build"
            ) from None
        if around is None:
            raise ValueError(
                "which build? Give --build PROVIDER/INSTANCE/REPOSITORY-ID/runs/RUN-ID[/ATTEMPT] "
                "(inside GitHub Actions and GitLab CI it is known)"
            )
        found = around
    return replace(
        found,
        repository=repository or found.repository,
        branch=branch or found.branch,
        commit_sha=commit or found.commit_sha,
        job=job or found.job,
    )


def parse_build(text: str) -> BuildRef:
    """`github/api.github.com/815/runs/42/2` as the build it names; without an attempt, the first.

    Raises:
        ValueError: it is not of that form.
    """
    where, _, run = text.partition("/runs/")
    parts = where.split("/", 2)
    run_id, _, attempt = run.partition("/")
    try:
        provider, instance, repository_id = parts
        return BuildRef(
            provider=provider,
            instance=instance,
            repository_id=repository_id,
            run_id=run_id,
            attempt=int(attempt or 1),
        )
    except (ValueError, ValidationError):
        raise ValueError(
            f"{text!r} names no build: write PROVIDER/INSTANCE/REPOSITORY-ID/runs/RUN-ID[/ATTEMPT]"
        ) from None
