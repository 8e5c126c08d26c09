"""The operator's catalogue of blueprints, and whether a job's values answer a blueprint's questions."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from services.provisioner.job import CannotProvision

GIVEN = ("name", "namespace", "values", "meta")
"""The variables every blueprint has; no question may bear their names."""

_CONFIGURATION = ("copier.yml", "copier.yaml")
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "path": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
}
_IN_WORDS = {
    "str": "a text",
    "path": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
}
_MISSING = object()


@dataclass(frozen=True)
class Blueprint:
    """One Copier template of the catalogue."""

    name: str
    folder: Path
    questions: Mapping[str, Mapping[str, Any]]
    version: str
    """Twelve hex characters that change with any of its files."""


class Catalogue:
    """The folders under `root` that hold a `copier.yml`. Read afresh each time: no restart for a new one."""

    def __init__(self, root: Path, *, max_bytes: int) -> None:
        self.root = root
        self._max_bytes = max_bytes

    def names(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self.root.iterdir() if _configuration(entry) is not None)
        except OSError as error:
            raise CannotProvision(
                f"The catalogue of blueprints cannot be read ({error.strerror}): set BUILDLIGHT_BLUEPRINTS "
                "to a folder with one Copier template a folder"
            ) from None

    def find(self, name: str) -> Blueprint:
        """The blueprint called `name`, which is looked up among the names, never used as a path or an address.

        Raises:
            CannotProvision: there is none, or it is no good.
        """
        known = self.names()
        if name not in known:
            raise CannotProvision(
                f"There is no blueprint {name!r}. "
                + (f"Known are {', '.join(known)}" if known else "The catalogue is empty")
            )
        folder = self.root / name
        path = _configuration(folder)
        assert path is not None
        try:
            questions = _questions(path)
            version = self._version(folder)
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise CannotProvision(f"The blueprint {name} is broken, tell its owner: {error}") from None
        return Blueprint(name, folder, questions, version)

    def _version(self, folder: Path) -> str:
        digest, size = hashlib.sha256(), 0
        for directory, folders, files in os.walk(folder):
            folders.sort()
            for file in sorted(files):
                path = Path(directory, file)
                if path.is_symlink():
                    raise ValueError(f"{path.relative_to(folder)} is a symbolic link")
                size += path.stat().st_size
                if size > self._max_bytes:
                    raise ValueError(f"its files are over {self._max_bytes:,} bytes (MAX_TEMPLATE_SIZE)")
                digest.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                digest.update(path.read_bytes())
            if any(Path(directory, name).is_symlink() for name in folders):
                raise ValueError(f"a folder in {Path(directory).relative_to(folder)} is a symbolic link")
        return digest.hexdigest()[:12]


def problems(blueprint: Blueprint, values: Mapping[str, Any]) -> list[str]:
    """What is wrong with `values` as answers, naming fields and never a value. Empty: nothing.

    Stricter than Copier, which would take the text "80" for a number. A question's own validator, and types
    and choices that are templates themselves, are Copier's to check.
    """
    asked = ", ".join(blueprint.questions) or "nothing"
    found = [
        f"values.{name}: {blueprint.name} does not ask for it; it asks for {asked}"
        for name in values
        if name not in blueprint.questions
    ]
    for name, question in blueprint.questions.items():
        if name in values:
            found += [f"values.{name}: {wrong}" for wrong in _wrong(question, values[name])]
        elif "default" not in question and "when" not in question:
            found.append(f"values.{name}: is missing")
    return found


def with_defaults(blueprint: Blueprint, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a blueprint sees as `values`: what was given, and the defaults of the rest.

    A default that is a template is not in it: only the question's own name has that.
    """
    defaults = {
        name: question["default"]
        for name, question in blueprint.questions.items()
        if "default" in question and not _is_template(question["default"])
    }
    return {**defaults, **values}


def _wrong(question: Mapping[str, Any], value: Any) -> list[str]:
    kind = question.get("type") or type(question.get("default")).__name__
    many = question.get("multiselect", False)
    if many and not isinstance(value, list):
        return ["must be a list"]
    wanted = _TYPES.get(kind)
    for one in value if many else [value]:
        if wanted and (not isinstance(one, wanted) or (isinstance(one, bool) and kind != "bool")):
            return [f"must be {_IN_WORDS[kind]}"]
    choices = _choices(question.get("choices"))
    if choices and any(one not in choices for one in (value if many else [value])):
        return [f"must be one of {', '.join(map(str, choices))}"]
    return []


def _choices(choices: Any) -> list[Any]:
    """What may be chosen, or nothing when only Copier can tell."""
    if not isinstance(choices, list | dict):
        return []
    pairs = choices.items() if isinstance(choices, dict) else choices
    values = [one[1] if isinstance(one, list | tuple) else one for one in pairs]
    values = [one["value"] if isinstance(one, dict) else one for one in values]
    return [] if any(_is_template(one) for one in values) else values


def _is_template(value: Any) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _configuration(folder: Path) -> Path | None:
    if folder.is_symlink() or folder.name.startswith("."):
        return None
    return next((folder / name for name in _CONFIGURATION if (folder / name).is_file()), None)


def _questions(path: Path) -> dict[str, Mapping[str, Any]]:
    configuration = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(configuration, dict):
        raise ValueError(f"{path.name} is not a mapping")  # noqa: TRY004 -- of the file's content
    questions: dict[str, Mapping[str, Any]] = {
        str(name): question if isinstance(question, dict) else {"default": question}
        for name, question in configuration.items()
        if not str(name).startswith("_")
    }
    taken = [name for name in questions if name in GIVEN]
    if taken:
        raise ValueError(f"a question cannot be called {', '.join(taken)}: every blueprint has that already")
    return questions
