"""A run's identity is for good: settings recorded once give the same hashes in every version."""

import pandas as pd

from exp.config import (
    RESULTS_VERSIONS,
    Config,
    identity_hash,
    results_version,
    setting_hash,
    settings_of,
)
from tests.runs import ROOT


def test_the_studys_runs_keep_their_identity():
    runs = pd.read_csv(ROOT / "results/study/runs.csv").to_dict("records")
    assert len(runs) > 50
    for row in runs:
        known = {str(name): value for name, value in row.items() if not pd.isna(value)}
        settings = settings_of(known) | {"lip_axis": known.get("lip_axis", "feature")}
        config = Config(**settings)
        identity = config.identity(row["data_sha256"])
        hashes = identity_hash(identity), setting_hash(identity), results_version(identity)
        assert hashes == (row["id"], row["setting_id"], row["results_version"]), row["run"]
        assert config.run_name(row["data_sha256"]) == row["run"]
    assert RESULTS_VERSIONS == {"off": 2, "bf16": 3, "tf32": 2}
