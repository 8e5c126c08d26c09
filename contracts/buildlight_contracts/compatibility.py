"""What may change in a released message: it may gain optional fields, and nothing else.

Widening is refused as well as narrowing. A fact is written by some and read by others, and even a command may
reach an older replica of its owner; whatever one side newly allows, the other may not know.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_FOR_PEOPLE = {"$id", "$schema", "$comment", "$defs", "title", "description", "examples", "deprecated"}
_COMPARED_APART = {"anyOf", "properties", "required", "items", "type"}
_ABSENT = object()


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Every difference between two JSON Schemas of one message that a released message may not have.

    Each line begins with the property's path: `build.run_id: maxLength changed from 255 to 64`. The schemas
    are as pydantic writes them, with references into their own `$defs`; none may contain itself.
    """
    before, after = _plain(old, old.get("$defs", {})), _plain(new, new.get("$defs", {}))
    return list(dict.fromkeys(_differences(before, after, "")))


def _plain(schema: Any, defs: Schema) -> Any:
    """The schema with references replaced by what they name, and without what is only for people."""
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        named = defs[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**named, **{key: value for key, value in schema.items() if key != "$ref"}}
    plain: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword in _FOR_PEOPLE:
            continue
        if keyword == "properties":
            plain[keyword] = {name: _plain(inner, defs) for name, inner in value.items()}
        elif keyword in {"anyOf", "oneOf", "allOf", "prefixItems"}:
            plain[keyword] = [_plain(inner, defs) for inner in value]
        elif keyword in {"items", "additionalProperties", "propertyNames"}:
            plain[keyword] = _plain(value, defs)
        else:
            plain[keyword] = value
    return plain


def _differences(old: Schema, new: Schema, path: str) -> Iterator[str]:
    where = path or "the message"
    yield from _keywords(old, new, where)
    olds, news = _alternatives(old), _alternatives(new)
    if list(olds) != list(news):
        yield f"{where}: type changed from {' | '.join(olds)} to {' | '.join(news)}"
    elif "anyOf" in old:
        for kind, before in olds.items():
            yield from _differences(before, news[kind], path)
    else:
        yield from _properties(old, new, path)
        if "items" in old or "items" in new:
            yield from _differences(old.get("items", {}), new.get("items", {}), f"{where}[]")


def _alternatives(schema: Schema) -> dict[str, Schema]:
    """What a value may be, by JSON type; numbered where two are alike."""
    found: dict[str, Schema] = {}
    for choice in schema.get("anyOf", [schema]):
        kind = str(choice.get("type", "anything"))
        found[kind if kind not in found else f"{kind} {len(found) + 1}"] = choice
    return dict(sorted(found.items()))


def _keywords(old: Schema, new: Schema, where: str) -> Iterator[str]:
    for keyword in sorted((old.keys() | new.keys()) - _COMPARED_APART):
        before, after = old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)
        if before is _ABSENT:
            yield f"{where}: {keyword} {after!r} is new"
        elif after is _ABSENT:
            yield f"{where}: {keyword} {before!r} is gone"
        elif keyword == "enum":
            yield from (f"{where}: enum lost {value!r}" for value in before if value not in after)
            yield from (f"{where}: enum gained {value!r}" for value in after if value not in before)
        elif before != after:
            yield f"{where}: {keyword} changed from {before!r} to {after!r}"


def _properties(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    needed_before, needed_after = old.get("required", ()), new.get("required", ())
    prefix = f"{path}." if path else ""
    for name, schema in before.items():
        if name not in after:
            yield f"{prefix}{name}: removed or renamed"
            continue
        if name in needed_after and name not in needed_before:
            yield f"{prefix}{name}: became required"
        elif name in needed_before and name not in needed_after:
            yield f"{prefix}{name}: is no longer required"
        yield from _differences(schema, after[name], prefix + name)
    yield from (
        f"{prefix}{name}: new and required" for name in after if name not in before and name in needed_after
    )
