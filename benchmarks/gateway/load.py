"""h2load: what to ask for, and what it says was answered. It costs little, so one core feeds it and the upstream."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gateway.subjects import HOST, LOAD_CORE, pinned
from benchmarks.gateway.upstream import CIPHER, SIZES

_PATIENCE = 60.0


class NotAnsweredError(RuntimeError):
    """Something else than the answers that were asked for."""


@dataclass(frozen=True, slots=True)
class Load:
    """How requests come."""

    version: int  # of HTTP: 1 or 2
    clients: int  # connections
    streams: int  # requests under way on each; pipelined over HTTP/1.1
    path: str


@dataclass(frozen=True, slots=True)
class Answered:
    requests: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from when a request was sent to the end of its answer."""

    requests: int
    p50: float
    p99: float
    worst: float


def _words(endpoint: str, load: Load) -> list[str]:
    url = f"https://{HOST}:{endpoint.rpartition(':')[2]}{load.path}"
    words = ["h2load", f"--clients={load.clients}", f"--max-concurrent-streams={load.streams}"]
    words += [f"--connect-to={endpoint}", f"--tls13-ciphers={CIPHER}", *(["--h1"] if load.version == 1 else [])]
    return pinned(LOAD_CORE, [*words, url])


def _run(words: list[str], load: Load, seconds: float) -> Answered:
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds + _PATIENCE, check=False)
    told = done.stdout
    requests = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", told)
    codes = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", told)
    size = re.search(r"\((\d+)\) data", told)
    if requests is None or codes is None or size is None:
        raise NotAnsweredError(f"h2load says something new:\n{told}{done.stderr}")
    answered, right, failed, broken = map(int, requests.groups())
    # h2load learns an HTTP/1.1 status with its reason phrase, and counts an answer without one (haproxy's) as failed.
    unread = load.version == 1 and right == 0
    if not answered or broken or (failed and not unread) or any(int(codes[other]) for other in (2, 3, 4)):
        raise NotAnsweredError(f"not all answers are right:\n{told}{done.stderr}")
    if int(size[1]) < answered * SIZES[load.path]:
        raise NotAnsweredError(f"answers are too short:\n{told}")
    return Answered(answered, seconds)


def as_many_as_possible(endpoint: str, load: Load, seconds: float) -> Answered:
    """A closed loop: the next request goes out when one is answered."""
    words = _words(endpoint, load)
    return _run([*words[:-1], f"--duration={seconds:g}", words[-1]], load, seconds)


def at_a_rate(endpoint: str, load: Load, per_second: int, seconds: float, skipped: float) -> Latency:
    """An open loop: requests go out on time whatever has been answered. The first `skipped` seconds do not count."""
    each = per_second / load.clients
    count = round(per_second * seconds)
    words = _words(endpoint, load)
    with tempfile.NamedTemporaryFile(prefix="h2load-", suffix=".log") as log:
        rate = [f"--rps={each:g}", f"--requests={count}", f"--log-file={log.name}"]
        _run([*words[:-1], *rate, words[-1]], load, seconds)
        return _latency(Path(log.name).read_text(), skipped)


def _latency(log: str, skipped: float) -> Latency:
    """Lines of start (µs since the epoch), status, time taken (µs)."""
    rows = [line.split("\t") for line in log.splitlines()]
    begin = min(int(row[0]) for row in rows)
    times = sorted(int(row[2]) for row in rows if int(row[0]) - begin >= skipped * 1e6)
    if not times:
        raise NotAnsweredError("the run was shorter than what is skipped")

    def quantile(share: float) -> float:
        return times[min(int(share * len(times)), len(times) - 1)] / 1e3

    return Latency(len(times), quantile(0.5), quantile(0.99), times[-1] / 1e3)
