"""A well-behaved client beside the abuse, and a look at the server's memory with its every round."""

from __future__ import annotations

import threading

from faults.kit import CALL_SECONDS, Client, memory


class Canary(threading.Thread):
    """Puts, gets and compares until ended. `failure` is what went wrong, `peak` the most memory seen."""

    def __init__(self, where: str, pid: int) -> None:
        super().__init__(name="canary")
        self.failure: BaseException | None = None
        self.peak = memory(pid)
        self._where = where
        self._pid = pid
        self._over = threading.Event()
        self._rounds = threading.Semaphore(0)

    def run(self) -> None:
        try:
            with Client(self._where) as client:
                number = 0
                while not self._over.is_set():
                    number += 1
                    value = b"%d" % number
                    revision = client.put(b"canary", value)
                    kv = client.get(b"canary")
                    assert kv is not None
                    assert (kv.value, kv.mod_revision) == (value, revision)
                    self.peak = max(self.peak, memory(self._pid))
                    self._rounds.release()
                    self._over.wait(0.01)  # it shares the machine with what it watches
        except BaseException as error:
            self.failure = error

    def sing(self, rounds: int = 3) -> None:
        """Return when it was served so many times from now on."""
        while self._rounds.acquire(blocking=False):
            pass
        for _ in range(rounds):
            assert self._rounds.acquire(timeout=2 * CALL_SECONDS), f"the canary is silent: {self.failure}"

    def end(self) -> None:
        self._over.set()
        self.join()
