"""--budget: what it may say, what it may stand beside, and what is said of anything else."""

from __future__ import annotations

import pytest

from ntksap_export.config import make_config
from ntksap_export.errors import ConfigError
from ntksap_export.latency_budget import LatencyBudget, split_budget
from ntksap_export.pipeline.run_dir import fingerprint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency=5ms@onnxruntime,batch=1,threads=2", LatencyBudget(5.0, threads=2)),
        ("latency=5ms", LatencyBudget(5.0)),
        ("latency=800us", LatencyBudget(0.8)),
        ("latency=.25s@openvino,batch=16", LatencyBudget(250.0, "openvino", batch=16)),
        (" latency = 5 ms @ onnxruntime , threads = 4 ", LatencyBudget(5.0, threads=4)),
        ("latency=1.5ms@tensorrt,device=cuda", LatencyBudget(1.5, "tensorrt", "cuda")),
    ],
)
def test_a_latency_is_read(text: str, expected: LatencyBudget) -> None:
    assert expected == LatencyBudget.parse(text)


@pytest.mark.parametrize(
    "budget",
    [
        LatencyBudget(5.0, threads=2),
        LatencyBudget(0.123456),
        LatencyBudget(1234567.0, "onnxruntime", "cuda", 32, 1),
        LatencyBudget(2.0, "openvino"),
    ],
)
def test_what_is_written_reads_the_same(budget: LatencyBudget) -> None:
    assert budget == LatencyBudget.parse(str(budget))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5ms", "budget must be latency="),
        ("latency", "budget must be latency="),
        ("speed=5", "budget must be latency="),
        ("latency=5", "with us, ms or s"),
        ("latency=5 min", "with us, ms or s"),
        ("latency=-5ms", "with us, ms or s"),
        ("latency=1e3ms", "with us, ms or s"),
        ("latency=ms", "with us, ms or s"),
        ("latency=0ms", "above 0; got '0ms'"),
        ("latency=5ms@ort", "backend must be onnxruntime, openvino or tensorrt; got 'ort'"),
        ("latency=5ms@", "backend must be"),
        ("latency=5ms@torch", "which torch does not run; use @onnxruntime"),
        ("latency=5ms@tensorrt", "add device=cuda"),
        ("latency=5ms@openvino,device=cuda", "leave device=cuda away"),
        ("latency=5ms,batch=0", "batch must be a whole number of at least 1; got '0'"),
        ("latency=5ms,batch=1.5", "batch must be a whole number"),
        ("latency=5ms,threads=two", "threads must be a whole number"),
        ("latency=5ms,device=tpu", "device must be cpu or cuda; got 'tpu'"),
        ("latency=5ms,streams=2", "takes batch=, threads= and device="),
        ("latency=5ms,", "takes batch=, threads= and device="),
        ("latency=5ms,batch=1,batch=2", "says batch twice"),
        ("flops=half", "flops must be a number such as 0.5; got 'half'"),
        ("flops=", "flops must be a number"),
    ],
)
def test_anything_else_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        split_budget(text)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_budgets_are_other_ways_to_write_their_flags() -> None:
    assert make_config({"model": "m", "flops": 0.25}) == make_config({"model": "m", "budget": "flops=0.25"})
    assert make_config({"model": "m", "params": "1M"}) == make_config({"model": "m", "budget": "params=1M"})
    assert make_config({"model": "m", "density": 0.25}) == make_config({"model": "m", "budget": "density=0.25"})


def test_one_thing_is_not_said_twice() -> None:
    with pytest.raises(ConfigError, match=r"give --flops or --budget flops=\.\.\., not both"):
        make_config({"model": "m", "flops": 0.5, "budget": "flops=0.25"})


def test_a_latency_stands_beside_other_budgets() -> None:
    config = make_config(
        {"model": "m", "pattern": "channel", "budget": "latency=5000us,threads=2", "flops": 0.5, "sparsity": 0.3}
    )

    assert config.budget == "latency=5ms@onnxruntime,batch=1,threads=2"
    assert config.budget_text() == (
        "0.3 sparsity and 0.5 of the FLOPs and 5 ms on onnxruntime on cpu, batch 1, 2 threads"
    )


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4x1"])
def test_only_channels_make_a_network_faster(pattern: str) -> None:
    with pytest.raises(ConfigError, match=rf"needs --pattern channel or .* got {pattern}, whose zeros make no"):
        make_config({"model": "m", "pattern": pattern, "budget": "latency=5ms"})


def test_a_second_pattern_needs_a_budget_of_its_own() -> None:
    with pytest.raises(ConfigError, match=r"nothing how many weights of channel\+unstructured; add --sparsity"):
        make_config({"model": "m", "pattern": "channel+unstructured", "budget": "latency=5ms"})

    assert make_config({"model": "m", "pattern": "channel+2:4", "budget": "latency=5ms"}).latency is not None


def test_a_table_without_a_latency_is_refused() -> None:
    with pytest.raises(ConfigError, match="--latency-table belongs to --budget latency="):
        make_config({"model": "m", "latency_table": "table.json"})


def test_a_budget_is_part_of_what_a_run_is_and_no_budget_is_not() -> None:
    plain = make_config({"model": "m", "pattern": "channel", "sparsity": 0.5})
    timed = plain.with_values(budget="latency=5ms")

    assert fingerprint("prune", plain) != fingerprint("prune", timed)
    assert fingerprint("prune", timed) == fingerprint("prune", timed.with_values(latency_table="a.json"))
    assert fingerprint("prune", plain) == fingerprint("prune", plain.with_values(budget=None))
