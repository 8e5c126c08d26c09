"""Every message: its schema tells the truth, it survives the journey, and its words are in order."""

import json
import re
from datetime import datetime, timedelta, timezone
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import COMMANDS, FACTS, BadMessage, command_of, fact_of, parse, validate
from buildlight_contracts.commands import Command
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope, Fact
from buildlight_contracts.schemas import MESSAGES, envelope_schema, schema_of
from buildlight_contracts.testing import example, example_envelope

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)  # noqa: DTZ001
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def from_schema(schema: dict[str, Any], defs: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any value the schema allows, for the part of JSON Schema that the contracts use."""
    match schema:
        case {"not": {"pattern": refused}, **rest}:
            return from_schema(rest, defs).filter(lambda text: not re.search(refused, text))
        case {"$ref": reference}:
            return from_schema(defs[reference.removeprefix("#/$defs/")], defs)
        case {"anyOf": choices}:
            return st.one_of(*(from_schema(choice, defs) for choice in choices))
        case {"enum": values}:
            return st.sampled_from(values)
        case {"const": value}:
            return st.just(value)
        case {"type": "string", "format": "date-time"}:
            return MOMENTS.map(datetime.isoformat)
        case {"type": "string", "format": "uuid"}:
            return st.uuids().map(str)
        case {"type": "string", "pattern": pattern, "maxLength": longest}:
            return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= longest)
        case {"type": "string", "pattern": pattern}:
            return st.from_regex(pattern, fullmatch=True)
        case {"type": "string"}:
            return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "integer"}:
            return st.integers(schema.get("minimum"))
        case {"type": "number"}:
            return st.floats(schema.get("minimum"), allow_nan=False, allow_infinity=False)
        case {"type": "null"}:
            return st.none()
        case {"type": "array", "items": items}:
            return st.lists(from_schema(items, defs), max_size=3)
        case {"type": "object", "properties": properties}:
            fields = {name: from_schema(inner, defs) for name, inner in properties.items()}
            needed = {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=fields)
        case {"type": "object", "additionalProperties": True}:
            return st.dictionaries(st.text(), ANYTHING, max_size=3)
        case _:
            raise NotImplementedError(f"teach this function {schema}")


def valid(message: type[Fact | Command]) -> st.SearchStrategy[Any]:
    schema = schema_of(message)
    return from_schema(schema, schema.get("$defs", {})).map(message.model_validate)


@pytest.mark.parametrize("message", FACTS.values(), ids=FACTS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_fact_survives_the_journey(message: type[Fact], data: st.DataObject) -> None:
    """Whatever its published schema allows fits the model, its envelope and JSON, and comes out the same."""
    fact = data.draw(valid(message))
    envelope = Envelope.of(fact, source="https://ci.acme.example")
    received = parse(envelope.to_json())
    assert received == envelope
    assert fact_of(received) == fact
    assert str(fact_of(received).identity()) == envelope.id
    jsonschema.validate(received.data, schema_of(message))


@pytest.mark.parametrize("message", COMMANDS.values(), ids=COMMANDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data(), time=MOMENTS)
def test_a_command_survives_the_journey(message: type[Command], data: st.DataObject, time: datetime) -> None:
    """Commands too, with their expiry."""
    command = data.draw(valid(message))
    envelope = Envelope.wrap(command, source="https://ci.acme.example", time=time, expires_at=time)
    received = parse(envelope.to_json())
    assert received.expiresat == time
    assert command_of(received) == command
    assert str(command_of(received).identity()) == envelope.id


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_the_example_fits_the_published_schemas(message: type[Fact | Command]) -> None:
    """The shipped example has every field, and a plain JSON Schema validator takes it and its envelope."""
    envelope = json.loads(example_envelope(message).to_json())
    jsonschema.validate(envelope, envelope_schema())
    jsonschema.validate(envelope["data"], schema_of(message))
    assert envelope["data"].keys() == message.model_fields.keys()
    # The example of a build has ended, and only open ones have resumed.
    absent = {"resumed_at"} if message is BuildObservedV1 else set()
    assert {name for name, value in envelope["data"].items() if value is None} == absent
    assert envelope["type"] == TYPE_PREFIX + message.type
    assert example(message) == example(message)


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_a_fact_says_when_it_is_sent(fact: type[Fact]) -> None:
    """A fact's docstring is its definition, and begins so."""
    assert (fact.__doc__ or "").startswith("Sent when ")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_says_what_it_asks(command: type[Command]) -> None:
    """A command's docstring begins with whom it asks."""
    assert (command.__doc__ or "").startswith("Asks ")


@pytest.mark.parametrize("name", MESSAGES)
def test_the_version_is_in_type_and_class(name: str) -> None:
    """`build.observed.v1` is BuildObservedV1 or the like: both carry the same version."""
    version = name.rpartition(".v")[2]
    assert version.isdecimal()
    assert MESSAGES[name].__name__.endswith(f"V{version}")


def test_a_newer_publishers_fields_are_ignored() -> None:
    """An optional field added later does not trouble an older reader, nor change the id."""
    fact = example(FACTS["build.observed.v1"])
    newer = {**fact.model_dump(mode="json"), "weather": "rain"}
    assert validate(FACTS["build.observed.v1"], newer) == fact


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_json_does_not_have_are_refused(number: str) -> None:
    """Postgres would refuse them later, so they stop at the door."""
    data = example(FACTS["build.finished.v1"]).model_dump(mode="json") | {"duration_seconds": float(number)}
    with pytest.raises(BadMessage) as refused:
        validate(FACTS["build.finished.v1"], data)
    assert str(refused.value) == (
        "not a valid build.finished.v1: duration_seconds: Input should be a finite number"
    )
