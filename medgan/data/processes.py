"""The same work on many items, in one process or several."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from medgan.errors import MedganError

Item = TypeVar("Item")
Result = TypeVar("Result")


def mapped(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    jobs: int = 1,
    finished: Callable[[int], None] | None = None,
) -> list[Result]:
    """`[function(item) for item in items]`, by `jobs` processes.

    Processes are spawned, which is safe beside threads and GPUs, so `function` must be defined at the top of a module,
    and a script that asks for more than one job must hold its calls under `if __name__ == "__main__":`.

    Args:
        function: does one item. An exception it raises ends the whole work and reaches the caller.
        items: what to do.
        jobs: how many processes; 1 works in this one.
        finished: called in this process with an item's index when it is done, in the order of completion.

    Raises:
        MedganError: `jobs` is less than 1, or a worker process was killed.
    """
    if jobs < 1:
        raise MedganError(f"the number of jobs must be at least 1, it is {jobs}")
    if jobs == 1 or len(items) < 2:
        results = []
        for index, item in enumerate(items):
            results.append(function(item))
            if finished is not None:
                finished(index)
        return results
    return _mapped_by_processes(function, items, min(jobs, len(items)), finished)


def counter(
    progress: Callable[[int, int, str], None] | None, names: Sequence[str], before: int = 0, total: int | None = None
) -> Callable[[int], None]:
    """What `mapped` may call as items finish, to report `progress(done, total, name)`.

    Args:
        progress: called, if any.
        names: of the items.
        before: how many of the whole were done already.
        total: how many there are in all, the number of names when None.
    """
    count = itertools.count(before + 1)

    def finished(index: int) -> None:
        if progress is not None:
            progress(next(count), len(names) if total is None else total, names[index])

    return finished


def _mapped_by_processes(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, finished: Callable[[int], None] | None
) -> list[Result]:
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    # An interrupt reaches all processes of a terminal; this one alone answers, so that it is answered once and in
    # order.
    ignored = (signal.SIGINT, signal.SIG_IGN)
    executor = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=signal.signal, initargs=ignored)
    try:
        with _one_thread_each():
            futures = {executor.submit(function, item): index for index, item in enumerate(items)}
        results: dict[int, Result] = {}
        for future in as_completed(futures):
            index = futures[future]
            results[index] = future.result()
            if finished is not None:
                finished(index)
    except BrokenProcessPool as error:
        raise MedganError(
            f"a worker process ended abruptly, probably for lack of memory ({jobs} jobs)", hint="Use fewer jobs."
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return [results[index] for index in range(len(items))]


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Processes started within compute on one thread; linear algebra on all cores in each is slower than serial work.

    The libraries read these variables when they load, before any code of a worker could set them.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
