"""Files that travel beside a row: the description of one, the checks that every operation makes of it, and its way to the
job in chunks.

A stream is read in a thread of its own, so that a read that never returns ends in TimeoutError in the caller's thread. The
native module calls `send`, then emits the row with what `send` returned; a file whose row fails is never published.
"""

import contextvars
import dataclasses
import itertools
import queue
import threading
import typing

from fivetran_connector_sdk_common.constants import FIVETRAN_FILE_PATH_COLUMN
from inshore_encoder import encoder as _inshore

from . import hosting, limits

BYTES_MAX = 2**63 - 1

_numbers = itertools.count(1)
_at_once = threading.BoundedSemaphore(limits.FILES_AT_ONCE_MAX)
_reading = threading.local()
_told = threading.Event()


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


def send(file):
    """Checks `file`, sends its bytes and returns the upload's number and its path. Raises what the stream raises."""
    _admit(file)
    upload = next(_numbers)
    with _Slot():
        try:
            _send(upload, file)
        except BaseException:
            _inshore.file_abandon(upload)
            raise
    return upload, file.path


def named(data, path):
    """The row with the column that names its file."""
    row = dict(data.items())
    if FIVETRAN_FILE_PATH_COLUMN in row and not _told.is_set():
        _told.set()
        message = f"a row's own {FIVETRAN_FILE_PATH_COLUMN} gives way to the path of its file"
        _inshore.warning(message, "columns")
    row[FIVETRAN_FILE_PATH_COLUMN] = path
    return row


def _send(upload, file):
    expected, sent = file.expected_bytes, 0
    for chunk in _chunks(file.stream):
        sent += len(chunk)
        if sent > limits.FILE_BYTES_MAX:
            raise _too_large(f"more than {limits.FILE_BYTES_MAX}")
        if expected is not None and sent > expected:
            raise _refused(ValueError(f"the stream of a FileUpload holds more than the {expected} bytes it was to have"))
        for start in range(0, len(chunk), limits.FILE_CHUNK_BYTES):
            _inshore.file_chunk(upload, chunk[start : start + limits.FILE_CHUNK_BYTES])
    if expected is not None and sent != expected:
        raise _refused(ValueError(f"the stream of a FileUpload ended after {sent} bytes; {expected} were expected"))


def _chunks(stream):
    """The stream's content, as bytes; each read has its time."""
    wanted, answers = queue.SimpleQueue(), queue.SimpleQueue()
    reader = threading.Thread(
        target=contextvars.copy_context().run, args=(_read, stream, wanted, answers), name="inshore-file", daemon=True
    )
    reader.start()
    try:
        while True:
            wanted.put(True)
            try:
                chunk, error = answers.get(timeout=limits.FILE_READ_SECONDS_MAX)
            except queue.Empty:
                message = f"a read of the stream of a FileUpload took more than {limits.FILE_READ_SECONDS_MAX} seconds"
                raise _refused(TimeoutError(message)) from None
            if error is not None:
                raise error
            if not chunk:
                return
            yield chunk
    finally:
        wanted.put(False)


def _read(stream, wanted, answers):
    """The reading thread: one chunk per wish, so that no more than one waits in memory."""
    _reading.here = True
    while wanted.get():
        try:
            answers.put((_bytes(stream.read(limits.FILE_CHUNK_BYTES)), None))
        except BaseException as error:  # belongs to the caller's thread
            answers.put((None, error))


def _bytes(chunk):
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, (bytearray, memoryview)):
        return bytes(chunk)
    kind = type(chunk).__name__
    raise _refused(TypeError(f"the stream of a FileUpload must return bytes, not {kind}: open the file in binary mode"))


class _Slot:
    """One of the uploads that may run at once. A stream that uploads files itself needs none: it would wait for its own."""

    def __enter__(self):
        self._held = not getattr(_reading, "here", False)
        if self._held:
            _at_once.acquire()

    def __exit__(self, *failure):
        if self._held:
            _at_once.release()


def _admit(file):
    """Checks `file` as every operation does."""
    if not isinstance(file, FileUpload):
        raise TypeError(f"file must be a FileUpload or None, not {type(file).__name__}")
    _check_path(file.path)
    if not isinstance(file.stream, ByteStream) or not callable(file.stream.read):
        raise ValueError("the stream of a FileUpload needs a read(size) method")
    _check_size(file.expected_bytes)
    if not hosting.takes_files:
        raise FilesUnsupported("this destination stores no files; leave out file=, or keep the content in a BINARY column")
    if file.expected_bytes is not None and file.expected_bytes > limits.FILE_BYTES_MAX:
        raise _too_large(file.expected_bytes)


def _check_path(path):
    if not isinstance(path, str) or not path:
        raise ValueError("the path of a FileUpload must be a non-blank str")
    segments = path.split("/")
    problems = {
        "holds a NUL character": "\0" in path,
        "holds a control character": any(character < " " or "\x7f" <= character <= "\x9f" for character in path),
        "ends in /": path.endswith("/"),
        "holds //": "//" in path,
        "is absolute": path.startswith("/"),
        "leaves its folder by ..": ".." in segments,
        "holds the segment .": "." in segments,
        f"is longer than {limits.FILE_PATH_BYTES_MAX} bytes": len(path.encode()) > limits.FILE_PATH_BYTES_MAX,
        f"has a segment longer than {limits.FILE_NAME_BYTES_MAX} bytes": any(
            len(segment.encode()) > limits.FILE_NAME_BYTES_MAX for segment in segments
        ),
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


def _too_large(size):
    error = ValueError(f"a file of {size} bytes passes the limit of {limits.FILE_BYTES_MAX}")
    error.inshore_kind = "file_size"
    return error


def _refused(error):
    error.inshore_kind = "file_refused"
    return error
