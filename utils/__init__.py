"""What the other packages share: files, errors, output, statistics, plots."""
