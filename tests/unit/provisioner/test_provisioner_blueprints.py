"""The catalogue, the questions, and both blueprints rendered."""

import json
import os
import py_compile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.provisioner.blueprints import Blueprint, Catalogue, problems, with_defaults
from services.provisioner.job import CannotProvision
from services.provisioner.render import File, Limits, collect, render
from services.provisioner.settings import BLUEPRINTS
from services.provisioner.workspace import Workspaces

META = {
    "run_id": "r1",
    "kind": "component",
    "template": "t",
    "version": "0123456789ab",
    "timestamp": "2026-03-02T12:00:00+00:00",
    "host": "gitlab.example",
    "project_path": "acme/my-service",
}


def make(root: Path, files: dict[str, str], *, configuration: str = "{}") -> Blueprint:
    """A catalogue of one blueprint called `it`."""
    for name, text in {"copier.yml": configuration, **files}.items():
        path = root / "it" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Catalogue(root, max_bytes=1_000_000).find("it")


async def rendered(
    blueprint: Blueprint, folder: Path, values: dict[str, Any] | None = None, limits: Limits | None = None
) -> dict[str, File]:
    values = values or {}
    answers = {
        **values,
        "name": "my-service",
        "namespace": "my-team",
        "values": with_defaults(blueprint, values),
        "meta": META,
    }
    files = await render(blueprint, answers, folder / "rendered", limits or Limits())
    return {file.path: file for file in files}


def ours() -> Catalogue:
    return Catalogue(BLUEPRINTS, max_bytes=1_000_000)


@pytest.mark.parametrize("name", ["rust", "../go-backend", "/etc", "https://evil.example/x.git", "", "."])
def test_only_names_of_the_catalogue_are_known(name: str) -> None:
    """Paths and addresses are unknown names; the answer lists what there is."""
    with pytest.raises(CannotProvision) as refused:
        ours().find(name)
    assert str(refused.value) == f"There is no blueprint {name!r}. Known are go-backend, python-service"


def test_the_version_changes_with_any_file(tmp_path: Path) -> None:
    """The same files give the same version, one more another."""
    first = make(tmp_path, {"a.txt": "a"}).version
    assert make(tmp_path, {"a.txt": "a"}).version == first
    assert make(tmp_path, {"a.txt": "b"}).version != first
    assert len(first) == 12


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ("name: x", "a question cannot be called name: every blueprint has that already"),
        ("- a", "copier.yml is not a mapping"),
        ("x: !include y.yml", "could not determine a constructor"),
    ],
)
def test_a_broken_blueprint_is_its_owners_business(tmp_path: Path, configuration: str, said: str) -> None:
    """The run fails with a reason that says whom to tell."""
    with pytest.raises(CannotProvision) as refused:
        make(tmp_path, {}, configuration=configuration)
    assert "The blueprint it is broken, tell its owner: " in str(refused.value)
    assert said in str(refused.value)


def test_a_large_or_linked_blueprint_is_refused(tmp_path: Path) -> None:
    """Over the limit, or with a symbolic link: it is not rendered."""
    make(tmp_path, {"a.txt": "a" * 100})
    with pytest.raises(CannotProvision, match=r"its files are over 50 bytes \(MAX_TEMPLATE_SIZE\)"):
        Catalogue(tmp_path, max_bytes=50).find("it")
    (tmp_path / "it" / "link").symlink_to("/etc/passwd")
    with pytest.raises(CannotProvision, match="link is a symbolic link"):
        Catalogue(tmp_path, max_bytes=1000).find("it")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, []),
        ({"port": 1, "database": "postgres"}, []),
        ({"port": "8080"}, ["values.port: must be a whole number"]),
        ({"port": True}, ["values.port: must be a whole number"]),
        ({"port": None}, ["values.port: must be a whole number"]),
        ({"port": 80.5}, ["values.port: must be a whole number"]),
        ({"database": "oracle"}, ["values.database: must be one of none, postgres"]),
        ({"database": 5}, ["values.database: must be a text"]),
        (
            {"prot": 1},
            ["values.prot: go-backend does not ask for it; it asks for description, port, database"],
        ),
    ],
)
def test_answers_are_checked_by_name_and_type(values: dict[str, Any], said: list[str]) -> None:
    """Each problem names its field and not its value."""
    assert problems(ours().find("go-backend"), values) == said


def test_a_question_without_a_default_must_be_answered(tmp_path: Path) -> None:
    """A missing answer is named; lists and kinds of choices are understood."""
    blueprint = make(
        tmp_path,
        {},
        configuration=(
            "owner: {type: str}\n"
            "parts: {type: str, multiselect: true, choices: [[A, a], [B, b]], default: []}\n"
            "size: {type: int, choices: {small: 1, large: {value: 2}}, default: 1}\n"
            "derived: {type: str, default: '{{ owner }}!'}\n"
        ),
    )
    assert problems(blueprint, {"parts": ["a", "c"], "size": 3}) == [
        "values.owner: is missing",
        "values.parts: must be one of a, b",
        "values.size: must be one of 1, 2",
    ]
    assert problems(blueprint, {"owner": "x", "parts": "a"}) == ["values.parts: must be a list"]
    assert with_defaults(blueprint, {"owner": "x"}) == {"owner": "x", "parts": [], "size": 1}


@pytest.mark.parametrize("database", ["none", "postgres"])
async def test_go_backend_renders(tmp_path: Path, database: str) -> None:
    """Every file is there, with the job's name, port and module path; nothing is left to be filled in."""
    blueprint = ours().find("go-backend")
    files = await rendered(blueprint, tmp_path, {"port": 9000, "database": database})
    assert sorted(files) == sorted(
        [
            ".dockerignore",
            ".gitignore",
            ".gitlab-ci.yml",
            "Dockerfile",
            "README.md",
            "cmd/server/main.go",
            "go.mod",
            "internal/server/server.go",
            "internal/server/server_test.go",
            *(["compose.yaml"] if database == "postgres" else []),
        ]
    )
    texts = {path: file.content.decode() for path, file in files.items()}
    assert texts["go.mod"] == "module gitlab.example/acme/my-service\n\ngo 1.22\n"
    assert "EXPOSE 9000\n" in texts["Dockerfile"]
    assert 'defaultPort = "9000"' in texts["internal/server/server.go"]
    assert ("DATABASE_URL" in texts["internal/server/server.go"]) is (database == "postgres")
    assert texts["README.md"].startswith("# my-service\n\nAn HTTP service of my-team, in Go")
    assert "{{" not in "".join(texts.values())
    assert set(yaml.safe_load(texts[".gitlab-ci.yml"])) == {"stages", "workflow", "test", "image"}


@pytest.mark.parametrize("database", ["none", "postgres"])
async def test_python_service_renders(tmp_path: Path, database: str) -> None:
    """Its project file is TOML with the right dependencies, and its modules compile."""
    blueprint = ours().find("python-service")
    files = await rendered(blueprint, tmp_path, {"database": database})
    project = tomllib.loads(files["pyproject.toml"].content.decode())["project"]
    assert project["name"] == "my-service"
    assert ("asyncpg>=0.30" in project["dependencies"]) is (database == "postgres")
    assert ("compose.yaml" in files) is (database == "postgres")
    for path in files:
        if path.endswith(".py"):
            py_compile.compile(str(tmp_path / "rendered" / path), doraise=True)
    assert b'"8080"' in files["app/__main__.py"].content


async def test_a_value_is_data(tmp_path: Path) -> None:
    """Braces in a value stay braces: in a file, through `values`, and in a path."""
    hostile = "{{ 7 * 7 }}{% raw %}"
    blueprint = make(
        tmp_path / "catalogue",
        {"a.txt.jinja": "{{ title }}|{{ values.title }}", "{{ title }}.txt": "x"},
        configuration="title: ''",
    )
    files = await rendered(blueprint, tmp_path, {"title": hostile})
    assert files["a.txt"].content.decode() == f"{hostile}|{hostile}"
    assert sorted(files) == ["a.txt", f"{hostile}.txt"]


def outside(root: Path) -> set[Path]:
    """What there is under `root` but not in its folder `rendered`, and at the absolute path tried."""
    found = {path for path in root.rglob("*") if root / "rendered" not in (path, *path.parents)}
    return found | {path for path in [Path("/tmp/evil.txt")] if path.exists()}


@pytest.mark.parametrize("path", ["../../evil", "/tmp/evil", "a/../../../evil"])
async def test_no_value_leads_out_of_the_workspace(tmp_path: Path, path: str) -> None:
    """A path that a value would lead elsewhere fails the rendering, and nothing is written there."""
    blueprint = make(
        tmp_path / "catalogue", {"{{ where }}.txt": "x", "a.txt": "a"}, configuration="where: ''"
    )
    before = outside(tmp_path)
    with pytest.raises(CannotProvision, match="The blueprint it cannot be rendered: ForbiddenPath"):
        await rendered(blueprint, tmp_path, {"where": path})
    assert outside(tmp_path) == before


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ("_tasks: [touch done]", "tasks"),
        ("_jinja_extensions: [jinja2.ext.do]", "jinja_extensions"),
        ("_envops: {undefined: jinja2.StrictUndefined}", "'nothing' is undefined"),
        ("port: {type: int, default: 1, validator: 'not {{ port }}'}", "question 'port': not 1"),
    ],
)
async def test_what_a_template_may_not_do(tmp_path: Path, configuration: str, said: str) -> None:
    """Tasks and extensions are refused; errors of the template are said."""
    blueprint = make(tmp_path / "catalogue", {"a.txt.jinja": "{{ nothing }}"}, configuration=configuration)
    with pytest.raises(CannotProvision) as refused:
        await rendered(blueprint, tmp_path)
    assert said in str(refused.value)


async def test_an_error_does_not_quote_a_value(tmp_path: Path) -> None:
    """What Copier says of an answer it refuses may quote it; the run's reason does not."""
    blueprint = make(
        tmp_path / "catalogue",
        {"a.txt": ""},
        configuration="token: {type: str, default: '', validator: 'bad: {{ token }}'}",
    )
    with pytest.raises(CannotProvision, match=r"question 'token': bad: \[value\]$"):
        await rendered(blueprint, tmp_path, {"token": "hunter22"})


async def test_the_child_sees_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the environment, and no way to it from a template."""
    monkeypatch.setenv("GITLAB_TOKEN", "hunter22")
    blueprint = make(
        tmp_path / "catalogue",
        {"a.txt.jinja": "{{ ''.__class__.__mro__ }}"},
    )
    with pytest.raises(CannotProvision, match="is unsafe"):
        await rendered(blueprint, tmp_path)


@pytest.mark.parametrize(
    ("text", "limits", "said"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            Limits(seconds=2),
            "(takes longer than 2 s|its process ended with -)",
        ),
        ("{{ 'x' * 3000000000 }}", Limits(), "more memory"),
        (
            "{{ 'x' * 3000000 }}",
            Limits(workspace_bytes=1_000_000),
            "(File too large|its process ended|fills more)",
        ),
    ],
)
async def test_a_rendering_that_takes_too_much_is_ended(
    tmp_path: Path, text: str, limits: Limits, said: str
) -> None:
    """Time, memory and the size of files are limited; the run fails with the reason."""
    blueprint = make(tmp_path / "catalogue", {"a.txt.jinja": text})
    with pytest.raises(CannotProvision, match=said):
        await rendered(blueprint, tmp_path, limits=limits)


def test_files_are_read_back_with_their_bytes_and_modes(tmp_path: Path) -> None:
    """Ordered by path; what is no text travels in base64, what can be run says so."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "logo.png").write_bytes(b"\x89PNG\0\xff")
    (tmp_path / "a.sh").write_text("#!/bin/sh\n")
    (tmp_path / "a.sh").chmod(0o755)
    assert [action for file in collect(tmp_path, max_bytes=1000) for action in file.actions()] == [
        {
            "action": "create",
            "file_path": "a.sh",
            "content": "#!/bin/sh\n",
            "encoding": "text",
        },
        {"action": "chmod", "file_path": "a.sh", "execute_filemode": True},
        {"action": "create", "file_path": "b/logo.png", "content": "iVBORwD/", "encoding": "base64"},
    ]


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """Links (to files and folders), pipes, and git's own folder however it is written."""
    for made, said in (
        (lambda path: path.symlink_to("/etc/passwd"), "symbolic link"),
        (lambda path: path.symlink_to("/etc"), "symbolic link"),
        (os.mkfifo, "no plain file"),
    ):
        path = tmp_path / "it"
        made(path)
        with pytest.raises(CannotProvision, match=said):
            collect(tmp_path, max_bytes=1000)
        path.unlink()
    for name in (".git", ".GIT", "git~1", ".git. "):
        (tmp_path / name).mkdir()
        with pytest.raises(CannotProvision, match="a part called .git"):
            collect(tmp_path, max_bytes=1000)
        (tmp_path / name).rmdir()
    for name, said in (("a\nb", "cannot be shown"), (b"a\xff".decode(errors="surrogateescape"), "not UTF-8")):
        (tmp_path / name).touch()
        with pytest.raises(CannotProvision, match=said):
            collect(tmp_path, max_bytes=1000)
        (tmp_path / name).unlink()
    (tmp_path / "large").write_bytes(b"x" * 1001)
    with pytest.raises(CannotProvision, match="over 1,000 bytes together"):
        collect(tmp_path, max_bytes=1000)


@pytest.fixture
def workspaces(tmp_path: Path) -> Iterator[Workspaces]:
    made = Workspaces(tmp_path / "workspaces")
    yield made
    made.close()


def test_a_workspace_is_private_and_goes(workspaces: Workspaces) -> None:
    """Nobody else may read it, and nothing of it stays."""
    with workspaces.one() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "a").write_text("x")
    assert not folder.exists()


def test_what_dead_processes_left_is_removed_at_the_start(tmp_path: Path, workspaces: Workspaces) -> None:
    """A folder whose lock nobody holds goes; one of a process that lives stays."""
    workspaces.open()
    living = next((tmp_path / "workspaces").iterdir())
    dead = tmp_path / "workspaces" / "worker-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "left").write_text(json.dumps({"a": 1}))
    other = Workspaces(tmp_path / "workspaces")
    assert other.open() == 1
    assert living.exists()
    assert not dead.exists()
    other.close()
