"""Experiments: everything that runs, or reads, runs."""
