"""The courses that are on their way, each in a task of its own.

A mistake of ours in one of them ends the agent: the next start puts everything back.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Final

from agent.control.course import Course
from agent.control.life import Control
from core.errors import StoreError

log = logging.getLogger(__name__)

MAX_CONTROLS: Final = 256
MAX_TASKS: Final = 320
"""Decisions under way and courses together."""


class Courses:
    """What runs, by the issuer's entity and the command's id."""

    def __init__(self) -> None:
        self._courses: dict[tuple[str, str], Course] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._closed = False

    @property
    def controls(self) -> list[Control]:
        """Controls that are not ended."""
        return [course.control for course in self._courses.values() if not course.control.ended]

    @property
    def full(self) -> bool:
        """Whether no more is taken."""
        return self._closed or len(self._courses) >= MAX_CONTROLS or len(self._tasks) >= MAX_TASKS

    def close(self) -> None:
        """Begin nothing any more: the gateway stops."""
        self._closed = True
        for course in self.all():
            course.stay()

    def all(self) -> list[Course]:
        """Return the courses on their way."""
        return list(self._courses.values())

    def at(self, device: str, point: str) -> list[Course]:
        """Return the courses of one point."""
        return [
            course
            for course in self._courses.values()
            if (course.control.device, course.control.point) == (device, point)
        ]

    def get(self, entity: str, id_: str) -> Course | None:
        """Return a course by its command, None when it is over or never was."""
        return self._courses.get((entity, id_))

    def start(self, course: Course, way: Coroutine[None, None, None]) -> None:
        """Let a course go its way."""
        key = course.control.key
        self._courses[key] = course
        if self._closed:
            course.stay()
        self.spawn(f"control {key[0]}/{key[1]}", self._to_its_end(key, way))

    async def _to_its_end(self, key: tuple[str, str], way: Coroutine[None, None, None]) -> None:
        try:
            await way
        finally:
            self._courses.pop(key, None)

    def spawn(self, name: str, way: Coroutine[None, None, None]) -> None:
        """Run something beside the rest."""
        assert self._group is not None, "nothing runs outside of tasks()"
        task = self._group.create_task(_safe(name, way), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.asynccontextmanager
    async def tasks(self) -> AsyncIterator[None]:
        """Own everything that runs for as long as the block runs; the journal says from where to go on."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                yield
            finally:
                for task in list(self._tasks):
                    task.cancel()


async def _safe(name: str, way: Coroutine[None, None, None]) -> None:
    try:
        await way
    except StoreError as error:
        # The journal cannot be written: the next start finds the last step that could be.
        log.error("%s stopped: %s", name, error)
