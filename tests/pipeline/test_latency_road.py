"""`ntksap prune --budget latency=...`: what is chosen, what is written, what is refused before anything is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from ntksap_export import models
from ntksap_export.checkpoint import load_mask
from ntksap_export.config import RunConfig
from ntksap_export.errors import ConfigError, UnavailableError
from ntksap_export.graph import Graph
from ntksap_export.graph.one_layer import LayerShape, layer_graph
from ntksap_export.pipeline import latency, plan, run_road
from ntksap_export.profiling import latency_table
from ntksap_export.profiling.latency_table import MachineMeter
from ntksap_export.profiling.many import Effort
from ntksap_export.pruning import ChannelPlan
from ntksap_export.runtime import backends
from ntksap_export.timing import Timing
from tests.conftest import Recorder, small_config
from tests.support.own import NETS, own_module

Call = Callable[..., tuple[int, str, str]]
TABLE = "latency_table.json"


class Machine:
    """Stands for the measuring process: 0.1 ms, and a millisecond for each megabyte of weights."""

    def __init__(self) -> None:
        self.timed = 0

    def __call__(self, graphs: Sequence[Graph], settings: Mapping[str, object], effort: Effort) -> list[Timing]:
        self.timed += len(graphs)
        times = [0.1 + sum(values.nbytes for _, values in graph.weights()) / 1e6 for graph in graphs]
        return [Timing(ms, 0.99 * ms, 1.01 * ms, 50) for ms in times]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """One on which resnet20 takes 1.18 ms, dense."""
    made = Machine()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(latency, "MachineMeter", partial(MachineMeter, time_graphs=made))
    monkeypatch.setattr(latency, "export_graph", _as_many_weights)
    return made


def _as_many_weights(model: nn.Module, images: torch.Tensor, opset: int) -> Graph:
    """In place of an export, which takes seconds."""
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    return layer_graph(LayerShape((), (), (), (), 1, (1, 1)), weights, 1, batch=1)


def config(budget: str = "latency=0.6ms,threads=1", **changes: object) -> RunConfig:
    return small_config(**{"pattern": "channel", "method": "magnitude", "budget": budget, **changes})


def pruned(config: RunConfig, out: Path, recorder: Recorder | None = None) -> dict[str, object]:
    """mask.json of a run that only prunes."""
    run_road(config, out, stages=("prune",), progress=recorder)
    told: dict[str, object] = json.loads((out / "mask.json").read_text())
    return told


def test_asked_promised_and_measured_stand_side_by_side(machine: Machine, tmp_path: Path) -> None:
    recorder = Recorder()

    told = pruned(config(), tmp_path / "out", recorder)["latency"]

    assert isinstance(told, dict)
    assert told["asked_ms"] == 0.6
    assert told["measured_ms"] <= 0.6 < told["dense_ms"]
    assert told["promised_ms"] == pytest.approx(0.6, rel=0.2)
    assert {"onnxruntime", "cpu", 1} == {told[key] for key in ("backend", "device", "batch", "threads")}
    assert any(line.startswith("latency: asked 0.6 ms, promised ") for line in recorder.lines)


def test_the_plan_is_of_the_network_that_was_measured(machine: Machine, tmp_path: Path) -> None:
    told = pruned(config(), tmp_path / "out")["latency"]
    plan = ChannelPlan.from_json(json.loads((tmp_path / "out" / "channels.json").read_text()))
    slim = plan.apply(models.build("resnet20", num_classes=10))

    load_mask(tmp_path / "out" / "mask.safetensors")[0].check_fits(slim)
    weights = sum(p.numel() for p in slim.parameters() if p.ndim > 1)
    assert told["measured_ms"] == pytest.approx(0.1 + 4 * weights / 1e6)  # type: ignore[index]


def test_a_table_gives_the_same_mask_without_a_measurement(machine: Machine, tmp_path: Path) -> None:
    first = pruned(config(method="ntksap"), tmp_path / "first")
    timed = machine.timed

    second = pruned(config(method="ntksap", latency_table=str(tmp_path / "first" / TABLE)), tmp_path / "second")

    assert machine.timed == timed
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert (tmp_path / "first" / TABLE).read_bytes() == (tmp_path / "second" / TABLE).read_bytes()


def test_an_interrupted_run_goes_on_with_the_table_it_left(machine: Machine, tmp_path: Path) -> None:
    run_road(config(), tmp_path / "out", stages=("prune",))
    timed = machine.timed
    (tmp_path / "out" / "mask.json").unlink()

    run_road(config(), tmp_path / "out", stages=("prune",))

    assert machine.timed == timed


def test_another_budget_in_the_same_place_leaves_no_table(machine: Machine, tmp_path: Path) -> None:
    pruned(config(), tmp_path / "out")

    by_weights = small_config(pattern="channel", sparsity=0.5, method="magnitude")
    run_road(by_weights, tmp_path / "out", stages=("prune",), overwrite=True)

    assert not (tmp_path / "out" / TABLE).exists()
    assert "latency" not in json.loads((tmp_path / "out" / "mask.json").read_text())


def test_channels_meet_the_latency_and_the_second_pattern_the_rest(machine: Machine, tmp_path: Path) -> None:
    told = pruned(config(pattern="channel+2:4"), tmp_path / "half")
    fewer = pruned(config(pattern="channel+unstructured", sparsity=0.9), tmp_path / "tenth")

    assert told["latency"]["measured_ms"] <= 0.6  # type: ignore[index]
    assert told["channels"] == fewer["channels"]
    assert fewer["table"]["density"] == pytest.approx(0.1, abs=1e-4)  # type: ignore[index]
    assert 0.4 < told["table"]["density"] / _channel_density(tmp_path / "half") < 0.6  # type: ignore[index]


def _channel_density(run: Path) -> float:
    plan = ChannelPlan.from_json(json.loads((run / "channels.json").read_text()))
    dense = models.build("resnet20", num_classes=10)
    return plan.mask(dense).density


def test_a_budget_that_is_out_of_reach_leaves_no_mask(machine: Machine, ntksap: Call, tmp_path: Path) -> None:
    flags = ("--pattern", "channel", "--method", "magnitude", "--image-size", "16", "--out", tmp_path / "out")

    code, _, said = ntksap("prune", "resnet20", "--budget", "latency=0.05ms", *flags)

    assert code == 2
    assert "cannot be met: the narrowest network takes" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "mask.safetensors").exists()


@pytest.mark.parametrize(
    ("budget", "error", "said"),
    [
        ("latency=5ms,threads=100000", ConfigError, "threads=100000, but this process may use"),
        ("latency=5ms@tensorrt,device=cuda", UnavailableError, "--budget: tensorrt on cuda: "),
    ],
)
def test_what_could_not_be_measured_is_refused_at_once(
    tmp_path: Path, budget: str, error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backends, "unavailable", lambda *_: "not here" if "tensorrt" in budget else None)

    with pytest.raises(error, match=said):
        run_road(config(budget), tmp_path / "out", stages=("prune",))
    assert not (tmp_path / "out").exists()


def test_several_processes_do_not_time_beside_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(latency, "world_size", lambda: 2)

    with pytest.raises(ConfigError, match="measured in one process, got 2; run `ntksap prune` without torchrun"):
        run_road(config(), tmp_path / "out", stages=("prune",))


def test_a_table_of_other_threads_is_refused(machine: Machine, tmp_path: Path) -> None:
    pruned(config(), tmp_path / "out")
    table = tmp_path / "out" / TABLE
    stored = json.loads(table.read_text())
    stored["settings"]["threads"] = 64
    (tmp_path / "other.json").write_text(json.dumps(stored))

    with pytest.raises(ConfigError, match=r"was made with .*threads=64, --budget asks for .*threads=1"):
        pruned(config(latency_table=str(tmp_path / "other.json")), tmp_path / "second")


def test_a_plan_measures_nothing(machine: Machine, tmp_path: Path) -> None:
    planned = plan(config(), tmp_path / "out")

    assert machine.timed == 0
    assert planned["kept_weights"] is None
    assert planned["config"]["budget"] == "latency=0.6ms@onnxruntime,batch=1,threads=1"
    assert TABLE in planned["files"]


@pytest.mark.slow
def test_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of how fast it is: half way, in proportions, from the narrowest network to the dense one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(latency_table, "LAYERS", Effort((2, 2), 0.001, 2, 0.001, 1.0))
    monkeypatch.setattr(latency_table, "WHOLE", Effort((3, 3), 0.05, 3, 0.05, 1.0))
    run, wide = tmp_path / "out", "\n\ndef wide(num_classes):\n    return Net(num_classes, width=128)\n"
    model = f"{own_module(tmp_path, monkeypatch, NETS + wide)}:wide"
    with pytest.raises(ConfigError, match="cannot be met"):
        pruned(config("latency=1us,threads=1", model=model, image_size=32), run)
    networks = [row[0] for name, row in json.loads((run / TABLE).read_text())["timings"].items() if "network" in name]
    asked = math.sqrt(networks[0] * networks[1])

    told = pruned(config(f"latency={asked:.6f}ms,threads=1", model=model, image_size=32), run)["latency"]

    assert 0 < told["measured_ms"] <= told["asked_ms"]  # type: ignore[index]
    slim = ChannelPlan.from_json(json.loads((run / "channels.json").read_text()))
    assert slim.summary()["kept"] < slim.summary()["channels"]
