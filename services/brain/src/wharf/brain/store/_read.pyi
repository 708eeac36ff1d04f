from wharf.brain.engine._lmdb import ReadTxn

def page_at(
    snapshot: ReadTxn,
    start: bytes,
    end: bytes | None,
    then_start: bytes,
    then_end: bytes | None,
    revision: int,
    latest: bool,
    limit: int,
    max_bytes: int,
    keys_only: bool,
    tag: int,
    keep: bool,
) -> tuple[bytes, int, int, bytes | None, bool] | None: ...
def live_keys(
    snapshot: ReadTxn, start: bytes, limit: int
) -> tuple[list[bytes], list[tuple[int, bytes]], bytes | None]: ...
def log_changes(
    snapshot: ReadTxn, after: int, limit: int
) -> tuple[list[tuple[int, bytes, bool]], int | None]: ...
