"""What lowering asks of a graph: constants, folded where they are computed from constants, and shapes without batch."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from ntksap_export.engine.operators import Array, Tensor
from ntksap_export.engine.steps import UncoveredError
from ntksap_export.graph.analysis import Index
from ntksap_export.graph.shapes import Shape

Batch = int | str | None
# What exporters leave between a stored weight and its use.
_FOLDED: Final = frozenset({
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Div", "Gather", "Identity", "Mul",
    "Neg", "Reciprocal", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
})  # fmt: skip


class Look:
    """One look at a model while its nodes are lowered in order.

    Attributes:
        index: of the model.
        folded: numbers of the nodes whose outputs are constant.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._folded: dict[str, int] = {}
        self._values: dict[str, Array] = {}
        self._made: dict[str, tuple[Tensor, Batch]] = {}
        self._disputed: set[str] = set()
        self.folded = {at for at in range(len(index.nodes)) if self._folds(at)}

    def attribute(self, at: int, name: str, default: Any = None) -> Any:
        """Value of an attribute of a node."""
        return self.index.attribute(at, name, default)

    def operand(self, at: int, place: int) -> str:
        """Name of an input of a node; empty where it is left out."""
        return self.index.operand(at, place)

    def constant(self, name: str) -> Array | None:
        """The value, where no caller can change it."""
        if (value := self.index.constant(name)) is not None:
            return value
        if name in self._folded and name not in self._values:
            self._fold(self._folded[name])
        return self._values.get(name)

    def needed(self, name: str) -> Array:
        """The value of a constant; refuses the node otherwise."""
        value = self.constant(name)
        if value is None:
            raise UncoveredError(self.index.why_not_constant(name))
        return value

    def tensor(self, name: str) -> Tensor:
        """Shape of a float32 value; refuses the node where its shape is open or its type is another."""
        return self._seen(name)[0]

    def batch(self, name: str) -> Batch:
        """Its first axis: a number, a name, or unknown."""
        return self._seen(name)[1]

    def shapes(self) -> dict[str, Tensor]:
        """Of every value asked for or noted."""
        return {name: tensor for name, (tensor, _) in self._made.items()}

    def note(self, name: str, tensor: Tensor, batch: Batch) -> None:
        """Remember what a covered node makes."""
        self._made[name] = (tensor, batch)

    def dispute(self, at: int) -> None:
        """Believe none of onnx's shapes from a node on: it makes another than onnx says."""
        self._disputed.update(self.index.nodes[at].output)

    def left(self, at: int) -> None:
        """A node that is not covered hands doubts about shapes on."""
        if not self._disputed.isdisjoint(self.index.nodes[at].input):
            self.dispute(at)

    def inferred(self, name: str) -> Shape | None:
        """What onnx says of a value's shape."""
        return None if name in self._disputed else self.index.shapes.get(name)

    def _seen(self, name: str) -> tuple[Tensor, Batch]:
        if name in self._made:
            return self._made[name]
        shape = self.inferred(name)
        if self.constant(name) is not None:
            raise UncoveredError(f"'{name}' is constant")
        if name in self._disputed:
            raise UncoveredError(f"onnx may be wrong about the shape of '{name}'")
        if shape is None:
            raise UncoveredError(f"the shape of '{name}' is not known")
        if (kind := self.index.types[name]) != onnx.TensorProto.FLOAT:
            raise UncoveredError(f"'{name}' is {onnx.TensorProto.DataType.Name(kind).lower()}, not float32")
        if len(shape) not in (2, 4):
            raise UncoveredError(f"'{name}' has {len(shape)} axes, not 2 or 4")
        sizes = [size for size in shape[1:] if isinstance(size, int)]
        if len(sizes) != len(shape) - 1:
            axes = ", ".join(str(size or "?") for size in shape)
            raise UncoveredError(f"'{name}' leaves other axes than the batch open: ({axes})")
        if min(sizes) < 1:
            raise UncoveredError(f"'{name}' is empty")
        self._made[name] = (Tensor.of(sizes), shape[0])
        return self._made[name]

    def _folds(self, at: int) -> bool:
        node = self.index.nodes[at]
        if not self.index.is_standard(at) or node.op_type not in _FOLDED or not any(node.output):
            return False
        if any(name and name not in self._folded and self.index.constant(name) is None for name in node.input):
            return False
        self._folded.update(dict.fromkeys((name for name in node.output if name), at))
        return True

    def _fold(self, at: int) -> None:
        node = self.index.nodes[at]
        given = {name: self.constant(name) for name in node.input if name}
        stored = [numpy_helper.from_array(value, name) for name, value in given.items() if value is not None]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        graph = onnx.GraphProto(name="constant", node=[node], initializer=stored, output=outputs)
        model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=self.index.proto.opset_import)
        try:
            with np.errstate(all="ignore"):
                made = ReferenceEvaluator(model).run(None, {})
        except Exception as error:  # whatever numpy says of a graph that contradicts itself
            raise UncoveredError(f"'{node.output[0]}' could not be computed") from error
        self._values.update(zip((value.name for value in outputs), map(np.asarray, made), strict=True))
