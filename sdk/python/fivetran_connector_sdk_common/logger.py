"""Logging for connectors. Under a host: one JSON object per line on stdout, which the job reads, bounds and keeps. In any
other process, such as a developer's own tests: plain lines.
"""

import datetime
import enum
import json
import sys
import traceback

LEVEL_WIDTH = 8
INDENT = " " * 33


class Level(enum.IntEnum):
    DEBUG = 1
    FINE = 2
    INFO = 3
    WARNING = 4
    ERROR = 5
    SEVERE = 6
    CRITICAL = 7


class Logging:
    """Static functions by level. `LOG_LEVEL` is public: user code assigns it, None counting as INFO."""

    Level = Level
    LOG_LEVEL = Level.INFO
    # Debug and fine lines exist only in a developer's debug run, whatever the level says.
    _debug_run = False
    # The host reads lines of JSON; a terminal does not want them.
    _json_lines = False

    @staticmethod
    def debug(message):
        Logging._emit_debug(Level.DEBUG, message)

    @staticmethod
    def fine(message):
        Logging._emit_debug(Level.FINE, message)

    @staticmethod
    def info(message):
        Logging._emit(Level.INFO, message)

    @staticmethod
    def warning(message):
        Logging._emit(Level.WARNING, message)

    @staticmethod
    def error(message, exception=None):
        Logging._emit(Level.ERROR, message, exception)

    @staticmethod
    def severe(message, exception=None):
        Logging._emit(Level.SEVERE, message, exception)

    @staticmethod
    def critical(message, exception=None):
        Logging._emit(Level.CRITICAL, message, exception)

    @staticmethod
    def _emit_debug(level, message):
        if Logging._debug_run:
            Logging._emit(level, message)

    @staticmethod
    def _emit(level, message, exception=None):
        if level < (Logging.LOG_LEVEL or Level.INFO):
            return
        text = str(message)
        if exception is not None:
            text = f"{text}\n{_described(exception)}"
        Logging._write(level, text, "connector_sdk")

    @staticmethod
    def _write(level, text, origin):
        if Logging._json_lines:
            line = json.dumps({"level": level.name, "message": text, "message_origin": origin})
        else:
            line = _plain(level, text, "connector" if origin == "connector_sdk" else "inshore")
        # One write per line, so lines of several threads never interleave.
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _described(exception):
    if not isinstance(exception, BaseException):
        return str(exception)
    lines = traceback.format_exception(type(exception), exception, exception.__traceback__, limit=1)
    return "".join(lines).rstrip("\n")


def _plain(level, text, origin):
    """The shape of a line of `inshore debug`."""
    clock = datetime.datetime.now().strftime("%H:%M:%S.%f")[:-3]
    first, *more = text.splitlines() or [""]
    lines = [f"{clock} {level.name:<{LEVEL_WIDTH}} {origin:<9} {first}", *(INDENT + line for line in more)]
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return "\n".join(lines).encode(encoding, "backslashreplace").decode(encoding)
