"""The `tree` parameter of Jenkins' JSON API: only what it names is answered, lists by place where it says so."""

import re
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(r"\s*([A-Za-z_*][A-Za-z0-9_]*|\*|[\[\]{},]|[0-9]+)\s*")


class TreeError(ValueError):
    """It cannot be parsed."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One name of a tree: what is wanted of it (None: everything), and which of its items."""

    wanted: "dict[str, Branch] | None" = None
    begin: int = 0
    end: int | None = None


def parse(text: str) -> dict[str, Branch]:
    """The tree behind `jobs[name,builds[number]{0,5}]`; raises TreeError."""
    tokens: list[str] = []
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            raise TreeError(f"unexpected {text[place:][:20]!r}")
        tokens.append(found.group(1))
        place = found.end()
    tree, rest = _names(tokens)
    if rest:
        raise TreeError(f"unexpected {rest[0]!r}")
    return tree


def pruned(value: Any, tree: dict[str, Branch]) -> Any:
    """What a tree leaves of an object. Its class always stays; a name that is not there is no error."""
    if not isinstance(value, dict):
        return value
    kept = {"_class": value["_class"]} if "_class" in value else {}
    everything = tree.get("*")
    for name, inner in value.items():
        branch = tree.get(name) or everything
        if branch is not None and name != "_class":
            kept[name] = _inner(inner, branch)
    return kept


def _inner(value: Any, branch: Branch) -> Any:
    if isinstance(value, list):
        return [_inner(one, Branch(branch.wanted)) for one in value[branch.begin : branch.end]]
    return pruned(value, branch.wanted) if branch.wanted is not None else _bare(value)


def _bare(value: Any) -> Any:
    """An object of which nothing is named: Jenkins shows its own fields, and not the objects in it."""
    if not isinstance(value, dict):
        return value
    return {name: inner for name, inner in value.items() if not isinstance(inner, dict | list)}


def _names(tokens: list[str]) -> tuple[dict[str, Branch], list[str]]:
    tree: dict[str, Branch] = {}
    while tokens and tokens[0] != "]":
        name, tokens = tokens[0], tokens[1:]
        if not (name[0].isalpha() or name[0] in "_*"):
            raise TreeError(f"unexpected {name!r}")
        wanted: dict[str, Branch] | None = None
        begin, end = 0, None
        if tokens and tokens[0] == "[":
            wanted, tokens = _names(tokens[1:])
            if not tokens or tokens[0] != "]":
                raise TreeError("a ] is missing")
            tokens = tokens[1:]
        if tokens and tokens[0] == "{":
            begin, end, tokens = _range(tokens[1:])
        tree[name] = Branch(wanted, begin, end)
        if tokens and tokens[0] == ",":
            tokens = tokens[1:]
        elif tokens and tokens[0] != "]":
            raise TreeError(f"unexpected {tokens[0]!r}")
    return tree, tokens


def _range(tokens: list[str]) -> tuple[int, int | None, list[str]]:
    """`{M,N}`, `{M,}`, `{,N}` or `{N}`, of which the opening brace is gone."""
    if "}" not in tokens:
        raise TreeError("a } is missing")
    inside, rest = tokens[: tokens.index("}")], tokens[tokens.index("}") + 1 :]
    match inside:
        case [one] if one.isdecimal():
            return int(one), int(one) + 1, rest
        case [begin, ",", end] if begin.isdecimal() and end.isdecimal():
            return int(begin), int(end), rest
        case [begin, ","] if begin.isdecimal():
            return int(begin), None, rest
        case [",", end] if end.isdecimal():
            return 0, int(end), rest
    raise TreeError("a range is {from,to}")
