"""From a trained model to an ONNX graph that says what it is and nothing else."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings

import onnx
import torch
from torch import nn

from ntksap_export.errors import ExportError
from ntksap_export.graph.model import INPUT_NAME, OUTPUT_NAME, Graph
from ntksap_export.masks import Mask


def export(model: nn.Module, sample: torch.Tensor, *, opset: int = 20, mask: Mask | None = None) -> Graph:
    """Trace `model` in eval mode with a dynamic batch; BatchNorm is folded into the convolutions.

    Args:
        model: left untouched; a float32 copy on the CPU is traced.
        sample: images (N, 3, H, W) as the model takes them; only shape and type matter.
        opset: of the default domain, 18 to 23; 20 loads in every onnxruntime since 1.17.
        mask: baked into the copy's weights, so that the graph has true zeros there.

    Raises:
        ExportError: the model cannot be traced (the operator is named), or the result is not what was asked for.
        CheckpointError: the mask does not fit the model.
    """
    twin = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if mask is not None:
        mask.apply_(twin)
    proto = _trace(twin, sample.detach().float().cpu().contiguous()[:1].repeat(2, 1, 1, 1), opset)
    _check_opset(proto, opset)
    names = {item.name for item in proto.graph.initializer}
    graph = Graph(proto, tuple(name for name, _ in twin.named_parameters() if name in names))
    if mask is not None:
        check_zeros(graph, mask)
    return graph


def _trace(model: nn.Module, sample: torch.Tensor, opset: int) -> onnx.ModelProto:
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        # torch warns about its own internals here, and on failure prints the whole traced graph
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (sample,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds; all mean that this model cannot be exported
        raise ExportError(f"torch.onnx.export failed: {_reason(error)}") from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    return program.model_proto


def _reason(error: BaseException) -> str:
    """One line of the first cause: what the exporter wraps around it is advice on how to debug the exporter."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _check_opset(proto: onnx.ModelProto, opset: int) -> None:
    """The exporter may write another opset than asked for without an error; compare with the result."""
    got = {item.domain: item.version for item in proto.opset_import}.get("")
    if got != opset:
        raise ExportError(f"asked for opset {opset}, the exporter wrote {got}; choose --opset {got}")


def check_zeros(graph: Graph, mask: Mask) -> None:
    """Check that each pruned weight is exactly zero in the graph.

    Raises:
        ExportError: a masked weight is missing or not zero; names it.
    """
    weights = dict(graph.weights())
    for name, kept in mask.items():
        if name not in weights:
            raise ExportError(f"the exported graph has no initializer '{name}'; its zeros cannot be checked")
        if weights[name][~kept.cpu().numpy()].any():
            raise ExportError(f"pruned weights of '{name}' are not zero in the exported graph")
