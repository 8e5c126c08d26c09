"""The generated files are as the models say, and a released message only gains optional fields."""

import ast
import contextlib
import copy
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any, ClassVar

import jsonschema
import pytest
from pydantic import Field

from buildlight_contracts import schemas
from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import COMMANDS, FACTS
from buildlight_contracts.compatibility import breaking_changes
from buildlight_contracts.envelope import Fact
from buildlight_contracts.notifications import NotificationSentV1
from buildlight_contracts.routing import COMMANDS as COMMANDS_EXCHANGE
from buildlight_contracts.routing import EVENTS, INTAKE

ASYNCAPI_SPECIFICATION = schemas.HERE.parent / "node_modules/@asyncapi/specs/schemas/3.0.0.json"

OLD: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$defs": {
        "Ref": {
            "type": "object",
            "title": "Ref",
            "properties": {
                "run_id": {"type": "string", "minLength": 1, "maxLength": 255},
                "attempt": {"type": "integer", "minimum": 1, "default": 1},
            },
            "required": ["run_id"],
        },
        "State": {"type": "string", "enum": ["success", "failure"]},
    },
    "type": "object",
    "title": "Old",
    "description": "Sent when it was old.",
    "properties": {
        "build": {"$ref": "#/$defs/Ref"},
        "last_good": {"anyOf": [{"$ref": "#/$defs/Ref"}, {"type": "null"}], "default": None},
        "state": {"$ref": "#/$defs/State"},
        "title": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        "seen_at": {"type": "string", "format": "date-time"},
        "steps": {"type": "array", "items": {"$ref": "#/$defs/Ref"}, "default": []},
        "values": {"type": "object", "additionalProperties": True},
        "kind": {"type": "string", "pattern": "^[a-z]+$"},
        "visibility": {"const": "private", "type": "string"},
    },
    "required": ["build", "state", "seen_at", "values", "kind"],
}

GONE = object()


def edited(**edits: Any) -> dict[str, Any]:
    """OLD with the value at each path (`properties__title`; `_Ref` for its definition) replaced or gone."""
    new = copy.deepcopy(OLD)
    for path, value in edits.items():
        *parents, last = path.replace("_Ref", "$defs__Ref__properties").split("__")
        inside = new
        for parent in parents:
            inside = inside[parent]
        if value is GONE:
            del inside[last]
        else:
            inside[last] = value
    return new


TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}
REQUIRED = OLD["required"]


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(edited(), id="nothing"),
        pytest.param(edited(properties__weather=TEXT), id="a new optional field"),
        pytest.param(edited(_Ref__number=TEXT), id="a new optional field further in"),
        pytest.param(edited(description="Sent when else.", title="New"), id="words"),
        pytest.param(
            edited(properties__kind=OLD["properties"]["kind"] | {"examples": ["a"], "deprecated": True}),
            id="words about a field",
        ),
        pytest.param(edited(required=list(reversed(REQUIRED))), id="the order of required fields"),
        pytest.param(edited(properties=dict(reversed(OLD["properties"].items()))), id="the order of fields"),
        pytest.param(
            edited(properties__state={"type": "string", "enum": ["failure", "success"]}),
            id="a definition written out, its values in another order",
        ),
    ],
)
def test_what_a_released_message_may_change(new: dict[str, Any]) -> None:
    """New optional fields, words and order."""
    assert breaking_changes(OLD, new) == []


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (edited(properties__title=GONE), ["title: removed or renamed"]),
        (edited(properties__title=GONE, properties__name=TEXT), ["title: removed or renamed"]),
        (
            edited(_Ref__attempt=GONE),
            [f"{where}.attempt: removed or renamed" for where in ("build", "last_good", "steps[]")],
        ),
        (edited(properties__new=TEXT, required=[*REQUIRED, "new"]), ["new: new and required"]),
        (edited(required=[*REQUIRED, "title"]), ["title: became required"]),
        (edited(required=REQUIRED[1:]), ["build: is no longer required"]),
        (
            edited(properties__seen_at={"type": "integer"}),
            ["seen_at: format 'date-time' is gone", "seen_at: type changed from string to integer"],
        ),
        (
            edited(properties__title={"type": "string", "default": None}),
            ["title: type changed from null | string to string"],
        ),
        (
            edited(properties__state={"anyOf": [{"$ref": "#/$defs/State"}, {"type": "null"}]}),
            [
                "state: enum ['success', 'failure'] is gone",
                "state: type changed from string to null | string",
            ],
        ),
        (
            edited(properties__title={"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]}),
            ["title: default None is gone", "title: maxLength 9 is new"],
        ),
        (edited(properties__state={"type": "string", "enum": ["success"]}), ["state: enum lost 'failure'"]),
        (
            edited(properties__state={"type": "string", "enum": ["success", "failure", "stale"]}),
            ["state: enum gained 'stale'"],
        ),
        (edited(properties__state={"type": "string"}), ["state: enum ['success', 'failure'] is gone"]),
        (
            edited(_Ref__run_id__maxLength=64),
            [
                f"{where}.run_id: maxLength changed from 255 to 64"
                for where in ("build", "last_good", "steps[]")
            ],
        ),
        (
            edited(_Ref__run_id__minLength=GONE),
            [f"{where}.run_id: minLength 1 is gone" for where in ("build", "last_good", "steps[]")],
        ),
        (edited(properties__title__default="none"), ["title: default changed from None to 'none'"]),
        (edited(properties__seen_at__format="date"), ["seen_at: format changed from 'date-time' to 'date'"]),
        (edited(properties__seen_at__maxLength=40), ["seen_at: maxLength 40 is new"]),
        (
            edited(properties__kind__pattern="^[a-z-]+$"),
            ["kind: pattern changed from '^[a-z]+$' to '^[a-z-]+$'"],
        ),
        (
            edited(properties__visibility__const="public"),
            ["visibility: const changed from 'private' to 'public'"],
        ),
        (
            edited(properties__values__additionalProperties={"type": "string"}),
            ["values: additionalProperties changed from True to {'type': 'string'}"],
        ),
        (edited(additionalProperties=False), ["the message: additionalProperties False is new"]),
        (
            edited(properties__steps__items={"type": "string"}),
            ["steps[]: type changed from object to string"],
        ),
        (edited(properties__steps__maxItems=3), ["steps: maxItems 3 is new"]),
    ],
)
def test_what_a_released_message_may_not_change(new: dict[str, Any], found: list[str]) -> None:
    """Each is named with its property's path and what became of it."""
    assert breaking_changes(OLD, new) == found


class GaugeReadV1(Fact):
    """Sent when a gauge was read."""

    type: ClassVar[str] = "gauge.read.v1"
    build: int

    def subject(self) -> str:
        return "gauge"

    def material(self) -> dict[str, Any]:
        return {"build": self.build}


class GaugeReadOtherwiseV1(GaugeReadV1):
    colour: str | None = None

    def material(self) -> dict[str, Any]:
        return {"build": self.build, "colour": self.colour}


class GaugeReadRoundV1(GaugeReadV1):
    build: int = Field(ge=0)


def test_the_check_names_what_broke_and_what_to_do() -> None:
    """A lost type, a changed field and a changed identity, each in a sentence."""
    gauge = GaugeReadV1(build=7)
    promise = {
        "schema": schemas.schema_of(GaugeReadV1),
        "identities": [{"id": str(gauge.identity()), "data": {"build": 7}}],
    }
    released = {"gauge.read.v1": promise}
    assert schemas.broken_promises(released, {"gauge.read.v1": GaugeReadV1}) == []
    assert schemas.broken_promises(released, {}) == [
        "gauge.read.v1: is gone. Put it back, and publish what replaces it beside it."
    ]
    assert schemas.broken_promises(released, {"gauge.read.v1": GaugeReadRoundV1}) == [
        "gauge.read.v1: build: minimum 0 is new. Undo that, or publish a v2 beside it."
    ]
    assert schemas.broken_promises(released, {"gauge.read.v1": GaugeReadOtherwiseV1}) == [
        (
            f"gauge.read.v1: another id for a released example (it was {gauge.identity()}): "
            "its subject or material changed. Undo that, or publish a v2 beside it."
        )
    ]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the distribution's files that this module writes."""
    for name in ("README.md", "asyncapi.json", "released.json"):
        shutil.copy(schemas.HERE / name, tmp_path)
    shutil.copytree(schemas.HERE / "schemas", tmp_path / "schemas")
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = schemas.main(arguments)
    return status, said.getvalue()


def test_the_committed_files_are_as_the_models_say() -> None:
    """When this fails, run `python -m buildlight_contracts.schemas` and commit what it wrote."""
    assert run("--check") == (0, "")


def test_the_check_names_stale_files_and_writing_mends_them(checkout: Path) -> None:
    """Changed, missing and left-over files, in one sentence; the check itself changes nothing."""
    root = str(checkout)
    (checkout / "schemas/build.observed.v1.json").write_text("{}")
    (checkout / "schemas/poll.failed.v1.json").unlink()
    (checkout / "schemas/moon.rose.v1.json").write_text("{}")
    readme = (checkout / "README.md").read_text()
    (checkout / "README.md").write_text(readme.replace("Sent when a channel", "Sent when no channel"))
    complaint = (
        "not as the models say: README.md, schemas/build.observed.v1.json, schemas/moon.rose.v1.json, "
        "schemas/poll.failed.v1.json; run `python -m buildlight_contracts.schemas`\n"
    )
    assert run("--check", "--root", root) == (1, complaint)
    assert run("--check", "--root", root) == (1, complaint)
    assert run("--root", root) == (0, "")
    assert run("--check", "--root", root) == (0, "")
    assert (checkout / "README.md").read_text() == readme


def test_a_release_freezes_every_message(checkout: Path) -> None:
    """After it, a message that loses a field fails the check and is not released over."""
    root = str(checkout)
    assert run("--release", "--root", root) == (0, "")
    assert run("--check", "--root", root) == (0, "")
    released = json.loads((checkout / "released.json").read_text())
    assert released.keys() == schemas.MESSAGES.keys()
    assert len(released["build.observed.v1"]["identities"]) == 3
    released["poll.failed.v1"]["schema"]["properties"]["weather"] = {"type": "string"}
    (checkout / "released.json").write_text(json.dumps(released))
    refusal = "poll.failed.v1: weather: removed or renamed. Undo that, or publish a v2 beside it.\n"
    assert run("--check", "--root", root) == (1, refusal)
    assert run("--release", "--root", root) == (1, refusal)
    assert json.loads((checkout / "released.json").read_text()) == released


def test_outside_a_checkout_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Installed from the wheel there is nothing to write."""
    with pytest.raises(SystemExit):
        schemas.main(["--check", "--root", str(tmp_path)])
    assert capsys.readouterr().err.endswith(
        f"{tmp_path} has no released.json: run this from a checkout of Buildlight\n"
    )


def test_every_published_schema_is_a_json_schema() -> None:
    """By the rules of its own dialect, 2020-12."""
    paths = sorted((schemas.HERE / "schemas").glob("*.json"))
    assert {path.stem for path in paths} == {"envelope", *schemas.MESSAGES}
    for path in paths:
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for inner in node.values() for found in references(inner)]
    if isinstance(node, list):
        return [found for inner in node for found in references(inner)]
    return []


def test_asyncapi_names_the_exchanges_and_resolves() -> None:
    """Facts on intake and events, commands on theirs; every reference leads somewhere."""
    document = schemas.asyncapi()
    assert {
        channel["bindings"]["amqp"]["exchange"]["name"]: list(channel["messages"])
        for channel in document["channels"].values()
    } == {INTAKE.name: list(FACTS), EVENTS.name: list(FACTS), COMMANDS_EXCHANGE.name: list(COMMANDS)}
    found = references(document)
    assert len(found) > 50
    for reference in found:
        inside: Any = document
        for step in reference.removeprefix("#/").split("/"):
            inside = inside[step]
        assert isinstance(inside, dict), reference


def test_asyncapis_examples_fit_its_payloads() -> None:
    """Each message's example is valid for the payload the document gives it."""
    document = schemas.asyncapi()
    for message in document["components"]["messages"].values():
        schema = {"components": document["components"], **message["payload"]}
        jsonschema.Draft202012Validator(schema).validate(message["examples"][0]["payload"])


@pytest.mark.skipif(not ASYNCAPI_SPECIFICATION.is_file(), reason="npm: @asyncapi/specs is absent")
def test_asyncapi_fits_its_own_specification() -> None:
    """AsyncAPI 3.0's JSON Schema takes the document."""
    specification = json.loads(ASYNCAPI_SPECIFICATION.read_text())
    jsonschema.Draft7Validator(specification).validate(schemas.asyncapi())


def test_the_readmes_table_tells_every_message() -> None:
    """One row each: type, what it means, the fields it must have, and what tells it apart."""
    rows = re.findall(r"^\| `([^`]+)` \| (.*?) \|", (schemas.HERE / "README.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == list(schemas.MESSAGES)
    assert dict(rows)["notification.sent.v1"] == (NotificationSentV1.__doc__ or "")
    assert "| `attempt`, `finished_at`, `raw_conclusion`, `raw_status`, `started_at` |" in schemas.table()
    assert BuildObservedV1.type == rows[0][0]


def test_nothing_at_run_time_imports_the_generator() -> None:
    """Only the generator and its rules know each other."""
    package = schemas.HERE / "buildlight_contracts"
    importers = {
        path.stem
        for path in package.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        and node.module in {"buildlight_contracts.schemas", "buildlight_contracts.compatibility"}
    }
    assert importers == {"schemas"}
