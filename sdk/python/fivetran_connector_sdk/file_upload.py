"""Files that travel beside a row: the description of one, and the check that every operation makes of it.

This release has no place for their bytes at the destination, so an operation with a valid `file=` is refused rather than
losing them.
"""

import dataclasses
import typing

BYTES_MAX = 2**63 - 1


@typing.runtime_checkable
class ByteStream(typing.Protocol):
    """Whatever has `read(size)` and returns bytes: an open file, a response's body, io.BytesIO."""

    def read(self, size: int = -1) -> bytes: ...


@dataclasses.dataclass(frozen=True)
class FileUpload:
    """A file for one row: where it shall lie, and its bytes."""

    path: str
    stream: ByteStream
    expected_bytes: typing.Optional[int] = None

    def __post_init__(self):
        if isinstance(self.path, str):
            object.__setattr__(self, "path", self.path.strip())


class FilesUnsupported(RuntimeError):
    """The destination has no place for files."""

    inshore_kind = "file"


def admit(file):
    """Checks `file` as an operation does, then says that it cannot be taken."""
    if not isinstance(file, FileUpload):
        raise TypeError(f"file must be a FileUpload or None, not {type(file).__name__}")
    _check_path(file.path)
    if not isinstance(file.stream, ByteStream) or not callable(file.stream.read):
        raise ValueError("the stream of a FileUpload needs a read(size) method")
    _check_size(file.expected_bytes)
    raise FilesUnsupported("this destination stores no files; leave out file=, or keep the content in a BINARY column")


def _check_path(path):
    if not isinstance(path, str) or not path:
        raise ValueError("the path of a FileUpload must be a non-blank str")
    problems = {
        "holds a NUL character": "\0" in path,
        "ends in /": path.endswith("/"),
        "holds //": "//" in path,
        "is absolute": path.startswith("/"),
        "leaves its folder by ..": ".." in path.split("/"),
    }
    for problem, found in problems.items():
        if found:
            raise ValueError(f"the path of a FileUpload {problem}")


def _check_size(size):
    if size is None:
        return
    # A bool is an int to Python, and never a size.
    if type(size) is not int or not 0 <= size <= BYTES_MAX:
        raise ValueError(f"expected_bytes of a FileUpload must be a whole number from 0 to {BYTES_MAX}")
