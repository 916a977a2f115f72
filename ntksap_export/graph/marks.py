"""Marks on a graph's names that survive a runtime's fusions, so that what it ran can be traced back to its nodes.

Runtimes name what they make of several nodes after these nodes or after their values: a convolution that onnxruntime
moved to another layout is called after the value of the last node that it took in. So each node and each value carries
the number of its node.

    Conv -> Relu    becomes    "Conv~0~" gives "v~0~0", "Relu~1~" gives "v~1~0"
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass

from ntksap_export.graph.model import Graph
from ntksap_export.graph.naming import rename_uses_

_MARK = re.compile(r"~(\d+)~")


@dataclass(frozen=True, slots=True)
class Marked:
    """A graph that computes the same under marked names.

    Attributes:
        graph: its inputs, outputs and initializers have the names they had.
        outputs: name of an output of the graph -> number of the node that makes it.
    """

    graph: Graph
    outputs: dict[str, int]

    def origins(self, name: str) -> tuple[int, ...]:
        """Numbers of the nodes that a runtime's name speaks of, ascending; empty where it speaks of none."""
        found = {int(number) for number in _MARK.findall(name)}
        found |= {at for part in name.split(",") if (at := self._output(part.strip())) is not None}
        return tuple(sorted(found))

    def _output(self, name: str) -> int | None:
        fits = [output for output in self.outputs if re.match(rf"{re.escape(output)}(?![0-9A-Za-z])", name)]
        return self.outputs[max(fits, key=len)] if fits else None


def marked(graph: Graph) -> Marked:
    """A copy with the number of each node of the outermost graph in the node's name and in those of its values."""
    proto = copy.deepcopy(graph.proto)
    fixed = {item.name for item in proto.graph.output}
    changed: dict[str, str] = {}
    outputs: dict[str, int] = {}
    for at, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}~{at}~"
        for place, name in enumerate(node.output):
            if name in fixed:
                outputs[name] = at
            elif name:
                changed[name] = node.output[place] = f"v~{at}~{place}"
    rename_uses_(proto.graph, changed)
    for value in proto.graph.value_info:
        value.name = changed.get(value.name, value.name)
    return Marked(Graph(proto, graph.parameters), outputs)
