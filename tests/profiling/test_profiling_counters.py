"""The kernel's counters, from files that are made here."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ntksap_export.profiling import counters, gpu


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, place in (("_STAT", "stat"), ("_CPUS", "cpu"), ("_CGROUP", "cpu.stat"), ("_POWERCAP", "powercap")):
        monkeypatch.setattr(counters, name, tmp_path / place)
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def _zone(files: Path, zone: str, name: str, used: int, reach: int = 1000) -> None:
    for file, value in (("name", name), ("energy_uj", used), ("max_energy_range_uj", reach)):
        _write(files / "powercap" / zone / file, str(value))


def test_cpu_time_is_that_of_the_cores_asked_for(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    # user nice system idle iowait irq softirq steal guest guest_nice
    _write(
        files / "stat", "cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 100 0 50 700 100 10 20 20 90 0\ncpu1 1 1 1 1 1 1 1 1 1 1\nintr 5"
    )

    found = counters.cpu_seconds([0])

    assert {"total": 10.0, "busy": 1.8, "steal": 0.2} == {key: found[key] for key in ("total", "busy", "steal")}
    assert found["own"] > 0
    assert counters.cpu_seconds([7]) == {}


def test_what_is_not_there_is_not_known(files: Path) -> None:
    assert counters.cpu_seconds([0]) == {}
    assert {"heat": None, "cpu_quota": None} == counters.throttle_counts([0])
    assert counters.energy_uj() == {}
    assert counters.energy_used_j({}, {}) is None
    assert "RAPL" in counters.energy_json(None, 8, 1.0)["skipped"]


def test_throttling_is_counted_over_the_cores_and_by_the_quota(files: Path) -> None:
    for cpu, count in ((0, 3), (1, 4), (2, 100)):
        _write(files / "cpu" / f"cpu{cpu}" / "thermal_throttle" / "core_throttle_count", str(count))
    _write(files / "cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 2\nthrottled_usec 7")

    before = counters.throttle_counts([0, 1])

    assert {"heat": 7, "cpu_quota": 2} == before
    assert {"heat": 3, "cpu_quota": None} == counters.events_between(before, {"heat": 10, "cpu_quota": None})


def test_the_clock_is_the_lowest_of_the_cores(files: Path) -> None:
    for cpu, khz in ((0, 2_600_000), (1, 1_900_000), (2, 800_000)):
        _write(files / "cpu" / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq", str(khz))

    assert 1900.0 == counters.clock_mhz([0, 1])
    assert counters.clock_mhz([7]) is None


def test_energy_counts_packages_and_memory_once(files: Path) -> None:
    _zone(files, "intel-rapl:0", "package-0", 500)
    _zone(files, "intel-rapl:0:0", "core", 400)
    _zone(files, "intel-rapl:0:1", "dram", 30)
    _zone(files, "intel-rapl:1", "psys", 900)

    assert {"intel-rapl:0": (500, 1000), "intel-rapl:0:1": (30, 1000)} == counters.energy_uj()


def test_a_counter_that_started_anew_is_reckoned_in() -> None:
    before = {"a": (900, 1000), "b": (10, 1000)}
    after = {"a": (50, 1000), "b": (110, 1000)}

    assert 250e-6 == pytest.approx(counters.energy_used_j(before, after))


def test_energy_is_per_image_and_says_what_it_counts() -> None:
    found = counters.energy_json(12.0, images=60, seconds=3.0)

    assert (0.2, 4.0) == (found["joules_per_image"], found["watts"])
    assert "idle power" in found["method"]


def test_readings_add_up_over_turns() -> None:
    total = counters.added({}, {"busy": 5.0}, {"busy": 7.0})

    assert {"busy": 3.0} == counters.added(total, {"busy": 100.0}, {"busy": 101.0})
    assert {} == counters.added({}, {}, {"busy": 7.0})


def _nvml(**changes: Any) -> SimpleNamespace:
    calls: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": lambda index: "handle",
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=5),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: [SimpleNamespace(pid=-1)],
        "nvmlDeviceGetClockInfo": lambda handle, kind: 1400,
        "nvmlDeviceGetMaxClockInfo": lambda handle, kind: 1980,
        "nvmlDeviceGetPowerUsage": lambda handle: 300_000,
        "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 4,
    }
    constants = {"NVML_CLOCK_SM": 1, "NVML_CLOCK_MEM": 2, "NVML_TEMPERATURE_GPU": 0}
    return SimpleNamespace(**{**calls, **constants, **changes})


def test_gpu_clocks_and_power_are_read_and_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml())
    first = gpu.reading()
    second = {**first, "sm_clock_mhz": 1200, "power_w": 100.0, "throttle_reasons": 1, "processes": 0}

    found = gpu.summary([first, second, {"skipped": "once"}])

    assert (300.0, 61, 5, 1) == tuple(first[key] for key in ("power_w", "temperature_c", "used_bytes", "processes"))
    assert ("read, never set", [1200, 1400], 1300, 200.0, 5, 1) == tuple(
        found[key]
        for key in ("clocks", "sm_clock_range_mhz", "sm_clock_mhz", "power_w", "throttle_reasons", "other_processes")
    )


def test_without_nvml_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(index: int) -> None:
        raise RuntimeError("Driver Not Loaded")

    monkeypatch.setitem(sys.modules, "pynvml", _nvml(nvmlDeviceGetHandleByIndex=missing))
    broken = gpu.reading()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    absent = gpu.reading()

    assert {"skipped": "NVML cannot be read: Driver Not Loaded"} == broken
    assert {"skipped": "pynvml is not installed; pip install nvidia-ml-py"} == absent
    assert absent == gpu.summary([absent])
