"""The rooms: who may import whom, and which room owns which library (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLOORS = {
    "cli": 7,
    "pipeline": 6,
    "report": 5,
    "profiling": 5,
    "runtime": 4,
    "search": 4,
    "engine": 3,
    "training": 3,
    "analysis": 3,
    "graph": 2,
    "networks": 2,
    "pruning": 2,
    "recovery": 2,
    "checkpoint": 2,
    "data": 1,
    "masks": 1,
    "atomic": 0,
    "bit_patterns": 0,
    "config": 0,
    "config_checks": 0,
    "config_spellings": 0,
    "config_file": 0,
    "errors": 0,
    "hardware": 0,
    "latency_budget": 0,
    "launch": 0,
    "optional": 0,
    "pareto": 0,
    "processes": 0,
    "progress": 0,
    "ranges": 0,
    "recipes": 0,
    "quoting": 0,
    "sizes": 0,
    "timing": 0,
    "wire": 0,
    "models": 0,
}
OWNERS = {
    "typer": {"cli"},
    "rich": {"cli"},
    "jinja2": {"report"},
    "onnxruntime": {"runtime"},
    "openvino": {"runtime"},
    "onnx": {"graph", "engine"},
    "onnxscript": {"graph"},
    "safetensors": {"checkpoint"},
    "zstandard": {"checkpoint"},
    "pydantic": {"config"},
    "psutil": {"profiling"},
    "PIL": {"data"},
    "torch_pruning": {"pruning"},
    "torch.utils.tensorboard": {"pipeline"},
    "tensorboard": set(),
}


def sources() -> Iterator[tuple[str, Path]]:
    for path in (ROOT / "ntksap_export").rglob("*.py"):
        relative = path.relative_to(ROOT / "ntksap_export")
        if relative.name != "__init__.py" or len(relative.parts) > 1:
            yield relative.parts[0].removesuffix(".py"), path
    for room in ("cli", "models"):
        for path in (ROOT / room).rglob("*.py"):
            yield room, path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            if node.module == "ntksap_export":
                yield from (f"ntksap_export.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize(("room", "path"), list(sources()), ids=lambda value: str(value)[-40:])
def test_a_room_imports_only_rooms_below_it(room: str, path: Path) -> None:
    for name in imports(path):
        if not name.startswith("ntksap_export."):
            continue
        other = name.split(".")[1]
        if other == room:
            continue
        allowed = FLOORS[other] < FLOORS[room] or (FLOORS[other] == FLOORS[room] == 0 and room != "models")
        assert allowed, f"{room} (floor {FLOORS[room]}) imports {other} (floor {FLOORS[other]})"


@pytest.mark.parametrize(("room", "path"), list(sources()), ids=lambda value: str(value)[-40:])
def test_each_library_has_one_room(room: str, path: Path) -> None:
    for name in imports(path):
        for library, owners in OWNERS.items():
            assert not f"{name}.".startswith(f"{library}.") or room in owners, f"{room} imports {name}"


def test_models_know_only_torch() -> None:
    allowed = {
        "__future__",
        "collections",
        "dataclasses",
        "difflib",
        "importlib",
        "itertools",
        "math",
        "torch",
        "typing",
    }

    for room, path in sources():
        if room == "models":
            roots = {name.split(".")[0] for name in imports(path) if not name.startswith("ntksap_export.models")}
            assert roots <= allowed, path


def test_every_room_has_a_floor() -> None:
    assert {room for room, _ in sources()} <= set(FLOORS)
