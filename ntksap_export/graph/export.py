"""From a trained model to an ONNX graph that says what it is and nothing else.

What `torch.onnx.export` leaves to chance is settled here: the opset is compared with what was written, initializers
have the names of the parameters (`graph.naming`), outputs have names, and dynamic axes are looked for in the result.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import re
import sys
import warnings
from typing import Any

import onnx
import torch
from torch import nn
from torch.utils import _pytree

from ntksap_export.errors import ExportError
from ntksap_export.graph import opset as opsets
from ntksap_export.graph.model import INPUT_NAME, OUTPUT_NAME, Graph
from ntksap_export.graph.naming import name_initializers_, norms_after
from ntksap_export.masks import Mask
from ntksap_export.quoting import first_line

_SIDES = {2: "height", 3: "width"}


def export(
    model: nn.Module,
    sample: torch.Tensor,
    *,
    opset: int = opsets.DEFAULT,
    mask: Mask | None = None,
    dynamic_size: bool = False,
) -> Graph:
    """Trace `model` in eval mode with a dynamic batch; BatchNorm is folded into the convolutions.

    The input is called `images`. One output is called `logits`; several have the keys that the model returns them
    under, those of a tuple are `logits`, `output_1`, ...

    Args:
        model: left untouched; a float32 copy on the CPU is traced.
        sample: images (N, 3, H, W) as the model takes them; only shape and type matter.
        opset: of the default domain, 17 to 23; 20 loads in every onnxruntime since 1.17.
        mask: baked into the copy's weights, so that the graph has true zeros there.
        dynamic_size: leave height and width open too.

    Raises:
        ExportError: the model cannot be traced (the operator is named), or the result is not what was asked for.
        CheckpointError: the mask does not fit the model.
    """
    opsets.check_known(opset)
    twin = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if mask is not None:
        mask.apply_(twin)
    images = sample.detach().float().cpu().contiguous()[:1].repeat(2, 1, 1, 1)
    outputs, folded = _tried(twin, images)
    if dynamic_size:
        _check_other_size(twin, images)
    program = _traced(twin, images, opset, outputs, dynamic_size)
    proto = program.model_proto
    if dynamic_size:
        _check_open(proto)
    name_initializers_(proto, twin, folded)
    proto = opsets.stepped_down(proto, opset)
    opsets.check_written(proto, opset)
    names = {item.name for item in proto.graph.initializer}
    graph = Graph(proto, tuple(name for name, _ in twin.named_parameters() if name in names))
    if mask is not None:
        unused = _unused(program)
        check_zeros(graph, Mask({name: kept for name, kept in mask.items() if name not in unused}))
    return graph


@torch.no_grad()
def _tried(model: nn.Module, images: torch.Tensor) -> tuple[list[str], dict[str, str]]:
    """Call the model once: names for its outputs, and which norm follows which layer."""
    with norms_after(model) as folded, contextlib.redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]):
        try:
            result = model(images)
        except Exception as error:
            raise ExportError(
                f"the model cannot take images of shape {tuple(images.shape)}: {first_line(error)}; "
                "give it a sample that it takes"
            ) from error
    leaves, _ = _pytree.tree_flatten_with_path(result)
    found = [path for path, value in leaves if isinstance(value, torch.Tensor)]
    if not found:
        raise ExportError(f"the model must answer tensors; got {type(result).__name__}. Wrap it in a module that does")
    return _output_names(found), folded


@torch.no_grad()
def _check_other_size(model: nn.Module, images: torch.Tensor) -> None:
    """The exporter leaves sides open that a Linear after a flatten fixes: ask the model itself."""
    twice = images.repeat(1, 1, 2, 2)
    try:
        with contextlib.redirect_stdout(sys.stderr), torch.random.fork_rng(devices=[]):
            model(twice)
    except Exception as error:
        raise ExportError(
            f"the model takes no images of other sizes: {first_line(error)} at {tuple(twice.shape[2:])}; "
            "leave --dynamic-size away"
        ) from error


def _output_names(paths: list[tuple[Any, ...]]) -> list[str]:
    names: list[str] = []
    for number, path in enumerate(paths):
        keys = [str(key) for step in path if isinstance(key := getattr(step, "key", getattr(step, "name", None)), str)]
        usual = f"output_{number}" if number else OUTPUT_NAME
        name = re.sub(r"\W", "_", ".".join(keys)) if keys else usual
        names.append(usual if name in (*names, INPUT_NAME) else name)
    return names


def _traced(
    model: nn.Module, images: torch.Tensor, opset: int, outputs: list[str], dynamic_size: bool
) -> torch.onnx.ONNXProgram:
    axes = {0: torch.export.Dim("batch")}
    if dynamic_size:
        axes |= {axis: torch.export.Dim(name) for axis, name in _SIDES.items()}
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # what it logs at this opset the checks of the result say better
    try:
        # torch warns about its own internals here, and on failure prints the whole traced graph
        unheard = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(unheard), contextlib.redirect_stdout(unheard):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                opset_version=max(opset, opsets.LOWEST_WRITTEN),
                input_names=[INPUT_NAME],
                output_names=outputs,
                dynamic_shapes=(axes,),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds; all mean that this model cannot be exported
        raise ExportError(_explained(error, opset, dynamic_size)) from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    return program


def _explained(error: BaseException, opset: int, dynamic_size: bool) -> str:
    """One line of the first cause, and what to do: what the exporter wraps around it is advice on debugging it."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = first_line(error)
    if found := re.search(r"No ONNX function found for .*?op='([\w.]+)'", said):
        return (
            f"operator {found[1]} has no ONNX form at opset {opset}; write it with other operators in the model's "
            "forward, or try a higher --opset"
        )
    if "data-dependent" in said:
        return (
            f"the model decides by the values of its input, which a graph cannot follow: {said}; "
            "use torch.where or torch.cond"
        )
    if dynamic_size and type(error).__name__ in ("ValueError", "UserError", "ConstraintViolationError"):
        return f"the model takes no images of other sizes: {said}; leave --dynamic-size away"
    return f"torch.onnx.export failed: {said}; change the model's forward, or export a part of it"


def _check_open(proto: onnx.ModelProto) -> None:
    """The exporter fixes an axis without a word where the model compares it with a number."""
    sides = proto.graph.input[0].type.tensor_type.shape.dim
    fixed = [f"{name} {sides[axis].dim_value}" for axis, name in _SIDES.items() if not sides[axis].dim_param]
    if fixed:
        raise ExportError(
            f"the model takes no images of other sizes: it asks for {' and '.join(fixed)}; leave --dynamic-size away"
        )


def _unused(program: torch.onnx.ONNXProgram) -> set[str]:
    """Parameters that the model holds and never computes with: they are in no graph."""
    exported = program.exported_program
    if exported is None:
        return set()
    names = exported.graph_signature.inputs_to_parameters
    used = {node.name for node in exported.graph.nodes if node.op == "placeholder" and node.users}
    return {name for placeholder, name in names.items() if placeholder not in used}


def check_zeros(graph: Graph, mask: Mask) -> None:
    """Check that each pruned weight is exactly zero in the graph.

    Raises:
        ExportError: a masked weight is missing or not zero; names it.
    """
    weights = dict(graph.weights())
    for name, kept in mask.items():
        if kept.all():
            continue
        turned = f"{name}.T" in weights
        if name not in weights and not turned:
            layer = name.removesuffix(".weight")
            raise ExportError(
                f"the graph has no weight '{name}': layer '{layer}' computes another one of it in forward, where a "
                f"pruned weight may be no zero; prune with --keep-dense {layer}, or store what it computes as its "
                "weight"
            )
        values = weights[f"{name}.T"].T if turned else weights[name]
        if values[~kept.cpu().numpy()].any():
            raise ExportError(f"pruned weights of '{name}' are not zero in the exported graph")
