"""Writes what others read: `schemas/*.json`, `asyncapi.json`, and the table of messages in the README.

`python -m buildlight_contracts.schemas` writes them. With `--check` it writes nothing, and exits 1 when they
differ from the models or when a released message changed incompatibly. `--release` freezes the messages
as they are in `released.json`. For a checkout only; nothing imports this at run time.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.json_schema import models_json_schema

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.catalogue import COMMANDS, FACTS, BadMessage, validate
from buildlight_contracts.commands import Command
from buildlight_contracts.compatibility import breaking_changes
from buildlight_contracts.envelope import CONTENT_TYPE, TYPE_PREFIX, Envelope, Fact, Message
from buildlight_contracts.routing import COMMANDS as COMMANDS_EXCHANGE
from buildlight_contracts.routing import EVENTS, INTAKE, POSITION_HEADER, Exchange
from buildlight_contracts.testing import example, example_envelope

Json = dict[str, Any]

HERE = Path(__file__).resolve().parents[1]
MESSAGES: Mapping[str, type[Fact | Command]] = {**FACTS, **COMMANDS}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
REQUIRED_ATTRIBUTES = ["specversion", "id", "source", "type"]
TABLE_BEGIN, TABLE_END = "<!-- messages: generated -->\n", "<!-- messages: end -->"


def schema_of(message: type[Message]) -> Json:
    """The JSON Schema of one message's `data`."""
    schema = message.model_json_schema()
    return {"$schema": DIALECT, "$id": f"urn:buildlight:{message.type}", **schema}


def envelope_schema() -> Json:
    """The envelope's JSON Schema. Stricter than our reader, which takes a missing `specversion` for 1.0."""
    schema = Envelope.model_json_schema()
    return {
        "$schema": DIALECT,
        "$id": "urn:buildlight:envelope",
        **schema,
        "required": REQUIRED_ATTRIBUTES,
    }


def asyncapi() -> Json:
    """The AsyncAPI 3.0 document, from Buildlight's side: it receives what others send."""
    _, definitions = models_json_schema(
        [(model, "validation") for model in (Envelope, *MESSAGES.values())],
        ref_template="#/components/schemas/{model}",
    )
    schemas = definitions["$defs"]
    schemas["Envelope"]["required"] = REQUIRED_ATTRIBUTES
    channels = {
        "intake": _channel(INTAKE, FACTS),
        "events": _channel(EVENTS, FACTS),
        "commands": _channel(COMMANDS_EXCHANGE, COMMANDS),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Buildlight",
            "version": "1",
            "description": "Facts and commands as CloudEvents 1.0 over RabbitMQ. Publish to intake, listen "
            "to events. Publish persistent, confirmed and mandatory, with the event's id as `message_id`.",
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": {
            "receiveObservations": _operation("receive", "intake"),
            "sendRecordedFacts": _operation("send", "events"),
            "receiveCommands": _operation("receive", "commands"),
        },
        "components": {
            "messages": {name: _message(message) for name, message in MESSAGES.items()},
            "schemas": schemas,
        },
    }


def _channel(exchange: Exchange, messages: Mapping[str, type[Fact | Command]]) -> Json:
    return {
        "address": "{type}",
        "title": exchange.name,
        "description": exchange.purpose,
        "parameters": {"type": {"description": "The routing key.", "enum": list(messages)}},
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": exchange.name,
                    "type": exchange.kind,
                    "durable": True,
                    "autoDelete": False,
                },
                "bindingVersion": "0.3.0",
            }
        },
    }


def _operation(action: str, channel: str) -> Json:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": True, "bindingVersion": "0.3.0"}},
    }


def _message(message: type[Fact | Command]) -> Json:
    position = {"type": "integer", "minimum": 1, "description": "On events only: the position in the log."}
    headers = {"headers": {"type": "object", "properties": {POSITION_HEADER: position}}}
    return {
        "name": TYPE_PREFIX + message.type,
        "title": message.__name__,
        "summary": inspect.getdoc(message),
        "contentType": CONTENT_TYPE,
        "correlationId": {"location": "$message.payload#/correlationid"},
        **(headers if issubclass(message, Fact) else {}),
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Envelope"},
                {
                    "type": "object",
                    "required": ["data"],
                    "properties": {
                        "type": {"const": TYPE_PREFIX + message.type},
                        "data": {"$ref": f"#/components/schemas/{message.__name__}"},
                    },
                },
            ]
        },
        "examples": [{"payload": json.loads(example_envelope(message).to_json())}],
    }


def table() -> str:
    """The README's table of messages."""
    rows = ["| type | | must have | told apart by its subject and |", "|---|---|---|---|"]
    for name, message in MESSAGES.items():
        fields = message.model_fields.items()
        required = ", ".join(f"`{field}`" for field, about in fields if about.is_required())
        material = sorted({key for made in _identity_examples(message) for key in made.material()})
        summary = (inspect.getdoc(message) or "").partition("\n\n")[0].replace("\n", " ")
        told_apart = ", ".join(f"`{key}`" for key in material) or "nothing else"
        rows.append(f"| `{name}` | {summary} | {required} | {told_apart} |")
    return "\n".join(rows) + "\n"


def _identity_examples(message: type[Fact | Command]) -> Iterator[Fact | Command]:
    """One example a provider where a build is named, for what is material differs between providers."""
    made = example(message)
    if "build" not in message.model_fields:
        yield made
        return
    for provider in ("github", "gitlab", "jenkins"):
        yield example(message, build=example(BuildRef, provider=provider))


def documents(root: Path = HERE) -> dict[str, str]:
    """What this module writes: path within the distribution -> text."""
    readme = (root / "README.md").read_text("utf-8")
    head, rest = readme.split(TABLE_BEGIN)
    tail = rest.split(TABLE_END)[1]
    return {
        "schemas/envelope.json": _pretty(envelope_schema()),
        **{f"schemas/{name}.json": _pretty(schema_of(message)) for name, message in MESSAGES.items()},
        "asyncapi.json": _pretty(asyncapi()),
        "README.md": head + TABLE_BEGIN + table() + TABLE_END + tail,
    }


def stale(root: Path, wanted: Mapping[str, str]) -> list[str]:
    """The paths under `root` that differ from `wanted`: missing, changed, or schemas nobody wants."""
    there = {f"schemas/{path.name}" for path in (root / "schemas").glob("*.json")}
    changed = [
        path
        for path, text in wanted.items()
        if not (root / path).is_file() or (root / path).read_text("utf-8") != text
    ]
    return sorted([*changed, *(there - wanted.keys())])


def release() -> Json:
    """What `released.json` holds: each message's schema, and examples with the ids they must keep."""
    return {
        name: {
            "schema": schema_of(message),
            "identities": [
                {"id": str(made.identity()), "data": made.model_dump(mode="json")}
                for made in _identity_examples(message)
            ],
        }
        for name, message in MESSAGES.items()
    }


def broken_promises(released: Json, messages: Mapping[str, type[Message]] = MESSAGES) -> list[str]:
    """How `messages` break with what was released: a sentence each, naming type and property."""
    broken = []
    for name, promise in released.items():
        if name not in messages:
            broken.append(f"{name}: is gone. Put it back, and publish what replaces it beside it.")
            continue
        message = messages[name]
        found = breaking_changes(promise["schema"], schema_of(message))
        found += [
            f"another id for a released example (it was {identity['id']}): its subject or material changed"
            for identity in promise["identities"]
            if _identity(message, identity["data"]) != identity["id"]
        ]
        broken += [f"{name}: {what}. Undo that, or publish a v2 beside it." for what in dict.fromkeys(found)]
    return broken


def _identity(message: type[Message], data: Json) -> str:
    try:
        return str(validate(message, data).identity())
    except BadMessage as error:
        return str(error)


def _pretty(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m buildlight_contracts.schemas", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when something is wrong")
    parser.add_argument("--release", action="store_true", help="freeze the messages in released.json")
    parser.add_argument("--root", type=Path, default=HERE, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    root: Path = options.root
    if not (root / "released.json").is_file():
        parser.error(f"{root} has no released.json: run this from a checkout of Buildlight")

    complaints = broken_promises(json.loads((root / "released.json").read_text("utf-8")))
    wanted = documents(root) | ({"released.json": _pretty(release())} if options.release else {})
    if options.check:
        differing = stale(root, wanted)
        if differing:
            complaints.append(
                f"not as the models say: {', '.join(differing)}; run `python -m buildlight_contracts.schemas`"
            )
    elif not complaints:
        (root / "schemas").mkdir(exist_ok=True)
        for path in stale(root, wanted):
            if path in wanted:
                (root / path).write_text(wanted[path], "utf-8")
            else:
                (root / path).unlink()
    for complaint in complaints:
        sys.stderr.write(f"{complaint}\n")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
