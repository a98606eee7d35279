"""Experiments: everything that runs, or reads, runs."""

import utils  # noqa: F401 - before torch is imported
