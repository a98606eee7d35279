"""Fetch registered data sets: `python -m data.download ETTh1 WTH`; without names, list them."""

import sys

import pooch

from data.registry import DATASETS, DataSet
from utils.files import UserError, advice, is_file, nearest, sha256_of
from utils.output import Parser, run_command


def fetch(dataset: DataSet) -> str:
    """Put a data set's file into the data folder, whole and with the right checksum or not at all.

    Returns what was done, in one line. Raises UserError where the file is to be placed by hand, or
    what was fetched is not it.
    """
    path, by_hand = dataset.path, f"{dataset.name}: place {dataset.file} by hand at {dataset.path}"
    if is_file(path) and sha256_of(path.read_bytes()) == dataset.sha256:
        return f"{dataset.name}: already there, checksum right: {path}"
    if not dataset.url:
        known = f"{dataset.size:,} bytes, sha256 {dataset.sha256}"
        raise UserError(f"{by_hand}; {known}, from {dataset.source}")
    known_hash = f"sha256:{dataset.sha256}"
    try:
        pooch.retrieve(dataset.url, known_hash, path.name, path.parent, progressbar=True)
    except (OSError, ValueError) as error:
        reason = "what came has another checksum"
        if isinstance(error, OSError):  # without a number it comes from the connection
            reason = advice(error) if error.errno else "no connection, or no such file there"
        raise UserError(
            f"{by_hand}, or name a data folder in INFORMER_DATA, or try again; it was not fetched "
            f"from {dataset.url} ({reason}), and nothing was kept"
        ) from error
    path.chmod(0o644)  # a data folder may be shared
    return f"{dataset.name}: fetched, checksum right: {path}"


def main(argv: list[str]) -> int:
    """Fetch the data sets named, or list all."""
    parser = Parser(prog="python -m data.download", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DATASETS))
    names = parser.parse_args(argv).names
    code = 0
    for name in names:
        try:
            if name not in DATASETS:
                known = ", ".join(DATASETS)
                raise UserError(f"{name}: unknown{nearest(name, DATASETS)}; one of {known}")
            print(fetch(DATASETS[name]))
        except UserError as error:  # the others are fetched
            print(f"error: {error}", file=sys.stderr)
            code = 2
    for dataset in () if names else DATASETS.values():
        absent = "not here" if dataset.url else "not here, placed by hand"
        place = dataset.path if is_file(dataset.path) else absent
        print(f"{dataset.name:8} {dataset.size / 1e6:5.1f} MB  {dataset.licence:13} {place}")
    return code


if __name__ == "__main__":
    sys.exit(run_command(main))
