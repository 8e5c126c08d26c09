"""Jenkins' JSON, as its own API and the Pipeline REST API plugin have it; and the model behind it."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

Body = dict[str, Any]

CLASSES = {
    "freestyle": ("hudson.model.FreeStyleProject", "hudson.model.FreeStyleBuild"),
    "matrix": ("hudson.matrix.MatrixProject", "hudson.matrix.MatrixBuild"),
    "pipeline": (
        "org.jenkinsci.plugins.workflow.job.WorkflowJob",
        "org.jenkinsci.plugins.workflow.job.WorkflowRun",
    ),
    "branch": (
        "org.jenkinsci.plugins.workflow.job.WorkflowJob",
        "org.jenkinsci.plugins.workflow.job.WorkflowRun",
    ),
}
"""Of a kind of job: its class, and that of its builds."""
FOLDER = "com.cloudbees.hudson.plugins.folder.Folder"
MULTIBRANCH = "org.jenkinsci.plugins.workflow.multibranch.WorkflowMultiBranchProject"
BRANCH_PROPERTY = "org.jenkinsci.plugins.workflow.multibranch.BranchJobProperty"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a stage; times in milliseconds, `log` is what it wrote."""

    id: int
    name: str
    status: str
    started: int
    duration: int
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a pipeline; times in milliseconds."""

    id: int
    name: str
    status: str
    started: int = 0
    duration: int = 0
    pause: int = 0
    error: str | None = None
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True, slots=True)
class Cell:
    """One combination of a matrix; `number` is that of the build that ran it."""

    name: str
    number: int
    building: bool
    result: str | None
    timestamp: int
    duration: int


@dataclass(frozen=True, slots=True)
class Build:
    """A build as it is seen now; times in milliseconds."""

    number: int
    timestamp: int
    building: bool
    result: str | None
    duration: int = 0
    display_name: str | None = None
    description: str | None = None
    built_on: str = ""
    queue_id: int = 0
    causes: tuple[Body, ...] = ()
    interruptions: tuple[Body, ...] = ()
    parameters: tuple[Body, ...] = ()
    branch: str | None = None
    sha: str | None = None
    message: str | None = None
    author: str | None = None
    stages: tuple[Stage, ...] | None = None
    """None: the plugin that tells stages answers 404."""
    report: Body | None = None
    artifacts: dict[str, str] = field(default_factory=dict)
    console: str = ""
    cells: tuple[Cell, ...] = ()
    extra: Body = field(default_factory=dict)
    """Fields that replace those of the answer."""


@dataclass(frozen=True, slots=True)
class Job:
    full_name: str
    kind: str
    parameters: tuple[str, ...] = ()
    buildable: bool = True

    @property
    def name(self) -> str:
        return self.full_name.rsplit("/", 1)[-1]


def path(full_name: str) -> str:
    return "".join(f"/job/{quote(part, safe='')}" for part in full_name.split("/") if part)


def job(one: Job, builds: list[Build], base: str) -> Body:
    """A job with all its builds; `builds` newest first."""
    address = f"{base}{path(one.full_name)}/"
    bodies = [build(each, one, base) for each in builds]
    properties: list[Body] = []
    if one.kind == "branch":
        properties.append({"_class": BRANCH_PROPERTY, "branch": {}})
    if one.parameters:
        definitions = [
            {
                "_class": "hudson.model.StringParameterDefinition",
                "name": name,
                "type": "StringParameterDefinition",
            }
            for name in one.parameters
        ]
        properties.append(
            {"_class": "hudson.model.ParametersDefinitionProperty", "parameterDefinitions": definitions}
        )
    ended = [body for body in bodies if not body.get("building")]
    return {
        "_class": CLASSES[one.kind][0],
        "name": one.name,
        "fullName": one.full_name,
        "displayName": one.name,
        "url": address,
        "buildable": one.buildable,
        "color": "disabled" if not one.buildable else "blue" if bodies else "notbuilt",
        "inQueue": False,
        "nextBuildNumber": builds[0].number + 1 if builds else 1,
        "property": properties,
        "builds": bodies[:100],
        "allBuilds": bodies,
        "lastBuild": bodies[0] if bodies else None,
        "lastCompletedBuild": ended[0] if ended else None,
    }


def folder(full_name: str, kind: str, children: list[Body], base: str) -> Body:
    """A folder, a multibranch project, or, without a name, Jenkins itself."""
    if not full_name:
        return {"_class": "hudson.model.Hudson", "mode": "NORMAL", "url": f"{base}/", "jobs": children}
    return {
        "_class": MULTIBRANCH if kind == "multibranch" else FOLDER,
        "name": full_name.rsplit("/", 1)[-1],
        "fullName": full_name,
        "url": f"{base}{path(full_name)}/",
        "jobs": children,
    }


def build(one: Build, of: Job, base: str) -> Body:
    address = f"{base}{path(of.full_name)}/{one.number}/"
    actions: list[Body] = []
    if one.parameters:
        actions.append({"_class": "hudson.model.ParametersAction", "parameters": list(one.parameters)})
    actions.append({"_class": "hudson.model.CauseAction", "causes": list(one.causes)})
    if one.interruptions:
        actions.append({"_class": "jenkins.model.InterruptedBuildAction", "causes": list(one.interruptions)})
    if one.sha is not None:
        revision = {"SHA1": one.sha, "branch": [{"SHA1": one.sha, "name": one.branch or "detached"}]}
        actions.append(
            {
                "_class": "hudson.plugins.git.util.BuildData",
                "lastBuiltRevision": revision,
                "remoteUrls": [f"https://git.acme.example/{of.full_name.split('/')[0]}.git"],
                "scmName": "",
            }
        )
    # Actions that export nothing are empty objects.
    actions.append({})
    changes = {
        "_class": "hudson.plugins.git.GitChangeSetList",
        "kind": "git",
        "items": [
            {
                "_class": "hudson.plugins.git.GitChangeSet",
                "commitId": one.sha,
                "msg": one.message,
                "author": {"absoluteUrl": f"{base}/user/x", "fullName": one.author},
            }
        ]
        if one.message is not None
        else [],
    }
    is_pipeline = of.kind in ("pipeline", "branch")
    body: Body = {
        "_class": CLASSES[of.kind][1],
        "actions": actions,
        "artifacts": [
            {"displayPath": name, "fileName": name.rsplit("/", 1)[-1], "relativePath": name}
            for name in one.artifacts
        ],
        "building": one.building,
        "description": one.description,
        "displayName": one.display_name or f"#{one.number}",
        "duration": 0 if one.building else one.duration,
        "estimatedDuration": 180_000,
        "fullDisplayName": f"{of.full_name.replace('/', ' » ')} #{one.number}",
        "id": str(one.number),
        "inProgress": one.building,
        "keepLog": False,
        "number": one.number,
        "queueId": one.queue_id,
        "result": one.result,
        "timestamp": one.timestamp,
        "url": address,
        **({"changeSets": [changes]} if is_pipeline else {"changeSet": changes, "builtOn": one.built_on}),
    }
    if of.kind == "matrix":
        body["runs"] = [_cell(cell, of, base) for cell in one.cells]
    return body | one.extra


def _cell(cell: Cell, of: Job, base: str) -> Body:
    return {
        "_class": "hudson.matrix.MatrixRun",
        "number": cell.number,
        "url": f"{base}{path(of.full_name)}/{quote(cell.name, safe='')}/{cell.number}/",
        "building": cell.building,
        "result": cell.result,
        "timestamp": cell.timestamp,
        "duration": cell.duration,
        "builtOn": "agent-1",
    }


def describe(one: Build, of: Job) -> Body:
    """A pipeline's build, by `wfapi/describe`."""
    href = f"/jenkins{path(of.full_name)}/{one.number}"
    stages = one.stages or ()
    paused = any(stage.status == "PAUSED_PENDING_INPUT" for stage in stages)
    status = {"FAILURE": "FAILED", None: "IN_PROGRESS"}.get(one.result, one.result)
    return {
        "_links": {"self": {"href": f"{href}/wfapi/describe"}},
        "id": str(one.number),
        "name": f"#{one.number}",
        "status": "PAUSED_PENDING_INPUT" if paused else "IN_PROGRESS" if one.building else status,
        "startTimeMillis": one.timestamp,
        "endTimeMillis": one.timestamp + one.duration,
        "durationMillis": one.duration,
        "queueDurationMillis": 1200,
        "pauseDurationMillis": sum(stage.pause for stage in stages),
        "stages": [_stage(stage, href) for stage in stages],
    }


def _stage(stage: Stage, href: str) -> Body:
    return {
        "_links": {"self": {"href": f"{href}/execution/node/{stage.id}/wfapi/describe"}},
        "id": str(stage.id),
        "name": stage.name,
        "execNode": "",
        "status": stage.status,
        "startTimeMillis": stage.started,
        "durationMillis": stage.duration,
        "pauseDurationMillis": stage.pause,
        **({"error": {"message": stage.error, "type": "hudson.AbortException"}} if stage.error else {}),
    }


def node(one: Build, of: Job, wanted: int) -> Body | None:
    """A stage with its steps; None for a node there is not."""
    href = f"/jenkins{path(of.full_name)}/{one.number}"
    for stage in one.stages or ():
        if stage.id == wanted:
            return _stage(stage, href) | {
                "stageFlowNodes": [_step(step, stage, href) for step in stage.steps]
            }
    return None


def _step(step: Step, stage: Stage, href: str) -> Body:
    links: Body = {"self": {"href": f"{href}/execution/node/{step.id}/wfapi/describe"}}
    if step.log is not None:
        links |= {
            "log": {"href": f"{href}/execution/node/{step.id}/wfapi/log"},
            "console": {"href": f"{href}/execution/node/{step.id}/log"},
        }
    return {
        "_links": links,
        "id": str(step.id),
        "name": step.name,
        "execNode": "",
        "status": step.status,
        "startTimeMillis": step.started,
        "durationMillis": step.duration,
        "pauseDurationMillis": 0,
        "parentNodes": [str(stage.id)],
    }
