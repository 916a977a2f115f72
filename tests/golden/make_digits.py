"""Make ntksap_export/data/digits.npz from the digits.csv.gz of a scikit-learn installation.

    python tests/golden/make_digits.py .../sklearn/datasets/data/digits.csv.gz ntksap_export/data/digits.npz

The same input gives the same bytes: the zip's timestamps are fixed.
"""

from __future__ import annotations

import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np


def make_digits(csv: Path, npz: Path) -> None:
    """Write `images` uint8 (N, 8, 8) of 0 to 16 and `labels` uint8 (N,) of 0 to 9."""
    table = np.loadtxt(csv, delimiter=",")
    if table.ndim != 2 or table.shape[1] != 65 or not np.array_equal(table, table.astype(np.uint8)):
        raise SystemExit(f"{csv} must have 65 columns of whole numbers; got shape {table.shape}")
    values = table.astype(np.uint8)
    arrays = {"images": values[:, :64].reshape(-1, 8, 8), "labels": values[:, 64].copy()}
    with zipfile.ZipFile(npz, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            buffer = BytesIO()
            np.save(buffer, array, allow_pickle=False)
            archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


if __name__ == "__main__":
    make_digits(Path(sys.argv[1]), Path(sys.argv[2]))
