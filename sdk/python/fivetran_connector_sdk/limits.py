"""Named limits of the Python side; those of the link (batch and queue bytes) live in the native module."""

STATE_BYTES_MAX = 10 * 1024 * 1024
STATE_BYTES_WARNING = 8 * 1024 * 1024
TRACE_CHARACTERS_MAX = 64 * 1024
