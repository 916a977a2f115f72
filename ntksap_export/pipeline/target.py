"""A target of `ntksap profile` as variants to measure, and several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from ntksap_export.errors import ConfigError
from ntksap_export.pipeline.precisions import PRECISIONS
from ntksap_export.profiling.profile import Variant

ENGINE: Final = "engine"  # name of the variant that runs in the sparse engine
_FLOAT: Final = ("fp32", "bf16")  # bf16 is how a backend computes, not another file


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of every target.

    Attributes:
        precisions: None is every one that a target has.
        settings: `image_size` and `num_classes`, where they were given.
        scratch: a folder for graphs that live only while they are measured.
    """

    precisions: tuple[str, ...] | None
    settings: Mapping[str, Any]
    scratch: Path

    def wants(self, precision: str) -> bool:
        """Whether a network of this precision is to be measured."""
        if self.precisions is None:
            return True
        return any(name in self.precisions for name in (_FLOAT if precision == "fp32" else (precision,)))

    def lower(self) -> tuple[str, ...]:
        """The precisions asked for that are files of their own."""
        return tuple(name for name in PRECISIONS if self.precisions is not None and name in self.precisions)


@dataclass(frozen=True, slots=True)
class Target:
    """One target, opened.

    Attributes:
        name: short, and of no other target.
        own: the network itself, in each of its precisions, and for the sparse engine.
        twin: the dense network beside it, likewise; empty for one that is dense.
        structure: digest of the dense network's graph without weights; two twins with one are the same.
        files: bytes of its files by name.
        missing: precisions that were asked for and are not there, each with what makes it.
    """

    name: str
    own: tuple[Variant, ...]
    twin: tuple[Variant, ...]
    structure: str
    files: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def check_backends(targets: Sequence[Target], backends: Sequence[str]) -> None:
    """Refuse backends that cannot run a target which is nothing but a graph for the sparse engine.

    Raises:
        ConfigError: names both.
    """
    others = [name for name in backends if name != "onnxruntime"]
    for target in targets:
        if others and target.own and all(variant.engine for variant in target.own):
            raise ConfigError(
                f"{target.name}.onnx is for the sparse engine, which runs in onnxruntime; got --backend "
                f"{','.join(others)}, profile model.onnx there"
            )


def called(target: Target, variant: Variant) -> str:
    """What one of a target's own networks is called among several targets."""
    beside = variant.engine and any(not other.engine for other in target.own)
    return f"{target.name} {ENGINE}" if beside else target.name


def side_by_side(targets: Sequence[Target]) -> tuple[list[Variant], str | None]:
    """The variants of all targets, and the name of the one that the others are compared with.

    One target keeps its variants' names. Of several each network is called what its target is; a dense twin that
    several have in common is measured once, and not at all where a target is the dense network itself.
    """
    if len(targets) == 1:
        return [*targets[0].own, *targets[0].twin], None
    dense = {target.structure: target.name for target in targets if target.own and not target.twin}
    twins: dict[str, Target] = {}
    for target in sorted(targets, key=lambda item: all(variant.model is None for variant in item.twin)):
        if target.twin and target.structure not in dense:
            twins.setdefault(target.structure, target)
    names = {key: "dense" if len(twins) == 1 else f"{target.name} dense" for key, target in twins.items()}
    variants = [replace(variant, name=called(target, variant)) for target in targets for variant in target.own]
    variants += [replace(variant, name=names[key]) for key, target in twins.items() for variant in target.twin]
    return variants, next(iter((*names.values(), *dense.values())))
