"""Fetch registered data sets: `python -m data.download ETTh1 WTH`."""

import sys

import pooch

from data.registry import DATASETS, DataSet
from utils.files import UserError, is_file, sha256_of
from utils.output import Parser, run_command


def fetch(dataset: DataSet) -> str:
    """Put a data set's file into the data folder, whole and with the right checksum or not at all.

    Returns what was done, in one line. Raises UserError where the file is to be placed by hand, or
    what was fetched is not it.
    """
    path, by_hand = dataset.path, f"{dataset.name}: place {dataset.file} by hand at {dataset.path}"
    if is_file(path) and sha256_of(path.read_bytes()) == dataset.sha256:
        return f"{dataset.name}: already there, checksum right: {path}"
    known_hash = f"sha256:{dataset.sha256}"
    if not dataset.url:
        raise UserError(f"{by_hand}; {known_hash}, from {dataset.source}")
    try:
        pooch.retrieve(dataset.url, known_hash, path.name, path.parent, progressbar=True)
    except (OSError, ValueError) as error:  # of the connection or the disk; of the checksum
        raise UserError(f"{by_hand}, or try again; it was not fetched ({error})") from error
    path.chmod(0o644)  # a data folder may be shared
    return f"{dataset.name}: fetched, checksum right, licence {dataset.licence}: {path}"


def main(argv: list[str]) -> int:
    """Fetch the data sets named."""
    parser = Parser(prog="python -m data.download", description=__doc__)
    known = ", ".join(DATASETS)
    parser.add_argument("names", nargs="+", choices=DATASETS, metavar="NAME", help=known)
    for name in parser.parse_args(argv).names:
        print(fetch(DATASETS[name]))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
