"""What the other packages share: files, errors, output, statistics, plots."""

import os

# Before torch is imported: on a busy machine threads that wait for each other would spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
