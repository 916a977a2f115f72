"""To and from `torch.nn.utils.prune`, which keeps a mask as a buffer beside the weight and multiplies at each forward.

There a pruned layer has `weight_orig` (a parameter), `weight_mask` (a buffer) and weight = weight_orig * weight_mask.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import prune

from ntksap_export.errors import CheckpointError
from ntksap_export.masks.mask import Mask


def to_torch_prune_(model: nn.Module, mask: Mask) -> None:
    """Register `mask` on the layers of `model` as `torch.nn.utils.prune` does, in place.

    The values stay, pruned ones too, in `weight_orig`; `torch.nn.utils.prune.remove(layer, "weight")` makes the zeros
    permanent. A weight that two layers share is masked in both. Optimizers go on with the same parameters.

    Raises:
        CheckpointError: the mask does not fit the model, or torch prunes one of its weights already; nothing changes.
    """
    for name in mask:
        if f"{name}_orig" in dict(model.named_parameters()):
            layer = name.rpartition(".")[0]
            raise CheckpointError(
                f"'{layer}' is pruned by torch.nn.utils.prune already; "
                'make that permanent with torch.nn.utils.prune.remove(layer, "weight") first'
            )
    mask.check_fits(model)
    parameters = dict(model.named_parameters())
    owners = [
        (module, key, parameter)
        for module in model.modules()
        for key, parameter in module.named_parameters(recurse=False)
    ]
    for name, kept in mask.items():
        for module, key, parameter in owners:
            if parameter is parameters[name]:
                prune.custom_from_mask(module, key, kept.to(parameter.device))  # type: ignore[no-untyped-call]


def from_torch_prune(model: nn.Module) -> Mask:
    """The mask that `torch.nn.utils.prune` holds on `model`, under the names that its weights have without it.

    Conv2d and Linear weights that torch does not prune are all kept. `model` is left as it is.

    Raises:
        CheckpointError: a mask has values other than 0 and 1, or something else than such a weight is pruned.
    """
    parameters = dict(model.named_parameters())  # a weight shared by two layers has one name here
    tensors: dict[str, torch.Tensor] = {}
    for prefix, module in model.named_modules():
        name = f"{prefix}.weight" if prefix else "weight"
        if isinstance(module, nn.Conv2d | nn.Linear) and (name in parameters or f"{name}_orig" in parameters):
            tensors[name] = _kept(name, module)
    _check_nothing_else(model, tensors)
    return Mask(tensors)


def _kept(name: str, module: nn.Module) -> torch.Tensor:
    values = module._buffers.get("weight_mask")
    if values is None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        return torch.ones_like(weight, dtype=torch.bool)
    kept = values != 0
    if not torch.equal(kept.to(values.dtype), values):
        other = values[(values != 0) & (values != 1)].flatten()[0].item()
        raise CheckpointError(f"'{name}_mask' must hold 0 and 1 only; got {other:g}. Round it before")
    return kept


def _check_nothing_else(model: nn.Module, known: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        plain = name.removesuffix("_orig")
        if name != plain and plain not in known and f"{plain}_mask" in dict(model.named_buffers()):
            raise CheckpointError(
                f"torch prunes '{plain}', of shape {tuple(parameter.shape)}; a mask holds weights of Conv2d and Linear "
                "only. Make it permanent with torch.nn.utils.prune.remove first"
            )
