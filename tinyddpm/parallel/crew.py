"""A crew: a fixed number of workers for one kind of work, which is done again and again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

TaskT_contra = TypeVar("TaskT_contra", contravariant=True)
ResultT_co = TypeVar("ResultT_co", covariant=True)


class Crew(Protocol[TaskT_contra, ResultT_co]):
    """What ``Workers.crew`` returns."""

    def run(self, tasks: Sequence[TaskT_contra], commit: Callable[[int, ResultT_co], None]) -> None:
        """Do the work on each of ``tasks``, in parallel, and ``commit(index, result)`` in order.

        With W workers, task i is begun after the result of task i − W was committed. An
        exception, of the work or of a commit, is raised in its turn, and no task is begun after.
        """
        ...
