"""The two helpers that projects import: how a command asks, and the runtime's own line in the log."""

import enum

from .logger import Logging


class PromptMode(enum.Enum):
    """How a command asks before it changes something."""

    INTERACTIVE = None
    DEFAULT_ANSWER = "--non-interactive"
    YES = "--yes"
    FORCE = "--force"

    @property
    def is_non_interactive_mode(self):
        return self is not PromptMode.INTERACTIVE


def print_library_log(message, level=Logging.Level.INFO, dev_log=False, **_):
    """A line that says it comes from the runtime; `dev_log` ones are shown to nobody by default."""
    Logging._write(level, str(message), "library_dev" if dev_log else "library")
