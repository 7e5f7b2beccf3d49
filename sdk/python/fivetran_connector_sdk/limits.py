"""Named limits of the Python side; those of the link (batch and queue bytes) live in the native module."""

STATE_BYTES_MAX = 10 * 1024 * 1024
STATE_BYTES_WARNING = 8 * 1024 * 1024
TRACE_CHARACTERS_MAX = 64 * 1024

# Files beside rows (FileUpload). The job checks size and path again.
FILE_BYTES_MAX = 5 * 1024**3
FILE_PATH_BYTES_MAX = 1024
FILE_NAME_BYTES_MAX = 255
FILE_CHUNK_BYTES = 2 * 1024 * 1024
FILE_READ_SECONDS_MAX = 300
# More threads than this wait for one another.
FILES_AT_ONCE_MAX = 16
