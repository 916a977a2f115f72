from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from ntksap_export.errors import ConfigError, ExportError
from ntksap_export.graph import PASSES, Graph, PassLog, optimize, select_passes
from ntksap_export.graph.passes import flush_subnormals, strip_metadata
from ntksap_export.graph.passes.outcome import Left, Outcome

from .conftest import Case
from .graph_cases import BRANCHES, TINY, initializer, parse

TYPES = {"float": np.float32, "double": np.float64}


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
    assert [name] == [entry.name for entry in log]
    np.testing.assert_allclose(_outputs(graph, images), _outputs(case.graph, images), atol=1e-6, rtol=1e-6)
    after = dict(graph.weights())
    assert all(np.array_equal(values == 0, after[key] == 0) for key, values in case.graph.weights())


def test_optimize_runs_the_passes_in_order_on_a_copy() -> None:
    proto = parse(b=np.array([1e-40, 1], np.float32))
    proto.doc_string = "made at home"
    graph = Graph(proto, ("w", "b"))
    before = graph.to_bytes()

    optimized, log = optimize(graph)

    said = {entry.name: entry.outcome.said for entry in log}
    assert list(PASSES) == list(said)
    assert "1 subnormal values set to zero, 0 negative zeros of weights made positive" == said["flush_subnormals"]
    assert "1 notes removed" == said["strip_metadata"]
    assert [0, 1] == initializer(optimized.proto, "b").tolist()
    assert "" == optimized.proto.doc_string
    assert before == graph.to_bytes()


def test_optimize_twice_changes_nothing_more(optimized: Graph) -> None:
    again, log = optimize(optimized)

    assert optimized.to_bytes() == again.to_bytes()
    assert [()] * len(PASSES) == [entry.outcome.changed for entry in log]


@pytest.mark.parametrize("kind", TYPES)
def test_flush_subnormals_writes_zeros_and_keeps_the_rest(kind: str) -> None:
    limits = np.finfo(TYPES[kind])
    smallest, tiny = limits.smallest_normal, limits.smallest_subnormal
    values = np.array([tiny, -tiny, np.nextafter(smallest, tiny), smallest, -smallest, 0.0, -0.0, 1.5], TYPES[kind])
    values = np.concatenate([values, np.array([np.nan, np.inf, -np.inf, limits.max], TYPES[kind])])
    proto = parse(TINY.replace("float[2] b = {0, 1}", f"{kind}[12] b = {{{', '.join(12 * '0')}}}"), b=values)
    expected = values.copy()
    expected[:3] = 0

    outcome = flush_subnormals.apply_(proto)

    actual = initializer(proto, "b")
    assert ({"what": "b", "subnormals": 3, "negative_zeros": 0},) == outcome.changed
    assert "3 subnormal values set to zero, 0 negative zeros of weights made positive" == outcome.said
    assert TYPES[kind] == actual.dtype
    assert expected.tobytes() == actual.tobytes()
    assert [[1, 0], [-1, 2], [0, 3]] == initializer(proto, "w").tolist()


def test_flush_subnormals_leaves_the_subnormals_of_float16_and_mends_its_negative_zeros() -> None:
    limits = np.finfo(np.float16)
    values = np.array([[limits.smallest_subnormal, -limits.smallest_subnormal], [3e-5, -3e-5], [-0.0, 1]], np.float16)
    text = TINY.replace("float[batch", "float16[batch").replace("float[3, 2] w", "float16[3, 2] w")
    proto = parse(text.replace("float[2] b", "float16[2] b"), w=values, b=np.array([6e-8, -0.0], np.float16))
    expected = values.copy()
    expected[2, 0] = 0

    outcome = flush_subnormals.apply_(proto)

    assert ({"what": "w", "subnormals": 0, "negative_zeros": 1},) == outcome.changed
    assert expected.tobytes() == initializer(proto, "w").tobytes()
    assert np.array([6e-8, -0.0], np.float16).tobytes() == initializer(proto, "b").tobytes()


def test_flush_subnormals_counts_over_all_initializers() -> None:
    weight = np.full((3, 2), 1e-41, np.float32)
    weight[1, 1] = 2
    proto = parse(w=weight, b=np.array([-1e-39, 1e-37], np.float32))

    outcome = flush_subnormals.apply_(proto)

    assert [("w", 5), ("b", 1)] == [(row["what"], row["subnormals"]) for row in outcome.changed]
    assert outcome.said.startswith("6 subnormal values set to zero")
    assert [[0, 0], [0, 2], [0, 0]] == initializer(proto, "w").tolist()
    assert [np.float32(0), np.float32(1e-37)] == initializer(proto, "b").tolist()


def test_flush_subnormals_leaves_integers_and_a_clean_graph_alone() -> None:
    proto = parse(TINY.replace("float[2] b = {0, 1}", "int64[2] b = {0, 1}, float scalar = {2}, float[0] none = {}"))
    before = proto.SerializeToString(deterministic=True)

    outcome = flush_subnormals.apply_(proto)

    assert () == outcome.changed
    assert before == proto.SerializeToString(deterministic=True)


def test_flush_subnormals_makes_negative_zeros_of_factors_positive_and_no_others() -> None:
    minus = np.array([[-0.0, 1], [-2, 0], [-0.0, -0.0]], np.float32)
    proto = parse(w=minus, b=np.array([-0.0, 1], np.float32))

    outcome = flush_subnormals.apply_(proto)

    assert ({"what": "w", "subnormals": 0, "negative_zeros": 3},) == outcome.changed
    assert not np.signbit(initializer(proto, "w")[minus == 0]).any()
    assert [[0, 1], [-2, 0], [0, 0]] == initializer(proto, "w").tolist()
    assert np.signbit(initializer(proto, "b")[0])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("product = MatMul(flat, w)", "product = MatMul(flat, w) other = Reciprocal(w)"),
        ("(float[batch, 2] logits)", "(float[batch, 2] logits, float[3, 2] w)"),
        ("product = MatMul(flat, w)", "product = own.MatMul(flat, w)"),
    ],
)
def test_a_negative_zero_stays_where_its_sign_may_be_read(old: str, new: str) -> None:
    proto = parse(TINY.replace(old, new), w=np.full((3, 2), -0.0, np.float32))

    assert () == flush_subnormals.apply_(proto).changed
    assert np.signbit(initializer(proto, "w")).all()


def test_flush_subnormals_reads_constant_nodes() -> None:
    text = TINY.replace(", float[2] b = {0, 1}", "").replace(
        "logits = Add", "b = Constant<value = float[2] {0, 1}>() logits = Add"
    )
    proto = parse(text)
    (node,) = [node for node in proto.graph.node if node.op_type == "Constant"]
    node.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(np.array([1e-40, 1], np.float32)))

    outcome = flush_subnormals.apply_(proto)

    assert ({"what": "b", "subnormals": 1, "negative_zeros": 0},) == outcome.changed
    assert [0, 1] == onnx.numpy_helper.to_array(node.attribute[0].t).tolist()


def test_flush_subnormals_says_that_it_leaves_sparse_initializers() -> None:
    proto = parse()
    sparse = proto.graph.sparse_initializer.add()
    sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.array([1e-40], np.float32), "s"))
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([0], np.int64), "s_indices"))
    sparse.dims.append(2)

    (left,) = flush_subnormals.apply_(proto).left

    assert ("s", "it is a sparse initializer; `ntksap convert` makes it dense") == (left.what, left.why)


USUAL = tuple(PASSES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), USUAL),
        (("strip_metadata", "flush_subnormals"), ("strip_metadata", "flush_subnormals")),
        (("-flush_subnormals",), tuple(name for name in USUAL if name != "flush_subnormals")),
        (("strip_metadata", "-flush_subnormals"), ("strip_metadata",)),
        (("-flush_subnormals", "strip_metadata", "flush_subnormals"), ("strip_metadata",)),
        (("none",), ()),
    ],
)
def test_a_list_replaces_the_usual_one_and_a_minus_takes_one_out(
    words: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert expected == select_passes(words)


@pytest.mark.parametrize("words", [("polish",), ("-polish",), ("flush_subnormals", "none"), ("--flush_subnormals",)])
def test_an_unknown_pass_names_the_known_ones(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"unknown pass '.*'; choose from .*flush_subnormals.*strip_metadata"):
        select_passes(words)


def test_a_log_is_a_line_the_reasons_below_it_and_plain_json() -> None:
    left = tuple(Left(f"layer{number}", "it is in use") for number in range(7))
    log = PassLog("polish", Outcome("2 done", ({"what": "a"}, {"what": "b"}), left, {"things": [3, 2]}))

    assert "polish: 2 done" == str(log)
    assert (str(log), *(f"  left: layer{number}: it is in use" for number in range(5)), "  left: 2 more") == log.lines()
    assert (str(log), *(f"  left: layer{number}: it is in use" for number in range(7))) == log.lines(most=7)
    assert {
        "pass": "polish",
        "said": "2 done",
        "changed": [{"what": "a"}, {"what": "b"}],
        "totals": {"things": [3, 2]},
        "left": [{"what": f"layer{number}", "why": "it is in use"} for number in range(7)],
    } == log.to_json()


def test_a_pass_that_breaks_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def ruin(proto: onnx.ModelProto) -> Outcome:
        proto.graph.node[0].input[0] = "nowhere"
        return Outcome("done")

    monkeypatch.setattr(strip_metadata, "apply_", ruin)

    with pytest.raises(ExportError, match=r"the pass strip_metadata broke the graph .*--passes -strip_metadata"):
        optimize(Graph(parse(), ()))


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

    outcome = strip_metadata.apply_(proto)

    assert f"{2 * len(noted)} notes removed" == outcome.said
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

    outcome = strip_metadata.apply_(proto)

    assert f"{2 * len(noted)} notes removed" == outcome.said
    assert b"somewhere" not in proto.SerializeToString()
    onnx.checker.check_model(proto)


def _drop_empty_notes(proto: onnx.ModelProto) -> None:
    graph = proto.graph
    for item in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        assert "" == item.doc_string
        item.ClearField("doc_string")
