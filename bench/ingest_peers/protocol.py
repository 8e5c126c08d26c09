"""How the benchmark and a peer talk: "run N" on stdin, "done" on stdout, after "ready"."""

import asyncio
import sys
from collections.abc import Awaitable, Callable


async def serve(run: Callable[[int], Awaitable[None]]) -> None:
    """Answer every "run N" with "done" once `run(N)` has returned, until stdin ends."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while line := await asyncio.to_thread(sys.stdin.readline):
        await run(int(line.split()[1]))
        sys.stdout.write("done\n")
        sys.stdout.flush()
