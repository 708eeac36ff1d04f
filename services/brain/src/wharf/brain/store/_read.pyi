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
