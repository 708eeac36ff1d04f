from collections.abc import Container
from mmap import mmap

class BadPage(ValueError): ...

def check_pages(
    data: mmap | bytes,
    page_size: int,
    pages: int,
    free_record: bytes,
    main_record: bytes,
    whole: Container[bytes] | None,
) -> None: ...
