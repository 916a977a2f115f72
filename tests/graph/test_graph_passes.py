from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from ntksap_export.graph import PASSES, Graph, optimize
from ntksap_export.graph.passes import flush_subnormals, strip_metadata

from .conftest import Case
from .graph_cases import BRANCHES, TINY, initializer, parse

TYPES = {"float": np.float32, "float16": np.float16, "double": np.float64}


def _outputs(graph: Graph, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.to_bytes(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"images": images})[0])


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_keeps_outputs_zeros_and_its_argument(case: Case, name: str) -> None:
    before = case.graph.to_bytes()
    images = np.random.default_rng(0).standard_normal((3, 3, 32, 32), dtype=np.float32)

    graph, log = optimize(case.graph, (name,))

    assert before == case.graph.to_bytes()
    assert case.graph.parameters == graph.parameters
    assert [name] == [line.partition(": ")[0] for line in log]
    np.testing.assert_allclose(_outputs(graph, images), _outputs(case.graph, images), atol=1e-6, rtol=1e-6)
    after = dict(graph.weights())
    assert all(np.array_equal(values == 0, after[key] == 0) for key, values in case.graph.weights())


def test_optimize_runs_the_passes_in_order_on_a_copy() -> None:
    proto = parse(b=np.array([1e-40, 1], np.float32))
    proto.doc_string = "made at home"
    graph = Graph(proto, ("w", "b"))
    before = graph.to_bytes()

    optimized, log = optimize(graph)

    assert ("flush_subnormals: 1 subnormal values set to zero", "strip_metadata: 1 notes removed") == log
    assert [0, 1] == initializer(optimized.proto, "b").tolist()
    assert "" == optimized.proto.doc_string
    assert before == graph.to_bytes()


def test_optimize_twice_changes_nothing_more(optimized: Graph) -> None:
    again, log = optimize(optimized)

    assert optimized.to_bytes() == again.to_bytes()
    assert ("flush_subnormals: 0 subnormal values set to zero", "strip_metadata: 0 notes removed") == log


@pytest.mark.parametrize("kind", TYPES)
def test_flush_subnormals_writes_zeros_and_keeps_the_rest(kind: str) -> None:
    limits = np.finfo(TYPES[kind])
    smallest, tiny = limits.smallest_normal, limits.smallest_subnormal
    values = np.array([tiny, -tiny, np.nextafter(smallest, tiny), smallest, -smallest, 0.0, -0.0, 1.5], TYPES[kind])
    values = np.concatenate([values, np.array([np.nan, np.inf, -np.inf, limits.max], TYPES[kind])])
    proto = parse(TINY.replace("float[2] b = {0, 1}", f"{kind}[12] b = {{{', '.join(12 * '0')}}}"), b=values)
    expected = values.copy()
    expected[:3] = 0

    said = flush_subnormals.apply_(proto)

    actual = initializer(proto, "b")
    assert "3 subnormal values set to zero" == said
    assert TYPES[kind] == actual.dtype
    assert expected.tobytes() == actual.tobytes()
    assert [[1, 0], [-1, 2], [0, 3]] == initializer(proto, "w").tolist()


def test_flush_subnormals_counts_over_all_initializers() -> None:
    weight = np.full((3, 2), 1e-41, np.float32)
    weight[1, 1] = 2
    proto = parse(w=weight, b=np.array([-1e-39, 1e-37], np.float32))

    said = flush_subnormals.apply_(proto)

    assert "6 subnormal values set to zero" == said
    assert [[0, 0], [0, 2], [0, 0]] == initializer(proto, "w").tolist()
    assert [np.float32(0), np.float32(1e-37)] == initializer(proto, "b").tolist()


def test_flush_subnormals_leaves_integers_and_a_clean_graph_alone() -> None:
    proto = parse(TINY.replace("float[2] b = {0, 1}", "int64[2] b = {0, 1}, float scalar = {2}, float[0] none = {}"))
    before = proto.SerializeToString(deterministic=True)

    said = flush_subnormals.apply_(proto)

    assert "0 subnormal values set to zero" == said
    assert before == proto.SerializeToString(deterministic=True)


def test_strip_metadata_clears_every_note_and_nothing_else() -> None:
    clean = parse().SerializeToString(deterministic=True)
    proto = parse()
    proto.producer_name, proto.producer_version = "somebody", "7"
    graph = proto.graph
    graph.value_info.append(onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, ("batch", 3)))
    noted = (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for item in noted:
        item.doc_string = "from /somewhere/model.py"
        item.metadata_props.add(key="stack_trace", value="/somewhere/model.py")

    said = strip_metadata.apply_(proto)

    assert f"{2 * len(noted)} notes removed" == said
    assert b"somewhere" not in proto.SerializeToString()
    assert ("somebody", "7") == (proto.producer_name, proto.producer_version)
    assert ["flat"] == [value.name for value in graph.value_info]
    proto.ClearField("producer_name")
    proto.ClearField("producer_version")
    del graph.value_info[:]
    _drop_empty_notes(proto)
    assert clean == proto.SerializeToString(deterministic=True)


def test_strip_metadata_goes_into_branches_and_functions() -> None:
    proto = parse(BRANCHES)
    choice = proto.graph.node[1]
    bodies = [attribute.g for attribute in choice.attribute]
    function = proto.functions[0]
    noted = [function, *function.node, *bodies, *(node for body in bodies for node in body.node)]
    noted += [value for body in bodies for value in body.output]
    for item in noted:
        item.doc_string = "from /somewhere/model.py"
        item.metadata_props.add(key="stack_trace", value="/somewhere/model.py")

    said = strip_metadata.apply_(proto)

    assert f"{2 * len(noted)} notes removed" == said
    assert b"somewhere" not in proto.SerializeToString()
    onnx.checker.check_model(proto)


def _drop_empty_notes(proto: onnx.ModelProto) -> None:
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        assert "" == item.doc_string
        item.ClearField("doc_string")
