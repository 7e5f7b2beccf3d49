"""Starts the measured connector as its platform does: a gRPC server on the port given as the only argument."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "connector"))

from connector import connector  # noqa: E402

connector.run(port=int(sys.argv[1]))
