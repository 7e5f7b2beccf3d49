"""The limit: the same rows built and dropped. Prints the CPU seconds of the loop alone."""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "connector"))

from rows import rows  # noqa: E402

started = time.process_time()
for _ in rows(0, int(sys.argv[1])):
    pass
print(time.process_time() - started)
