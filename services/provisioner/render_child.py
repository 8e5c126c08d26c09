"""Renders one template, in a process of its own with limits; run by `render` and by nobody else.

Standard input: `{"template", "destination", "answers", "limits": {"cpu_seconds", "memory_bytes",
"file_bytes"}}`. Standard output: `{}` or `{"error": "..."}`. It imports nothing of Buildlight, so that it
runs isolated (`python -I`), and has no token, no address and no search path for programs in its environment.
"""

import json
import os
import resource
import sys
from typing import Any

OPEN_FILES = 128


def limit(limits: dict[str, int]) -> None:
    for what, most in (
        (resource.RLIMIT_CPU, limits["cpu_seconds"]),
        (resource.RLIMIT_AS, limits["memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["file_bytes"]),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (least, least))


def render(template: str, destination: str, answers: dict[str, Any]) -> None:
    from copier import Settings, run_copy  # noqa: PLC0415 -- after the limits

    # Not `skip_tasks`: a template with tasks is refused (unsafe=False), not half carried out. And nothing is
    # read from the user's own settings, which may trust templates.
    run_copy(
        template,
        destination,
        data=answers,
        settings=Settings(),
        defaults=True,
        overwrite=True,
        quiet=True,
        unsafe=False,
    )


def main() -> None:
    answer_to = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no answer
    order = json.load(sys.stdin)
    answer: dict[str, str] = {}
    try:
        limit(order["limits"])
        render(order["template"], order["destination"], order["answers"])
    except MemoryError:
        answer = {"error": "it needs more memory than a rendering may have"}
    except Exception as error:  # noqa: BLE001 -- whatever is wrong with a template is the answer
        answer = {"error": f"{type(error).__name__}: {error}"}
    with os.fdopen(answer_to, "w") as out:
        json.dump(answer, out)


if __name__ == "__main__":
    main()
