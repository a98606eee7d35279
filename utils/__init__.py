"""What the other packages share: files, errors, output, statistics, plots."""

import os

# Before torch is imported: on a busy machine threads that wait for each other would spin. To spin
# shortly costs nothing there or on a quiet machine; not at all, 8 % on a quiet one (docs/speed.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # of the OpenMP that torch brings on Linux
