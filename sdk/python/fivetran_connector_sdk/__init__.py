"""The import surface that connector projects are written against: Connector, Operations, Logging.

Pure Python over the native module `_inshore`, which turns rows into Arrow and owns the link to the job. This package
has no other dependency, so it can never collide with what a connector installs.
"""

from .logging import Logging
from .operations import Operations

__version__ = "2.13.1+inshore.0.0.0"

# `Connector` is deliberately absent: existing projects import it by name, and a star import never provided it.
__all__ = ["Logging", "Operations"]


class Connector:
    """What a project binds to the name `connector` in connector.py. Nothing is checked until a sync runs it."""

    def __init__(self, update, schema=None):
        self.update_method = update
        self.schema_method = schema
        self.configuration = None
        self.state = None
        self.project_path = None
