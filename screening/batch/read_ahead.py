"""Answer the images of the present and the next exam on some threads, while the present exam is put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from screening.exam import Image

Answer = TypeVar("Answer")


class ReadAhead(Generic[Answer]):
    """Calls `work` for images in the order in which they will be asked for, before they are.

    Threads suffice: decoders, resampling and the network leave the interpreter's lock alone. Each image has one
    thread to itself; that keeps all cores busy without threads that wait for each other.
    """

    def __init__(self, work: Callable[[Image], Answer], threads: int) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="read-ahead")
        self._waiting: dict[str, tuple[Image, Future[Answer]]] = {}

    def expect(self, images: Iterable[Image]) -> None:
        """Begin with these images, in this order; what waits and is not among them is dropped."""
        waiting, self._waiting = self._waiting, {}
        for image in images:
            found = waiting.pop(image.image_id, None)
            if found is None or found[0] != image:
                found = image, self._pool.submit(self._work, image)
            self._waiting[image.image_id] = found
        for _, dropped in waiting.values():
            dropped.cancel()

    def __call__(self, image: Image) -> Answer:
        """The answer to an image, at once for one that is expected and ready. Raises what `work` raises."""
        found = self._waiting.pop(image.image_id, None)
        return found[1].result() if found is not None and found[0] == image else self._work(image)

    def close(self) -> None:
        """Drop what waits, and wait for what is being worked on."""
        self._pool.shutdown(wait=True, cancel_futures=True)
