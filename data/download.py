"""Fetch registered data sets: `python -m data.download ETTh1 WTH`; without names, list them."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from data.registry import DATASETS, DOWNLOADS, DataSet
from utils.files import UserError, advice, is_file, nearest, sha256_of


def fetch(dataset: DataSet, folder: Path) -> str:
    """Put a data set's file below a data folder, whole and with the right checksum or not at all.

    Returns what was done, in one line. Raises UserError where the file is to be placed by hand, or
    what was fetched is not it.
    """
    path = dataset.below(folder)
    if is_file(path) and sha256_of(path.read_bytes()) == dataset.sha256:
        return f"{dataset.name}: already there, checksum right: {path}"
    if not dataset.url:
        state = "has another checksum" if is_file(path) else "is not there"
        raise UserError(
            f"{dataset.name}: {path} {state}; it is placed there by hand: {dataset.file}, "
            f"{dataset.size:,} bytes, sha256 {dataset.sha256}, from {dataset.source}"
        )
    known_hash = f"sha256:{dataset.sha256}"
    try:
        pooch.retrieve(dataset.url, known_hash, path.name, path.parent, progressbar=True)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{dataset.name}: not fetched from {dataset.url}, nothing kept ({_reason(error)}); try "
            f"again, or place the file by hand at {path}, or below a folder that you name in "
            f"INFORMER_DATA: {dataset.folder}/{dataset.file}"
        ) from error
    path.chmod(0o644)  # a data folder may be shared
    return f"{dataset.name}: fetched, checksum right: {path}"


def _reason(error: OSError | ValueError) -> str:
    """Say why a file was not fetched, without the libraries' inner names."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.RequestException):
        return "no connection, or it broke off"
    return advice(error) if isinstance(error, OSError) else "what came has another checksum"


def _listed(dataset: DataSet, folder: Path) -> str:
    absent = "not here" if dataset.url else "not here, placed by hand"
    place = next(filter(is_file, [dataset.below(folder), *dataset.paths()]), absent)
    return f"{dataset.name:8} {dataset.size / 1e6:5.1f} MB  {dataset.licence:13} {place}"


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 if any data set could not be had."""
    parser = argparse.ArgumentParser(prog="python -m data.download", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DATASETS))
    parser.add_argument(
        "--to", type=Path, default=DOWNLOADS, metavar="FOLDER", help="data folder (%(default)s)"
    )
    asked = parser.parse_args(words)
    if not asked.names:
        print(*(_listed(dataset, asked.to) for dataset in DATASETS.values()), sep="\n")
    code = 0
    for name in asked.names:
        try:
            if name not in DATASETS:
                known = ", ".join(DATASETS)
                raise UserError(f"{name}: unknown{nearest(name, DATASETS)}; one of {known}")
            print(fetch(DATASETS[name], asked.to))
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
    return code


if __name__ == "__main__":
    sys.exit(main())
