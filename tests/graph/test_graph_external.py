"""A graph and its data file: written as one, read without trust."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from ntksap_export.errors import ExportError
from ntksap_export.graph import Graph, files_of, graph_files, move_graph, remove_graph
from ntksap_export.graph import files as graph_file
from ntksap_export.graph.files import check_without_values, write_graph

OUTSIDE = "outside.bin"


def wide(seed: int = 0, inputs: int = 40) -> Graph:
    """images (N, inputs) -> logits (N, 30), with a weight of 4.8 kB, one of 1.2 kB in fields, and a small bias."""
    draw = np.random.default_rng(seed)
    weight = numpy_helper.from_array(draw.standard_normal((inputs, 30)).astype(np.float32), "fc.weight")
    second = helper.make_tensor("gain", onnx.TensorProto.FLOAT, [300], draw.standard_normal(300).tolist())
    bias = numpy_helper.from_array(draw.standard_normal(30).astype(np.float32), "fc.bias")
    nodes = [
        helper.make_node("Gemm", ["images", "fc.weight", "fc.bias"], ["product"]),
        helper.make_node("ReduceSum", ["gain"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["product", "sum"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("images", 1, ["batch", inputs])],
        [helper.make_tensor_value_info("logits", 1, ["batch", 30])],
        [weight, second, bias],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    proto.metadata_props.add(key="ntksap.classes", value='["a"]')
    return Graph(proto, ("fc.weight", "fc.bias"))


def values(proto: onnx.ModelProto) -> dict[str, bytes]:
    return {item.name: numpy_helper.to_array(item).tobytes() for item in proto.graph.initializer}


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def answer(path: Path) -> list[float]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[1]
    return np.asarray(session.run(None, {"images": np.ones((1, size), np.float32)})[0]).ravel().tolist()


def test_a_pair_holds_what_one_file_holds(tmp_path: Path) -> None:
    graph = wide()
    (one,) = graph.save(tmp_path / "one.onnx", "never")
    path, data = graph.save(tmp_path / "pair.onnx", "always")

    apart = onnx.load(str(path), load_external_data=False)
    again = Graph.load(path)

    assert values(graph.proto) == values(again.proto)
    assert Graph.load(one).proto.graph.initializer[0] == again.proto.graph.initializer[0]
    assert graph.proto.graph.node == again.proto.graph.node
    assert graph.proto.metadata_props == again.proto.metadata_props
    assert answer(one) == answer(path)
    places = {item.name: {entry.key: entry.value for entry in item.external_data} for item in apart.graph.initializer}
    assert {
        "fc.weight": {"location": data.name, "offset": "0", "length": "4800"},
        "gain": {"location": data.name, "offset": "8192", "length": "1200"},
        "fc.bias": {},
    } == places
    assert ["one.onnx", "pair.onnx", data.name] == listing(tmp_path)


def test_equal_graphs_give_equal_pairs(tmp_path: Path) -> None:
    first = wide().save(tmp_path / "a" / "m.onnx", "always")
    second = wide().save(tmp_path / "b" / "m.onnx", "always")

    assert [(file.name, file.read_bytes()) for file in first] == [(file.name, file.read_bytes()) for file in second]


@pytest.mark.parametrize(("above", "files"), [(6119, 2), (6120, 1)])
def test_auto_splits_above_its_threshold(tmp_path: Path, above: int, files: int) -> None:
    assert files == len(wide().save(tmp_path / "m.onnx", "auto", above_bytes=above))


def test_data_of_an_earlier_graph_go_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    kept = ["m.onnx.data", "other.onnx.0123456789ab.data", "m.onnx.0123456789AB.data"]
    for name in kept:
        (tmp_path / name).write_bytes(b"of somebody")
    _, before = wide(0).save(path, "always")
    _, after = wide(1).save(path, "always")

    assert sorted([*kept, "m.onnx", after.name]) == listing(tmp_path)
    assert before != after

    wide(1).save(path, "never")

    assert sorted([*kept, "m.onnx"]) == listing(tmp_path)


def test_the_files_of_a_graph_are_known(tmp_path: Path) -> None:
    pair = wide().save(tmp_path / "m.onnx", "always")

    assert pair == files_of(tmp_path / "m.onnx") == graph_files(tmp_path / "m.onnx")

    remove_graph(tmp_path / "m.onnx")

    assert [] == listing(tmp_path)
    assert () == files_of(tmp_path / "m.onnx")


def test_a_moved_pair_works_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    wide(0).save(tmp_path / "to" / "m.onnx", "always")
    wide(1).save(tmp_path / "from" / "m.onnx", "always")

    moved = move_graph(tmp_path / "from" / "m.onnx", tmp_path / "to" / "m.onnx")

    assert sorted(file.name for file in moved) == listing(tmp_path / "to")
    assert [] == listing(tmp_path / "from")
    assert values(wide(1).proto) == values(Graph.load(tmp_path / "to" / "m.onnx").proto)


@pytest.mark.parametrize("step", ["write_bytes", "remove_old_data", "replace"])
def test_a_write_that_stops_leaves_a_graph_that_works(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.onnx"
    wide(0).save(path, "always")
    before = answer(path)

    def stop(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(graph_file, step, stop)
    with pytest.raises(OSError, match="No space left"):
        write_graph(path, wide(1).proto, "always")
    monkeypatch.undo()

    done = step == "remove_old_data"
    assert (answer(path) == before) is not done
    assert 2 + done == len(listing(tmp_path))


KILLED = """
import os, sys
from pathlib import Path
from ntksap_export.graph import files
from tests.graph.test_graph_external import wide

def kill_at(steps, path):
    count = 0
    for name in ("replace", "write_bytes", "sync_tree", "remove_old_data"):
        def step(*arguments, _original=getattr(files, name)):
            nonlocal count
            if count == steps:
                os.kill(os.getpid(), 9)
            count += 1
            return _original(*arguments)
        setattr(files, name, step)
    wide(1).save(path, "always")
    os._exit(0)

for steps in range(5):
    child = os.fork()
    if not child:
        kill_at(steps, Path(sys.argv[1]) / str(steps) / "m.onnx")
    print(os.waitpid(child, 0)[1])
"""


def test_a_kill_between_any_two_steps_leaves_a_pair_that_works(tmp_path: Path) -> None:
    for steps in range(5):
        wide(0).save(tmp_path / str(steps) / "m.onnx", "always")
    old, new = (answer(wide(seed).save(tmp_path / f"{seed}.onnx", "never")[0]) for seed in (0, 1))
    checkout = Path(__file__).resolve().parents[2]

    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=checkout, check=True, capture_output=True, text=True
    )

    assert ["9", "9", "9", "9", "0"] == ended.stdout.split()
    assert [old, old, old, new, new] == [answer(tmp_path / str(steps) / "m.onnx") for steps in range(5)]
    assert 2 == len(listing(tmp_path / "4"))


def test_the_write_after_a_kill_clears_up(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    wide(0).save(path, "always")
    (tmp_path / "m.onnx.0123456789ab.data").write_bytes(b"left by a process that was killed")

    pair = wide(1).save(path, "always")

    assert sorted(file.name for file in pair) == listing(tmp_path)


def pointing(tmp_path: Path, **entries: str) -> Path:
    """A pair whose first tensor says something else of its data."""
    path, _ = wide().save(tmp_path / "in" / "m.onnx", "always")
    (tmp_path / OUTSIDE).write_bytes(bytes(4800))
    proto = onnx.load(str(path), load_external_data=False)
    told = {entry.key: entry.value for entry in proto.graph.initializer[0].external_data} | entries
    del proto.graph.initializer[0].external_data[:]
    for key, value in told.items():
        proto.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"location": f"../{OUTSIDE}"}, "outside the graph's folder"),
        ({"location": ""}, "outside the graph's folder"),
        ({"location": "/etc/hostname"}, "outside the graph's folder"),
        ({"location": "gone.data"}, "'gone.data' of 'fc.weight' is missing; keep the two in one folder"),
        ({"length": "4804"}, "must have 4800 bytes; its data say '4804'"),
        ({"length": "-1"}, "must have 4800 bytes"),
        ({"offset": "-4"}, "at '-4'"),
        ({"offset": "x"}, "at 'x'"),
        ({"offset": 5000 * "9"}, "must have 4800 bytes"),
        ({"location": 300 * "x"}, "is missing; keep the two in one folder"),
        ({"offset": "8192"}, "'fc.weight' has 9392 bytes, the tensor ends at 12992; it was cut short"),
        ({"location": "m.onnx"}, "it was cut short, or belongs to another graph"),
    ],
)
def test_a_file_that_says_wrong_things_of_its_data_is_one_line(
    tmp_path: Path, entries: dict[str, str], said: str
) -> None:
    path = pointing(tmp_path, **entries)

    with pytest.raises(ExportError, match=said) as caught:
        Graph.load(path)

    assert str(caught.value).isprintable()


def test_data_without_a_length_end_where_the_tensor_does(tmp_path: Path) -> None:
    path, _ = wide().save(tmp_path / "m.onnx", "always")
    proto = onnx.load(str(path), load_external_data=False)
    for item in proto.graph.initializer:
        kept = [entry for entry in item.external_data if entry.key != "length"]
        del item.external_data[:]
        item.external_data.extend(kept)
    path.write_bytes(proto.SerializeToString())

    assert dict(wide().weights())["fc.weight"].tolist() == dict(Graph.load(path).weights())["fc.weight"].tolist()


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    path = pointing(tmp_path, location="link.data")
    (path.parent / "link.data").symlink_to(tmp_path / OUTSIDE)

    with pytest.raises(ExportError, match="is a link or no file"):
        Graph.load(path)


def test_a_data_file_cut_short_is_found(tmp_path: Path) -> None:
    path, data = wide().save(tmp_path / "m.onnx", "always")
    data.write_bytes(data.read_bytes()[:-1])

    with pytest.raises(ExportError, match="of 'gain' has 9391 bytes, the tensor ends at 9392"):
        Graph.load(path)


def test_never_refuses_what_protobuf_cannot_hold() -> None:
    class Full:
        """Stands for a model above 2 GiB, of which protobuf says this."""

        graph = wide().proto.graph

        def SerializeToString(self, **_: object) -> bytes:
            raise graph_file.EncodeError("Failed to serialize proto")

    with pytest.raises(ExportError, match="does not fit one file of 2 GiB: 6120 bytes of weights; use --external-data"):
        graph_file.to_bytes(Full())  # type: ignore[arg-type]


def test_a_graph_too_large_for_the_checker_is_checked_without_its_values() -> None:
    proto = wide().proto

    check_without_values(proto)

    proto.graph.initializer[0].raw_data = bytes(8)
    with pytest.raises(onnx.checker.ValidationError, match=r"'fc\.weight' has 8 bytes"):
        check_without_values(proto)

    proto = wide().proto
    proto.graph.node[0].op_type = "Gem"
    with pytest.raises(onnx.checker.ValidationError, match="Gem"):
        check_without_values(proto)


def test_above_what_one_file_holds_the_checker_gets_no_values(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = wide().proto
    seen: list[int] = []
    check = onnx.checker.check_model
    monkeypatch.setattr(
        onnx.checker, "check_model", lambda bare: (seen.append(len(bare.graph.initializer)), check(bare))
    )

    graph_file.check_valid(proto)
    monkeypatch.setattr(graph_file, "_ONE_FILE_BYTES", 6120)
    graph_file.check_valid(proto)

    assert [len(proto.graph.initializer), 0] == seen
