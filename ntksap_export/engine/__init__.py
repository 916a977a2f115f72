"""The sparse CPU engine: the convolutional body of a graph as one node of a library that skips the zeros.

converted = convert(graph)                  # the plan, with the weights, inside the graph
converted.graph.save(path)
register(session_options)                   # then onnxruntime opens it like any graph
"""

from ntksap_export.engine.convert import ENGINE_DOMAIN, Converted, Left, convert, plans
from ntksap_export.engine.plan_bytes import plan_to_bytes
from ntksap_export.engine.plan_reader import plan_from_bytes

__all__ = ["ENGINE_DOMAIN", "Converted", "Left", "convert", "plan_from_bytes", "plan_to_bytes", "plans"]
