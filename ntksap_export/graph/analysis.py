"""What passes ask of a graph: who makes a value, who reads it, which values are constant, what shapes they have.

Only the main graph is looked at. A value that a subgraph reads counts as read by something unknown.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from ntksap_export.graph.shapes import infer_shapes

Array = npt.NDArray[Any]

FLOATS: Final = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
_OVERRIDABLE_SINCE: Final = 4  # IR version: from it on, an initializer that is also an input is a default
_CONSTANT_FIELDS: Final = {
    "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64,
}  # fmt: skip


class Index:
    """One look at a model. What changes through its methods it notices; other changes want a new one.

    Attributes:
        nodes: of the main graph, in order.
        opset: version of the default domain; 0 where there is none.
        shapes: of the values whose rank is known; an axis is a number, a name, or None.
        types: element types of the same values.
        outputs: names of the graph's outputs.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        graph = proto.graph
        self.proto = proto
        self.nodes = list(graph.node)
        self.opset = next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)
        self.outputs = {value.name for value in graph.output}
        self.captured = {name for node in self.nodes for name in captured(node)}
        self._maker = {name: at for at, node in enumerate(self.nodes) for name in node.output if name}
        self._readers: dict[str, list[tuple[int, int]]] = {}
        for at, node in enumerate(self.nodes):
            for place, name in enumerate(node.input):
                self._readers.setdefault(name, []).append((at, place))
        self._initializers = {item.name: item for item in graph.initializer}
        defaults = proto.ir_version >= _OVERRIDABLE_SINCE
        self._sparse = {item.values.name for item in graph.sparse_initializer}
        self._defaults = {value.name for value in graph.input} & self._initializers.keys() if defaults else set()
        self._arrays: dict[str, Array] = {}
        self._removed: set[int] = set()
        self.shapes, self.types = infer_shapes(proto)

    def is_standard(self, at: int) -> bool:
        """Whether the node is of ONNX's own domain and has no graph inside."""
        node = self.nodes[at]
        plain = all(item.type not in (item.GRAPH, item.GRAPHS) for item in node.attribute)
        return node.domain in ("", "ai.onnx") and plain

    def maker(self, name: str) -> int | None:
        """The node that makes a value; None for an input or an initializer."""
        return self._maker.get(name)

    def readers(self, name: str) -> tuple[tuple[int, int], ...]:
        """(node, place among its inputs) of each reader."""
        return tuple(self._readers.get(name, ()))

    def is_seen(self, name: str) -> bool:
        """Whether a value leaves the main graph: an output of it, or read by a subgraph."""
        return name in self.outputs or name in self.captured

    def attribute(self, at: int, name: str, default: Any = None) -> Any:
        """Value of an attribute; strings as str."""
        for item in self.nodes[at].attribute:
            if item.name == name:
                value = helper.get_attribute_value(item)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default

    def operand(self, at: int, place: int) -> str:
        """Name of an input of a node; empty where it is left out."""
        inputs = self.nodes[at].input
        return inputs[place] if place < len(inputs) else ""

    def constant(self, name: str) -> Array | None:
        """The value, if no caller can change it: an initializer, a Constant, or an Identity of one; else None."""
        if name not in self._arrays:
            value = self._read(name)
            if value is None:
                return None
            self._arrays[name] = value
        return self._arrays[name]

    def why_not_constant(self, name: str) -> str:
        """In a few words why `constant` gives None."""
        if name in self._defaults:
            return f"'{name}' is also an input, which a caller may set"
        if name in self._sparse:
            return f"'{name}' is a sparse initializer; `ntksap convert` makes it dense"
        return f"'{name}' is not constant"

    def fresh(self, name: str) -> str:
        """A name like `name` that nothing has."""
        taken = self._names()
        numbered = (f"{name}_{number}" for number in itertools.count(1))
        return next(new for new in itertools.chain([name], numbered) if new not in taken)

    def write(self, at: int, place: int, value: Array) -> None:
        """Give a node another constant; who else reads the old one keeps it."""
        node = self.nodes[at]
        name = node.input[place] if place < len(node.input) else ""
        if name in self._initializers and len(self._readers[name]) == 1 and not self.is_seen(name):
            self._initializers[name].CopyFrom(numpy_helper.from_array(value, name))
            self._arrays[name] = value
            self._resize_notes(name, value.shape)
            return
        if not name:  # a bias where there was none
            weight = node.input[1]
            name = f"{weight.removesuffix('weight')}bias" if weight.endswith(".weight") else f"{node.output[0]}_bias"
        self.point(at, place, self.add(name, value))

    def add(self, like: str, value: Array) -> str:
        """A new initializer; its name."""
        name = self.fresh(like)
        self.proto.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self._initializers[name] = self.proto.graph.initializer[-1]
        self._arrays[name] = value
        if self.proto.ir_version < _OVERRIDABLE_SINCE:  # must be listed there, too
            kind = self._initializers[name].data_type
            self.proto.graph.input.append(helper.make_tensor_value_info(name, kind, value.shape))
        return name

    def point(self, at: int, place: int, name: str) -> None:
        """Let a node read `name` at `place`; what nothing reads any more is gone after `sweep`."""
        node = self.nodes[at]
        while len(node.input) <= place:
            node.input.append("")
        old = node.input[place]
        if old:
            self._readers[old].remove((at, place))
        node.input[place] = name
        self._readers.setdefault(name, []).append((at, place))
        if old:
            self._drop_unread([old])

    def remove(self, at: int) -> None:
        """Take a node out, whose outputs nothing reads; and what only it read."""
        self._removed.add(at)
        names = [name for name in self.nodes[at].input if name]
        for place, name in enumerate(self.nodes[at].input):
            if name:
                self._readers[name].remove((at, place))
        self._drop_unread(names)

    def bypass(self, at: int, name: str) -> None:
        """Let all who read the first output of a node read `name`, and take the node out.

        What the outside sees keeps its name: the node then becomes an Identity.
        """
        node = self.nodes[at]
        output = node.output[0]
        if self.is_seen(output):
            old = [item for item in node.input if item]
            for place, item in enumerate(node.input):
                if item:
                    self._readers[item].remove((at, place))
            node.CopyFrom(helper.make_node("Identity", [name], [output], name=node.name))
            self._readers.setdefault(name, []).append((at, 0))
            self._drop_unread(old)
            return
        for reader, place in self.readers(output):
            self.point(reader, place, name)
        if at not in self._removed:
            self.remove(at)

    def sweep(self, changed: Iterable[str] = ()) -> None:
        """Carry out the removals, and forget the noted shapes of `changed`. The index is then of no use."""
        graph = self.proto.graph
        stale = set(changed) | {name for at in self._removed for name in self.nodes[at].output}
        for at in sorted(self._removed, reverse=True):
            del graph.node[at]
        for place in reversed(range(len(graph.value_info))):
            if graph.value_info[place].name in stale:
                del graph.value_info[place]

    def _drop_unread(self, names: Iterable[str]) -> None:
        for name in names:
            if self._readers.get(name) or self.is_seen(name):
                continue
            at = self._maker.get(name)
            if at is None:
                self._drop_initializer(name)
            elif at not in self._removed and not any(
                self._readers.get(other) or self.is_seen(other) for other in self.nodes[at].output if other
            ):
                self.remove(at)

    def _drop_initializer(self, name: str) -> None:
        graph = self.proto.graph
        for place, item in enumerate(graph.initializer):
            if item.name == name and name not in self._defaults:
                del graph.initializer[place]
                del self._initializers[name]
                inputs = [at for at, value in enumerate(graph.input) if value.name == name]
                for at in inputs:
                    del graph.input[at]
                return

    def _resize_notes(self, name: str, shape: tuple[int, ...]) -> None:
        # old exporters list initializers among the inputs, with their shapes; new ones among the noted values
        for value in (*self.proto.graph.input, *self.proto.graph.value_info):
            if value.name == name:
                kind = value.type.tensor_type.elem_type
                value.CopyFrom(helper.make_tensor_value_info(name, kind, shape))

    def _read(self, name: str) -> Array | None:
        if name in self._defaults:
            return None
        if name in self._initializers:
            return numpy_helper.to_array(self._initializers[name])
        at = self._maker.get(name)
        if at is None or not self.is_standard(at):
            return None
        node = self.nodes[at]
        if node.op_type == "Identity":
            return self.constant(node.input[0])
        if node.op_type != "Constant":
            return None
        tensor = self.attribute(at, "value")
        if tensor is not None:
            return numpy_helper.to_array(tensor)
        for field, kind in _CONSTANT_FIELDS.items():
            if (plain := self.attribute(at, field)) is not None:
                return np.asarray(plain, kind)
        return None

    def _names(self) -> set[str]:
        graph = self.proto.graph
        names = {value.name for value in (*graph.input, *graph.output)} | self._initializers.keys() | self.captured
        names |= self._sparse
        return names | {name for node in self.nodes for name in (*node.input, *node.output, *_inner(node))}


def captured(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the graphs inside a node read; some may be of their own values."""
    for graph in _graphs(node):
        for inner in graph.node:
            yield from inner.input
            yield from captured(inner)
        yield from (value.name for value in graph.output)  # may be a value of the outer graph


def _inner(node: onnx.NodeProto) -> Iterator[str]:
    for graph in _graphs(node):
        yield from (item.name for item in (*graph.input, *graph.output, *graph.initializer))
        for inner in graph.node:
            yield from inner.output
            yield from _inner(inner)


def _graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for item in node.attribute:
        if item.type == item.GRAPH:
            yield item.g
        elif item.type == item.GRAPHS:
            yield from item.graphs
