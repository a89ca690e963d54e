"""Decode and prepare the next images while the network runs on the present one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from screening.exam import Exam, Image
from screening.imaging.load import LoadedImage, load_image
from screening.imaging.prepare import Preparation


class ReadAhead:
    """Loads the images of exams in the order in which they will be asked for, a few ahead.

    Threads suffice: decoders and resampling leave the interpreter's lock alone. `depth` bounds how many loaded images
    wait, and so the memory: it does not grow with the batch. Use as a context manager; leaving it drops what waits.
    """

    def __init__(self, exams: Iterator[Exam], preparation: Preparation, workers: int, depth: int = 4) -> None:
        self._images = (image for exam in exams for image in exam.images)
        self._preparation = preparation
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
        self._waiting: deque[tuple[Image, Future[LoadedImage]]] = deque()
        self._depth = max(depth, workers)

    def __enter__(self) -> ReadAhead:
        self._fill()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, image: Image) -> LoadedImage:
        """The loaded image; images that the caller passed over are dropped."""
        while self._waiting:
            waiting, future = self._waiting.popleft()
            self._fill()
            if waiting == image:
                return future.result()
        return load_image(image, self._preparation)

    def _fill(self) -> None:
        while len(self._waiting) < self._depth:
            image = next(self._images, None)
            if image is None:
                return
            self._waiting.append((image, self._pool.submit(load_image, image, self._preparation)))
