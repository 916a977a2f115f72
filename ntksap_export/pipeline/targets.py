"""Whatever `ntksap profile` is pointed at, opened: one function of a table for each kind of target."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ntksap_export import networks
from ntksap_export.config import RunConfig, make_config
from ntksap_export.engine import ENGINE_DOMAIN
from ntksap_export.errors import ConfigError, RunDirectoryError
from ntksap_export.graph import Graph, files_of, graph_files, is_graph, load_dense, weight_sparsity
from ntksap_export.graph.image_input import Shape, image_input
from ntksap_export.graph.precision import precision_of
from ntksap_export.pipeline.context import Context
from ntksap_export.pipeline.engine import BODY, plain_of
from ntksap_export.pipeline.export_any import Subject, named_subject, read_subject, subject_graph
from ntksap_export.pipeline.exporting import made_graph
from ntksap_export.pipeline.graph_input import preprocessing_of
from ntksap_export.pipeline.precisions import PRECISIONS
from ntksap_export.pipeline.run_dir import RunDir
from ntksap_export.pipeline.run_files import CHANNELS
from ntksap_export.pipeline.target import ENGINE, Asked, Target
from ntksap_export.pipeline.twins import is_pruned, lowered, twin_of
from ntksap_export.profiling.profile import Variant
from ntksap_export.progress import Silent

_CALIBRATED: Final = "int8 is calibrated on data: `ntksap export RUN --int8` writes model.int8.onnx; profile the run"


def open_targets(targets: Sequence[str], asked: Asked) -> list[Target]:
    """Open each target.

    Raises:
        RunDirectoryError: there is nothing of this name, or a run that lacks its graph.
        ConfigError: no such model, one target twice, or an input whose shape is not known.
        CheckpointError, ExportError: a file that is damaged, foreign, or cannot be exported.
    """
    kinds = [_kind(target) for target in targets]
    opened = []
    for index, (target, kind, name) in enumerate(zip(targets, kinds, _names(targets, kinds), strict=True)):
        folder = asked.scratch / str(index)
        folder.mkdir(parents=True)
        try:
            opened.append(replace(_OPENERS[kind](target, replace(asked, scratch=folder)), name=name))
        except ConfigError as error:
            raise ConfigError(f"{target}: {error}") from None
    return opened


def open_run(context: Context, asked: Asked) -> Target:
    """The networks of a run: `sparse` in each precision that was exported, and `dense`.

    Raises:
        RunDirectoryError: the run has no graph yet.
    """
    run, own = context.run, run_variants(context, asked)
    there = {variant.precision for variant in own}
    graph = load_dense(run.file("model.onnx"))
    whole = twin_of(graph, context.mask(), context.channel_plan() is not None, lambda: _exported_whole(context))
    return Target(
        run.path.absolute().name,
        own,
        _dense(whole, context.model_arguments, context.shape, asked),
        _structure(whole),
        run_files(run.path),
        {
            name: f"'{run.path}' has no model.{name}.onnx; `ntksap export {run.path} --{name}` makes it"
            for name in asked.lower()
            if name not in there
        },
    )


def _exported_whole(context: Context) -> Graph:
    """The network of a run with all its channels and weights, by the settings that its graph was exported with."""
    context = replace(context, config=context.config.with_values(**context.run.settings_of("export")))
    return made_graph(context, context.architecture().eval(), None, preprocessing_of(context)).graph


def run_variants(context: Context, asked: Asked) -> tuple[Variant, ...]:
    """The network of a run, called `sparse`, in each precision that was exported and is asked for, and for the engine.

    Raises:
        RunDirectoryError: the run has no graph yet.
    """
    run = context.run
    file = run.file("model.onnx")
    if not file.is_file():
        raise RunDirectoryError(f"'{run.path}' has no model.onnx; run `ntksap export` first")
    plan = run.file(CHANNELS) if context.channel_plan() is not None else None
    found = [Variant("sparse", file, context.model_arguments, run.file("model.safetensors"), context.shape, plan)]
    for name in PRECISIONS:
        if (path := run.file(f"model.{name}.onnx")).is_file():
            found.append(Variant("sparse", path, None, None, context.shape, precision=name))
    if run.file(BODY).is_file():
        found.append(Variant(ENGINE, run.file(BODY), None, None, context.shape, engine=True))
    return tuple(variant for variant in found if asked.wants(variant.precision))


def run_files(path: Path) -> dict[str, int]:
    """Bytes of the files of a run that are delivered, by name."""
    graphs = [path / f"model{part}.onnx" for part in ("", ".fp16", ".int8", ".sparse")]
    files = [
        path / "model.safetensors",
        *(file for graph in graphs for file in files_of(graph)),
        path / "mask.safetensors",
    ]
    return _sizes(files)


def _run(target: str, asked: Asked) -> Target:
    run = RunDir(Path(target))
    stored = run.stored_settings()
    for key in ("num_classes", "image_size"):
        if key in asked.settings and asked.settings[key] != stored.get(key):
            raise ConfigError(
                f"the run's {key.replace('_', ' ')} is {stored.get(key)}; got --{key.replace('_', '-')} "
                f"{asked.settings[key]}, leave it away"
            )
    name = str(run.read_json("config.json")["data"]["name"])
    return open_run(Context(make_config(stored), run, Silent(), name), asked)


def _graph(target: str, asked: Asked) -> Target:
    path = Path(target)
    graph = load_dense(path)
    shape = image_input(graph).shape(asked.settings.get("image_size"))
    if ENGINE_DOMAIN in graph.domains:
        return _engine_graph(path, graph, shape, asked)
    precision = precision_of(graph)
    sparse = is_pruned(graph, weight_sparsity(graph))
    own = Variant("sparse" if sparse else "dense", path, None, None, shape, precision=precision)
    lower, missing = _lower(graph, own, asked) if precision == "fp32" else ((), {})
    if precision != "fp32" and asked.precisions is not None and not asked.wants(precision):
        missing = dict.fromkeys(asked.precisions, f"{path.name} is a graph in {precision}")
    twin = twin_of(graph, None, False, lambda: graph) if sparse else graph
    return Target(
        path.stem,
        ((own,) if asked.wants(precision) else ()) + lower,
        _dense(twin, None, shape, asked, precision) if sparse else (),
        _structure(twin),
        _sizes(graph_files(path)),
        missing,
    )


def _engine_graph(path: Path, graph: Graph, shape: Shape, asked: Asked) -> Target:
    """A graph for the sparse engine, beside the dense twin of the graph that it was made of where that is there too.

    Raises:
        ConfigError: it is asked for in other numbers than it has.
    """
    if asked.precisions not in (None, ("fp32",)):
        raise ConfigError(f"the sparse engine computes in fp32; profile {plain_of(path).name} in other precisions")
    own, plain, sizes = Variant(ENGINE, path, None, None, shape, engine=True), plain_of(path), _sizes(graph_files(path))
    if not plain.is_file() or plain == path:
        return Target(path.stem, (own,), (), _structure(graph), sizes)
    source = load_dense(plain)
    twin = twin_of(source, None, False, lambda: source)
    return Target(path.stem, (own,), _dense(twin, None, shape, asked), _structure(twin), sizes)


def _checkpoint(target: str, asked: Asked) -> Target:
    path = Path(target)
    subject = read_subject(path, asked.settings)
    graph, model, shape = subject_graph(subject)[0], _arguments(subject.config), _shape(subject.config)
    plan = path.with_name(CHANNELS) if subject.config.pattern.startswith("channel") else None
    sparse = plan is not None or is_pruned(graph, weight_sparsity(graph))
    file = asked.scratch / "model.onnx"
    graph.save(file)
    own = Variant("sparse" if sparse else "dense", file, model, path, shape, plan)
    lower, missing = _lower(graph, own, asked)
    whole = graph
    if sparse:
        whole = twin_of(graph, subject.mask, plan is not None, lambda: _whole(subject))
    return Target(
        path.stem,
        ((own,) if asked.wants("fp32") else ()) + lower,
        _dense(whole, model, shape, asked) if sparse else (),
        _structure(whole),
        _sizes((path,)),
        missing,
    )


def _model(target: str, asked: Asked) -> Target:
    subject = named_subject(target, asked.settings)
    classes = subject.config.num_classes or 1000
    subject = replace(subject, config=subject.config.with_values(num_classes=classes))
    graph = subject_graph(subject)[0]
    own = _dense(graph, _arguments(subject.config), _shape(subject.config), asked)
    return Target(target, own, (), _structure(graph))


_OPENERS: Final[Mapping[str, Callable[[str, Asked], Target]]] = {
    "run": _run,
    "graph": _graph,
    "checkpoint": _checkpoint,
    "model": _model,
}


def _kind(target: str) -> str:
    path = Path(target)
    if path.is_dir():
        return "run"
    if path.is_file():
        return "graph" if path.suffix == ".onnx" or is_graph(path) else "checkpoint"
    if ":" not in target and (os.sep in target or path.suffix in (".onnx", ".safetensors", ".json", ".pt", ".pth")):
        raise RunDirectoryError(f"no such file or directory '{target}'")
    networks.info(target)  # ConfigError with near names
    return "model"


def _names(targets: Sequence[str], kinds: Sequence[str]) -> list[str]:
    """The end of each path that no other has, without a file's suffix where none needs it; a model's name as it is."""
    whole = [
        (target,) if kind == "model" else Path(target).absolute().parts
        for target, kind in zip(targets, kinds, strict=True)
    ]
    if len(set(whole)) < len(whole):
        twice = next(target for target, parts in zip(targets, whole, strict=True) if whole.count(parts) > 1)
        raise ConfigError(f"'{twice}' stands there twice; name it once")
    bare = [
        (*parts[:-1], Path(parts[-1]).stem) if kind in ("graph", "checkpoint") else parts
        for parts, kind in zip(whole, kinds, strict=True)
    ]
    used = [short if bare.count(short) == 1 else parts for short, parts in zip(bare, whole, strict=True)]
    return ["/".join(own[-_unlike(own, used) :]) for own in used]


def _unlike(own: tuple[str, ...], others: Sequence[tuple[str, ...]]) -> int:
    """How many parts from the end tell it apart."""
    counts = range(1, len(own) + 1)
    return next((n for n in counts if sum(other[-n:] == own[-n:] for other in others) == 1), len(own))


def _dense(
    graph: Graph, model: Mapping[str, Any] | None, shape: Shape, asked: Asked, precision: str = "fp32"
) -> tuple[Variant, ...]:
    """Variants of a network with random weights; what is asked for in fewer bits is made of it."""
    file = asked.scratch / "dense.onnx"
    graph.save(file)
    found = [Variant("dense", file, model, None, shape, precision=precision)] if asked.wants(precision) else []
    for name in asked.lower() if precision == "fp32" else ():
        lower = asked.scratch / f"dense.{name}.onnx"
        lowered(graph, name, shape).save(lower)
        found.append(Variant("dense", lower, None, None, shape, precision=name))
    return tuple(found)


def _lower(graph: Graph, own: Variant, asked: Asked) -> tuple[tuple[Variant, ...], dict[str, str]]:
    """fp16 of a network that is no run's; int8 needs the data that it is calibrated on."""
    found, missing = [], {}
    for name in asked.lower():
        if name == "int8":
            missing[name] = _CALIBRATED
            continue
        file = asked.scratch / f"model.{name}.onnx"
        assert own.shape is not None
        lowered(graph, name, own.shape).save(file)
        found.append(Variant(own.name, file, None, None, own.shape, precision=name))
    return tuple(found), missing


def _whole(subject: Subject) -> Graph:
    """The graph of a checkpoint's network with all its channels."""
    dense = networks.build(**_arguments(subject.config), seed=subject.config.seed)
    return subject_graph(replace(subject, model=dense.eval(), mask=None))[0]


def _structure(graph: Graph) -> str:
    return hashlib.sha256(graph.without_weights()).hexdigest()


def _arguments(config: RunConfig) -> dict[str, Any]:
    return {"name": config.model, "num_classes": config.num_classes, "stem": config.stem}


def _shape(config: RunConfig) -> Shape:
    assert config.image_size is not None
    return (3, config.image_size, config.image_size)


def _sizes(files: Sequence[Path]) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in files if file.is_file()}
