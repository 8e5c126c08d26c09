"""Finding things on GitHub's shelves, and refusing what is not there in GitHub's words."""

from collections.abc import Sequence

from starlette.requests import Request

from sandbox.catalogue import Repository
from sandbox.github_search import RefusalError
from sandbox.history import JobState, RunState
from sandbox.shelves import Row, Shelf

NOT_FOUND = RefusalError(404, "Not Found")


class Lookup:
    """All shelves seen as one; `owner` restricts a request to what an App's installation was given."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self.shelves = shelves

    def repositories(self, owner: str | None = None) -> dict[str, int]:
        """Full names and ids."""
        return {
            name: number
            for shelf in self.shelves
            for name, number in shelf.repositories()
            if owner is None or name.split("/")[0].lower() == owner.lower()
        }

    def full_name(self, request: Request) -> str:
        number = request.path_params.get("number")
        if number is None:
            name = f"{request.path_params['owner']}/{request.path_params['repo']}"
        else:
            known = (name for name, known in self.repositories().items() if known == number)
            name = next(known, "")
        owner: str | None = getattr(request.state, "owner", None)
        if not name or (owner is not None and name.split("/")[0].lower() != owner.lower()):
            raise NOT_FOUND
        return name

    def number(self, full_name: str) -> int:
        return self.repositories().get(full_name, 0)

    def repository(self, full_name: str) -> Repository | None:
        """What is known of a repository; None for one of which only rows were recorded."""
        found = (shelf.find(full_name) for shelf in self.shelves)
        return next((repository for repository in found if repository), None)

    def known(self, request: Request) -> str:
        """The full name of a repository that there is."""
        full_name = self.full_name(request)
        if full_name not in self.repositories():
            raise NOT_FOUND
        return full_name

    def listing(self, full_name: str) -> list[Row]:
        """All runs of a repository, newest first."""
        if full_name not in self.repositories():
            raise NOT_FOUND
        rows = [row for shelf in self.shelves for row in shelf.runs(full_name)]
        return sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)

    def row(self, full_name: str, run_id: int, attempt: int | None = None) -> tuple[Shelf, Row]:
        for shelf in self.shelves:
            row = shelf.run(full_name, run_id, attempt)
            if row is not None:
                return shelf, row
        raise NOT_FOUND

    def attempts(self, full_name: str, run_id: int) -> tuple[Shelf | None, list[int]]:
        for shelf in self.shelves:
            attempts = shelf.attempts(full_name, run_id)
            if attempts:
                return shelf, attempts
        return None, []

    def job(self, full_name: str, job_id: int) -> tuple[Shelf, RunState, JobState]:
        for shelf in self.shelves:
            found = shelf.job(full_name, job_id)
            if found is not None:
                return shelf, *found
        raise NOT_FOUND
