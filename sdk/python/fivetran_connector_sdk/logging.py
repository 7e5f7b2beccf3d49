"""Logging for connectors: one JSON object per line on stdout, which the job reads, bounds and keeps on its host."""

import enum
import json
import sys
import traceback


class Level(enum.IntEnum):
    DEBUG = 1
    FINE = 2
    INFO = 3
    WARNING = 4
    ERROR = 5
    SEVERE = 6
    CRITICAL = 7


class Logging:
    """Static functions by level. `LOG_LEVEL` is public: user code assigns it."""

    Level = Level
    LOG_LEVEL = Level.INFO
    # Debug and fine lines exist only in a developer's debug run, whatever the level says.
    _debug_run = False

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
        if level < Logging.LOG_LEVEL:
            return
        text = str(message)
        if exception is not None:
            lines = traceback.format_exception(type(exception), exception, exception.__traceback__, limit=1)
            text = f"{text}\n{''.join(lines)}"
        line = json.dumps({"level": level.name, "message": text, "message_origin": "connector_sdk"})
        # One write per line, so lines of several threads never interleave.
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
