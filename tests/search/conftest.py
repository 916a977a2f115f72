import pytest

from ntksap_export.pruning import SCORERS

from ..support.threads import one_thread


@pytest.fixture(autouse=True)
def l1(monkeypatch: pytest.MonkeyPatch) -> None:
    if "l1" not in SCORERS:
        monkeypatch.setitem(SCORERS, "l1", SCORERS["magnitude"])


__all__ = ["l1", "one_thread"]
