"""Whole logs on demand: `/api/v1/builds/{id}/log` and `/api/v1/builds/{id}/jobs/{job_id}/log`.

The poller has the providers' tokens, so it answers these two itself. Nothing is kept: a log is read from its
provider as it is sent on, line by line, without control sequences and with secrets masked.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Any, Literal
from uuid import UUID

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Message, Receive, Scope, Send

from buildlight_contracts.builds import BuildRef, JobObservedV1
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from reports.job_log import JobLog
from reports.log_lines import Line, Lines
from reports.stream import small
from services.poller.acting import Calling, freely
from services.poller.allowance import Allowance, reader_of
from services.poller.collection_store import CollectionStore
from services.poller.metrics import FULL_LOGS
from services.poller.provider import (
    Found,
    Jobs,
    LogGoneError,
    MustWaitError,
    PollFailedError,
    Provider,
    Providers,
    Target,
)

AT_ONCE = 8
"""Logs sent at one time by one replica: each holds a connection to its provider."""
MOST_BYTES = 1_073_741_824
MOST_SECONDS = 900.0
_FIRST_BYTE_SECONDS = 30.0
_PATIENCE_SECONDS = 30.0
"""So long in all a reader may keep us waiting, and longer by what it has taken at `_LEAST_BYTES_PER_SECOND`."""
_LEAST_BYTES_PER_SECOND = 65_536
_LINES_AT_ONCE = 200

log = structlog.get_logger()

JobId = Annotated[
    str, Path(min_length=1, max_length=255, pattern=r"^[^/\\?#%\x00-\x1f\x7f]*[^/\\?#%\x00-\x1f\x7f.]$")
]
Form = Annotated[
    Literal["text", "steps"],
    Query(alias="format", description="`steps`: the steps with their times, as JSON"),
]


class LogStepAnswer(BaseModel):
    name: str
    depth: int = Field(description="0: not inside another step")
    first_line: int
    last_line: int | None
    started_at: Any = Field(description="ISO time, or null where the log has no times")
    finished_at: Any
    duration_seconds: float | None
    failed: bool


class StepsAnswer(BaseModel):
    build_id: UUID
    job_id: str
    lines: int
    steps: list[LogStepAnswer]


class FullLogs:
    """Finds logs and sends them on; so many at one time, and of one reader so many in a while.

    A log may be asked for by whoever may read, so its calls wait in the usual lane and are counted.
    """

    def __init__(
        self,
        providers: Providers,
        builds: CollectionStore,
        *,
        calling: Calling = freely,
        at_once: int = AT_ONCE,
        most_bytes: int = MOST_BYTES,
        most_seconds: float = MOST_SECONDS,
        allowance: Allowance | None = None,
        patience_seconds: float = _PATIENCE_SECONDS,
    ) -> None:
        self._providers = providers
        self._builds = builds
        self._calling = calling
        self._left = at_once
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._allowance = allowance or Allowance()
        self._patience_seconds = patience_seconds

    async def job(
        self, build_id: UUID, job_id: str, form: str, reader: str
    ) -> StreamingResponse | StepsAnswer:
        async with AsyncExitStack() as held:
            self._take_a_place(held)
            target, build, provider = await self._find(build_id)
            self._count(reader, provider)
            chunks = await self._open(held, provider, target, build, job_id)
            if form == "steps":
                return await self._steps(chunks, build_id, job_id, provider.name)
            return self._answer(self._text(_only(chunks), provider.name), held, provider)

    async def build(self, build_id: UUID, reader: str) -> StreamingResponse:
        """The logs of all its jobs one after the other, each below its name."""
        async with AsyncExitStack() as held:
            self._take_a_place(held)
            target, build, provider = await self._find(build_id)
            self._count(reader, provider)
            jobs = await self._jobs(provider, target, build)
            text = self._text(self._one_by_one(provider, target, build, jobs, reader), provider.name)
            return self._answer(text, held, provider)

    def _answer(
        self, text: AsyncGenerator[bytes, None], held: AsyncExitStack, provider: Provider
    ) -> StreamingResponse:
        return _Text(text, held.pop_all(), patience_seconds=self._patience_seconds, name=provider.name)

    # -- finding

    def _count(self, reader: str, provider: Provider) -> None:
        wait = self._allowance.take(reader)
        if wait:
            FULL_LOGS.labels(provider.name, "too_many").inc()
            raise HttpError(
                429,
                f"So many logs were asked for that the next may be had in {wait:.0f} s: each is read from the provider",
                kind="TooManyRequests",
                headers={"Retry-After": str(max(1, round(wait)))},
            )

    def _take_a_place(self, held: AsyncExitStack) -> None:
        if self._left <= 0:
            FULL_LOGS.labels("", "busy").inc()
            raise HttpError(
                503,
                "So many logs are being sent that there is no room for another; try again shortly",
                kind="Unavailable",
                headers={"Retry-After": "10"},
            )
        self._left -= 1
        held.callback(self._give_back)

    def _give_back(self) -> None:
        self._left += 1

    async def _find(self, build_id: UUID) -> tuple[Target, BuildRef, Provider]:
        found = await self._builds.find(build_id)
        provider = self._providers.get((found[0].provider, found[0].instance)) if found else None
        if found is None or provider is None:
            raise HttpError(
                404,
                f"The build {build_id} is not watched, or was last seen more than five weeks ago: its log is only "
                "at its provider",
                details={"build_id": str(build_id)},
            )
        return *found, provider

    async def _jobs(self, provider: Provider, target: Target, build: BuildRef) -> Sequence[JobObservedV1]:
        try:
            async with self._calling(provider):
                found = await provider.build(target, build.run_id, build.attempt)
                jobs = await provider.jobs(target, found.build) if isinstance(found, Found) else None
        except (PollFailedError, MustWaitError) as error:
            raise _refused(error, provider) from None
        if not isinstance(jobs, Jobs) or not jobs.jobs:
            raise HttpError(404, "The provider shows no jobs of this build (any more)")
        return jobs.jobs

    async def _open(
        self, held: AsyncExitStack, provider: Provider, target: Target, build: BuildRef, job_id: str
    ) -> AsyncIterator[bytes]:
        """The log's bytes; what can be refused is refused before the first one is sent."""
        try:
            async with asyncio.timeout(_FIRST_BYTE_SECONDS), self._calling(provider):
                return await held.enter_async_context(provider.log(target, build, job_id))
        except LogGoneError as error:
            raise HttpError(404, str(error), details={"job_id": job_id}) from None
        except (PollFailedError, MustWaitError, TimeoutError) as error:
            raise _refused(error, provider) from None

    # -- sending

    async def _one_by_one(
        self,
        provider: Provider,
        target: Target,
        build: BuildRef,
        jobs: Sequence[JobObservedV1],
        reader: str,
    ) -> AsyncGenerator[AsyncIterator[bytes] | str, None]:
        for number, job in enumerate(jobs):
            heading = Lines()
            named = [line.text for line in (*heading.feed(job.name.encode()), *heading.close())]
            yield ("\n" if number else "") + f"===== {' '.join(named)} ({job.job_id}, {job.state.value})\n"
            async with AsyncExitStack() as held:
                try:
                    self._count(reader, provider)
                    chunks = await self._open(held, provider, target, build, job.job_id)
                except HttpError as error:
                    yield f"({error.detail})\n"
                else:
                    yield chunks

    async def _text(
        self, parts: AsyncGenerator[AsyncIterator[bytes] | str, None], name: str
    ) -> AsyncGenerator[bytes, None]:
        outcome = "broken"
        try:
            async with aclosing(parts), asyncio.timeout(self._most_seconds):
                async for part in parts:
                    if isinstance(part, str):
                        yield part.encode()
                        continue
                    async with aclosing(self._clean(part)) as clean:
                        async for text in clean:
                            yield text
            outcome = "streamed"
        except (PollFailedError, MustWaitError) as error:
            yield f"\n[the log ends here: {error}]\n".encode()
        except TimeoutError:
            yield f"\n[the log ends here: {self._most_seconds:.0f} s are all that is waited for it]\n".encode()
        finally:
            FULL_LOGS.labels(name, outcome).inc()

    async def _clean(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
        lines, read = Lines(), 0
        ready: list[str] = []
        async for piece in small(chunks):
            ready += [_shown(line) for line in lines.feed(piece)]
            read += len(piece)
            if len(ready) >= _LINES_AT_ONCE:
                yield "".join(ready).encode()
                ready = []
            if read >= self._most_bytes:
                ready.append(f"[the log is cut here: {self._most_bytes:,} bytes of it are shown]\n")
                break
        else:
            ready += [_shown(line) for line in lines.close()]
        yield "".join(ready).encode()

    async def _steps(
        self, chunks: AsyncIterator[bytes], build_id: UUID, job_id: str, name: str
    ) -> StepsAnswer:
        reader, read = JobLog(), 0
        try:
            async with asyncio.timeout(self._most_seconds):
                async for piece in small(chunks):
                    reader.feed(piece)
                    read += len(piece)
                    if read >= self._most_bytes:
                        break
        except (PollFailedError, MustWaitError, TimeoutError) as error:
            FULL_LOGS.labels(name, "broken").inc()
            raise HttpError(
                502, f"The log could not be read to its end: {error or 'it took too long'}"
            ) from None
        lines = reader.close().lines
        FULL_LOGS.labels(name, "streamed").inc()
        return StepsAnswer(
            build_id=build_id,
            job_id=job_id,
            lines=lines,
            steps=[
                LogStepAnswer(
                    name=step.name,
                    depth=step.depth,
                    first_line=step.first_line,
                    last_line=step.last_line,
                    started_at=step.started_at,
                    finished_at=step.finished_at,
                    duration_seconds=step.duration_seconds,
                    failed=step.failed,
                )
                for step in reader.steps
            ],
        )


class _Text(StreamingResponse):
    """Closes what it holds also when nobody reads it to its end, or reads too slowly."""

    def __init__(
        self, text: AsyncGenerator[bytes, None], held: AsyncExitStack, *, patience_seconds: float, name: str
    ) -> None:
        super().__init__(
            text,
            media_type="text/plain; charset=utf-8",
            headers={
                "X-Content-Type-Options": "nosniff",
                "Content-Security-Policy": "default-src 'none'; sandbox",
                "Cache-Control": "no-store",
            },
        )
        self._text = text
        self._held = held
        self._patience_seconds = patience_seconds
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held, aclosing(self._text):
            try:
                await super().__call__(scope, receive, self._unless_slow(send))
            except _TooSlowError:
                # The answer stays without an end, so that the server breaks the connection off.
                FULL_LOGS.labels(self._name, "slow").inc()
                log.info("a log was read too slowly and ended", provider=self._name)

    def _unless_slow(self, send: Send) -> Send:
        waited, taken = 0.0, 0

        async def sending(message: Message) -> None:
            nonlocal waited, taken
            began = time.monotonic()
            patience = self._patience_seconds + taken / _LEAST_BYTES_PER_SECOND
            timer = asyncio.timeout(max(0.0, patience - waited))
            try:
                async with timer:
                    await send(message)
            except TimeoutError:
                if timer.expired():
                    raise _TooSlowError from None
                raise
            waited += time.monotonic() - began
            taken += len(message.get("body", b""))

        return sending


class _TooSlowError(Exception):
    """Not an OSError, as a `TimeoutError` is: that would pass for a reader who has gone."""


def router(logs: FullLogs, pool: Pool, *, reads_need_key: bool) -> APIRouter:
    """`pool` checks keys."""
    guarded = [Depends(requires("read", pool))] if reads_need_key else []
    routes = APIRouter(prefix="/api/v1/builds", tags=["logs"], dependencies=guarded)
    told: dict[int | str, dict[str, Any]] = {
        404: {"description": "No such build is watched, or its provider no longer has the log"},
        502: {"description": "The provider did not answer as it should"},
        429: {"description": "Too many of one reader, or altogether, in ten minutes; see Retry-After"},
        503: {"description": "Too many at once, or the provider's rate limit; see Retry-After"},
    }

    @routes.get(
        "/{build_id}/jobs/{job_id}/log",
        response_model=None,
        responses={200: {"model": StepsAnswer, "content": {"text/plain": {}}}, **told},
    )
    async def job_log(
        request: Request, build_id: UUID, job_id: JobId, form: Form = "text"
    ) -> StreamingResponse | StepsAnswer:
        """The whole log of one job, secrets masked, as it comes from the provider; or its steps."""
        return await logs.job(build_id, job_id, form, reader_of(request, by_key=reads_need_key))

    @routes.get(
        "/{build_id}/log", response_model=None, responses={200: {"content": {"text/plain": {}}}, **told}
    )
    async def build_log(request: Request, build_id: UUID) -> StreamingResponse:
        """The logs of all jobs of a build, one after the other."""
        return await logs.build(build_id, reader_of(request, by_key=reads_need_key))

    return routes


def _refused(error: Exception, provider: Provider) -> HttpError:
    FULL_LOGS.labels(provider.name, "refused").inc()
    if isinstance(error, MustWaitError):
        after = {"Retry-After": str(max(1, round(error.seconds)))}
        return HttpError(
            503, f"{provider.name} may not be asked now: {error}", kind="Unavailable", headers=after
        )
    if isinstance(error, PollFailedError):
        if error.reason == "not_found":
            return HttpError(404, error.detail)
        return HttpError(502, error.detail, kind="BadGateway", details={"reason": error.reason})
    return HttpError(502, f"{provider.name} did not answer in {_FIRST_BYTE_SECONDS:.0f} s", kind="BadGateway")


def _shown(line: Line) -> str:
    return f"{line.text} […]\n" if line.is_cut else f"{line.text}\n"


async def _only(chunks: AsyncIterator[bytes]) -> AsyncGenerator[AsyncIterator[bytes] | str, None]:
    yield chunks
