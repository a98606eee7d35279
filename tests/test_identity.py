"""A run's identity is for good: settings recorded once give the same hashes in every version."""

import pandas as pd
import pytest

from exp.config import (
    RESULTS_VERSIONS,
    Config,
    identity_hash,
    results_version,
    setting_hash,
    settings_of,
)
from tests.runs import ROOT

RUNS = pd.read_csv(ROOT / "results" / "study" / "runs.csv").to_dict("records")


@pytest.mark.parametrize("row", RUNS, ids=lambda row: row["run"])
def test_the_studys_runs_keep_their_identity(row):
    known = {str(name): value for name, value in row.items() if not pd.isna(value)}
    settings = settings_of(known) | {"lip_axis": known.get("lip_axis", "feature")}
    config = Config(**settings)
    identity = config.identity(row["data_sha256"])
    assert row["results_version"] == results_version(identity)
    assert identity_hash(identity) == row["id"]
    assert setting_hash(identity) == row["setting_id"]
    assert config.run_name(row["data_sha256"]) == row["run"]


def test_only_bf16_has_a_later_results_version():
    assert RESULTS_VERSIONS == {"off": 2, "bf16": 3, "tf32": 2}
