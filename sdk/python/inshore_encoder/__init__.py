"""What turns rows into frames for the job, under the name `encoder`: the native module `_inshore`, or the same in
Python where that does not load. Both give the same frames; the Python one is slower by far.
"""

import os

# "python" chooses the Python encoder; anything else leaves the choice to what loads.
CHOICE_VARIABLE = "INSHORE_ENCODER"

try:
    if os.environ.get(CHOICE_VARIABLE) == "python":
        raise ImportError(f"{CHOICE_VARIABLE} asks for Python")
    import _inshore as encoder
except ImportError as missing:
    from . import session as encoder

    encoder.note(f"rows are encoded in Python, which is slow: {missing}")

__all__ = ["encoder"]
