"""Answer the next images while the present exam is put together and written."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from screening.exam import Exam, Image
from screening.model.bundle import Bundle
from screening.scoring import ImageAnswer, answer


class ReadAhead:
    """Decodes, prepares and scores the images of exams in the order in which they will be asked for, a few ahead.

    Threads suffice: decoders, resampling and the network leave the interpreter's lock alone. Each image has one
    thread to itself; that keeps all cores busy without threads that wait for each other. `depth` bounds how many
    answers wait, and so the memory: it does not grow with the batch. Use as a context manager; leaving it drops what
    waits.
    """

    def __init__(self, exams: Iterator[Exam], bundle: Bundle, workers: int, half: bool, depth: int = 4) -> None:
        self._images = (image for exam in exams for image in exam.images)
        self._bundle, self._half = bundle, half
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read-ahead")
        self._waiting: deque[tuple[Image, Future[ImageAnswer]]] = deque()
        self._depth = max(depth, workers)

    def __enter__(self) -> ReadAhead:
        self._fill()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __call__(self, image: Image) -> ImageAnswer:
        """The image's answer; images that the caller passed over are dropped."""
        while self._waiting:
            waiting, future = self._waiting.popleft()
            self._fill()
            if waiting == image:
                return future.result()
        return answer(image, self._bundle, half=self._half)

    def _fill(self) -> None:
        while len(self._waiting) < self._depth:
            image = next(self._images, None)
            if image is None:
                return
            self._waiting.append((image, self._pool.submit(answer, image, self._bundle, half=self._half)))
