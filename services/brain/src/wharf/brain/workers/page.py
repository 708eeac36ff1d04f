"""What the writing process has published, in a page of memory that all processes of a node share.

The first word names the newest state that clients may be shown; every state of an LMDB store has such a word, and a
later state a greater one. Word n + 1 is worker n's: the last published word that it has acted upon.

Invariant: the first word is written after its state is durable and shown by the writer, and before anybody learns of
it from there; so a reader that shows the state of the word it finds shows everything acknowledged before it looked.
Words are aligned and written by one process each, so none is ever seen half written.
"""

from __future__ import annotations

import mmap
import os
from typing import Final

GENERATION_BITS: Final = 24  # defragmentations
NUMBER_BITS: Final = 40  # transactions of one file: 30 years of a thousand batches a second
HALTED: Final = (1 << 64) - 1
"""Nothing will be published any more, and nothing that was may be shown."""
SIZE: Final = 4096
MOST_WORKERS: Final = SIZE // 8 - 1


def word_of(generation: int, number: int) -> int:
    """The word of the state that transaction `number` left in file `generation`; ValueError beyond what fits."""
    if not 0 <= generation < (1 << GENERATION_BITS) - 1 or not 0 <= number < 1 << NUMBER_BITS:
        raise ValueError(f"generation {generation}, transaction {number}: too many for one store, restore a snapshot")
    return generation << NUMBER_BITS | number


def generation_of(word: int) -> int:
    return word >> NUMBER_BITS


class Page:
    """The page behind a descriptor that `make_page` made, in this process."""

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, SIZE)
        self._words = memoryview(self._map).cast("Q")
        self._closed = False

    @property
    def published(self) -> int:
        return self._words[0]

    @published.setter
    def published(self, word: int) -> None:
        self._words[0] = word

    def seen(self, worker: int) -> int:
        """What `worker` has acted upon, 0: nothing yet."""
        return self._words[worker + 1]

    def note(self, worker: int, word: int) -> None:
        self._words[worker + 1] = word

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._words.release()
            self._map.close()


def make_page() -> int:
    """A descriptor of a page of zeros; the caller closes it."""
    fd = os.memfd_create("published", os.MFD_CLOEXEC)
    os.ftruncate(fd, SIZE)
    return fd
