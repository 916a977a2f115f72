"""Graph passes, one file each.

    graph, log = optimize(graph, PASSES)

A pass is a function `apply_(proto) -> Outcome`: it changes the model in place, keeps what the graph computes, leaves
alone what it does not know (custom domains, subgraphs, unknown operators), and returns what it changed and what it
left, with the reason. It may be given any valid model, not only ours.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import cast

import onnx

from ntksap_export.errors import ConfigError, ExportError
from ntksap_export.graph.files import check_valid
from ntksap_export.graph.model import Graph
from ntksap_export.graph.passes.outcome import Outcome, PassLog
from ntksap_export.quoting import first_line

__all__ = ["PASSES", "Outcome", "PassLog", "optimize", "pass_summary", "select_passes"]

# In the order in which they run.
PASSES: dict[str, str] = {
    "fold_batchnorm": "ntksap_export.graph.passes.fold_batchnorm:apply_",
    "flush_subnormals": "ntksap_export.graph.passes.flush_subnormals:apply_",
    "drop_dead_channels": "ntksap_export.graph.passes.drop_dead_channels:apply_",
    "strip_metadata": "ntksap_export.graph.passes.strip_metadata:apply_",
}


def select_passes(words: Sequence[str] = ()) -> tuple[str, ...]:
    """The passes that `--passes` asks for.

    Names take the place of the usual list, in the order given; `-NAME` takes one out of whichever list it is, and
    `none` alone is the empty one. No words: the usual list, which is the whole table.

    Raises:
        ConfigError: a name that is not in the table.
    """
    if tuple(words) == ("none",):
        return ()
    for word in words:
        if word.removeprefix("-") not in PASSES:
            raise ConfigError(
                f"unknown pass '{word.removeprefix('-')}'; choose from {', '.join(PASSES)}, put - before one to leave "
                "it out, or write none alone"
            )
    out = {word[1:] for word in words if word.startswith("-")}
    named = [word for word in words if not word.startswith("-")]
    return tuple(name for name in named or PASSES if name not in out)


def pass_summary(name: str) -> str:
    """What a pass is for: the first sentence of its file."""
    return str(import_module(PASSES[name].partition(":")[0]).__doc__).partition("\n\n")[0].rstrip(".")


def optimize(graph: Graph, passes: Iterable[str] = tuple(PASSES)) -> tuple[Graph, tuple[PassLog, ...]]:
    """Run the named passes in order over a copy of `graph`.

    Returns:
        The new graph, and what each pass did; as text `name: what it did`.

    Raises:
        ExportError: a pass made a graph that is not valid, which is a bug; says how to go on without it.
    """
    proto = copy.deepcopy(graph.proto)
    log = []
    for name in passes:
        module, function = PASSES[name].split(":")
        apply_ = cast("Callable[[onnx.ModelProto], Outcome]", getattr(import_module(module), function))
        log.append(PassLog(name, apply_(proto)))
        try:
            check_valid(proto)
        except onnx.checker.ValidationError as error:
            raise ExportError(
                f"the pass {name} broke the graph ({first_line(error)}); leave it out with --passes -{name}"
            ) from error
    there = {item.name for item in proto.graph.initializer}
    return Graph(proto, tuple(name for name in graph.parameters if name in there)), tuple(log)
