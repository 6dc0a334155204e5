"""The same work on many items by several processes, of which one may die without costing the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Generic, TypeVar

Setup = TypeVar("Setup")
Item = TypeVar("Item")
Result = TypeVar("Result")

# The libraries read these when they load, before any code of a worker could set them.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Killed:
    """An item whose process was ended from outside, by this signal."""

    signal: int


def worked(
    start: Callable[[Setup], Callable[[Item], Result]], setup: Setup, items: Sequence[Item], *, jobs: int
) -> Iterator[tuple[int, Result | Killed]]:
    """`start(setup)(item)` for every item, in the order of completion; each process calls `start` once.

    The processes share the threads that one would have had. They are spawned, which is safe beside threads and GPUs, so
    a script must hold its calls under `if __name__ == "__main__":`. They end with this process, however it ends, and
    when the iterator is closed.

    Args:
        start: at the top of a module.
        setup: what all items share.
        items: to be worked on; sent one at a time to whoever is free.
        jobs: how many processes.

    Yields:
        The index of an item, and its result or that its process was killed.

    Raises:
        RuntimeError: a worker failed of itself; it has printed why.
    """
    context = get_context("spawn")
    todo = deque(range(len(items)))
    threads = max(1, threads_in_all() // jobs)
    workers: list[_Worker] = []
    try:
        while todo or workers:
            while todo and len(workers) < jobs:
                with _environment(threads):
                    workers.append(_Worker(context, start, setup))
                workers[-1].take(todo[0], items[todo.popleft()])
            for ready in connection.wait([worker.pipe for worker in workers]):
                worker = next(one for one in workers if one.pipe is ready)
                yield worker.index, worker.answer()
                if worker.is_alive and todo:
                    worker.take(todo[0], items[todo.popleft()])
                else:
                    worker.end()
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.end()


def threads_in_all() -> int:
    """How many threads this process may compute on: what OMP_NUM_THREADS says, else the cores it may run on."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    if said.isdigit() and int(said) > 0:
        return int(said)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker(Generic[Item, Result]):
    """A process, the pipe to it, and the item that it is at."""

    def __init__(self, context: SpawnContext, start: Callable[[Any], Callable[[Item], Result]], setup: Any) -> None:
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, os.getpid(), start, setup), daemon=True
        )
        self.process.start()
        theirs.close()
        self.index = -1
        self.is_alive = True

    def take(self, index: int, item: Item) -> None:
        self.index = index
        self.pipe.send(item)

    def answer(self) -> Result | Killed:
        try:
            answer: Result = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            self.is_alive = False
            self.process.join()
            code = self.process.exitcode or 0
            if code >= 0:
                raise RuntimeError("a worker process failed; its message stands above") from error
            return Killed(-code)
        return answer

    def end(self) -> None:
        self.pipe.close()
        if self.process.is_alive():
            self.process.terminate()
        self.process.join()


def _serve(pipe: connection.Connection, parent: int, start: Callable[[Any], Callable[[Any], Any]], setup: Any) -> None:
    """The life of a worker."""
    # An interrupt reaches all processes of a terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    work = start(setup)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(work(item))


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even by SIGKILL."""
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


@contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Processes started within compute on so many threads."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
