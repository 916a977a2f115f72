"""What torch.save writes: wrappers, prefixes, masks beside weights, archives that lie, and that nothing is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from torch import nn
from torch.nn.utils import prune

from ntksap_export.checkpoint.encodings import Decoded
from ntksap_export.checkpoint.formats import recognise, torch_file
from ntksap_export.errors import CheckpointError

from ..checkpoint_cases import UNHURRIED, bits
from .memory_source import MemorySource, everything, source_of, sources


def read(path: Path) -> dict[str, Any]:
    with torch_file.open_source(path) as source:
        found: dict[str, Any] = everything(source)["tensors"]
        return found


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught, torch_file.open_source(path) as source:
        everything(source)
    assert 1 == len(str(caught.value).splitlines())
    assert 1 == str(caught.value).count(str(path))
    return str(caught.value)


@given(sources())
@UNHURRIED
def test_masks_come_back_under_the_names_of_torch_prune(
    tmp_path_factory: pytest.TempPathFactory, source: MemorySource
) -> None:
    path = tmp_path_factory.mktemp("torch") / "weights.pt"
    torch_file.write(path, source, None, masks=True)

    assert everything(source)["tensors"] == read(path)


@given(sources())
@UNHURRIED
def test_a_plain_state_dict_keeps_the_zeros(tmp_path_factory: pytest.TempPathFactory, source: MemorySource) -> None:
    path = tmp_path_factory.mktemp("torch") / "weights.pt"
    torch_file.write(path, source, None)

    found = torch.load(path, weights_only=True)

    assert {name: bits(value.tensor) for name, value in source.values.items()} == {
        name: bits(value) for name, value in found.items()
    }


def test_equal_input_gives_equal_bytes_under_any_name(tmp_path: Path) -> None:
    a, b = torch.randn(30, 7), torch.ones(2, dtype=torch.bfloat16)

    torch_file.write(tmp_path / "first.pt", source_of(a=a, b=b), None)
    torch_file.write(tmp_path / "other.pth", source_of(b=b, a=a), None)

    assert (tmp_path / "first.pt").read_bytes() == (tmp_path / "other.pth").read_bytes()


def test_a_model_under_the_hooks_of_torch_prune_loads_it(tmp_path: Path) -> None:
    kept = torch.tensor([[True, False], [False, True]])
    weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    torch_file.write(tmp_path / "weights.pt", source_of({"weight": kept}, weight=weight), None, masks=True)
    layer = prune.identity(nn.Linear(2, 2, bias=False), "weight")

    layer.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    layer(torch.zeros(1, 2))

    assert torch.equal(weight, layer.weight)


def test_a_mask_whose_name_is_taken(tmp_path: Path) -> None:
    source = source_of({"a": torch.ones(2, dtype=torch.bool)}, a=torch.ones(2), a_mask=torch.ones(2))

    with pytest.raises(CheckpointError, match="'a' needs the name 'a_mask', which is taken"):
        torch_file.write(tmp_path / "weights.pt", source, None, masks=True)


def test_pairs_of_torch_prune_are_folded_in(tmp_path: Path) -> None:
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)))
    prune.random_unstructured(net.conv, "weight", 0.5)
    prune.random_unstructured(net.fc, "bias", 0.5)
    path = saved(tmp_path, {"state_dict": {f"module._orig_mod.{k}": v for k, v in net.state_dict().items()}})

    with torch_file.open_source(path) as source:
        conv, bias, norm = (source.read(name) for name in ("conv.weight", "fc.bias", "norm.weight"))
        names = source.names()

    plain = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), fc=nn.Linear(4, 2)))
    assert tuple(sorted(plain.state_dict())) == names
    assert torch.equal(net.conv.weight, conv.tensor)
    assert torch.equal(net.conv.weight_mask.bool(), conv.kept)
    assert torch.equal(net.fc.bias_mask.bool(), bias.kept)
    assert norm.kept is None


class ReferenceLinear(nn.Linear):
    """As in the code of SynFlow and NTK-SAP: the weight stays as drawn, masks are buffers beside it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("weight_mask", torch.ones(self.weight.shape))
        self.register_buffer("bias_mask", torch.ones(self.bias.shape))


class ReferenceNorm(nn.BatchNorm1d):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("weight_mask", torch.ones(self.weight.shape))
        self.register_buffer("bias_mask", torch.ones(self.bias.shape))


def test_a_checkpoint_of_the_reference_code(tmp_path: Path) -> None:
    net = nn.Sequential(ReferenceLinear(4, 3), ReferenceNorm(3), ReferenceLinear(3, 2))
    with torch.no_grad():
        net[0].weight_mask[0, 1:] = 0
        net[0].weight[0, 1], net[0].weight[0, 2] = -0.0, float("nan")

    with torch_file.open_source(saved(tmp_path, net.state_dict())) as source:
        found = {name: source.read(name) for name in source.names()}

    assert not [name for name in found if name.endswith("_mask")]
    assert torch.equal(net[0].weight_mask.bool(), found["0.weight"].kept)
    assert bits(torch.zeros(3)) == bits(found["0.weight"].tensor[0, 1:])
    assert torch.equal(net[0].weight[1:], found["0.weight"].tensor[1:])
    assert torch.equal(torch.ones(2, 3, dtype=torch.bool), found["2.weight"].kept)
    assert ["0.weight", "2.weight"] == [name for name, value in found.items() if value.kept is not None]


ONES = torch.ones(2)


@pytest.mark.parametrize(
    ("state", "names"),
    [
        ({"a.attn_mask": ONES, "a.fc": ONES}, ("a.attn_mask", "a.fc")),
        ({"attn": ONES, "attn_mask": ONES}, ("attn", "attn_mask")),
        ({"weight_orig": ONES, "weight_u": ONES}, ("weight_orig", "weight_u")),  # spectral_norm's
        ({"module.a": ONES, "b": ONES}, ("b", "module.a")),
        ({"_orig_mod.module._orig_mod.a": ONES}, ("a",)),
        ({"gate_orig": ONES, "gate_mask": ONES}, ("gate",)),
    ],
)
def test_names(tmp_path: Path, state: dict[str, torch.Tensor], names: tuple[str, ...]) -> None:
    with torch_file.open_source(saved(tmp_path, state)) as source:
        assert names == source.names()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "model_ema": {"a": torch.zeros(2)}},
        lambda state: {"model_ema": state, "args": "none"},
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_wrappers(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    assert {"a": (bits(ONES), None)} == read(saved(tmp_path, wrap({"a": ONES})))


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"fc.weight_mask": ONES}, "'fc.weight_mask' is a mask, and 'fc.weight', its weight, is not there"),
        ({"fc.weight": ONES, "fc.weight_mask": torch.ones(3)}, "'fc.weight' has shape (2,), its mask (3,)"),
        ({"a.weight": ONES, "a.weight_mask": torch.tensor([1.0, 0.5])}, "must hold 0 and 1 only; got 0.5"),
        ({"a": ONES, "a_orig": ONES, "a_mask": ONES}, "'a' is there beside 'a_orig'; which one counts?"),
        ({"a": ONES.to_sparse()}, "'a' must be a plain dense tensor"),
        ({"a": torch.empty(2, device="meta")}, "'a' must be a plain dense tensor"),
        ({"a": torch.ones(1).expand(2**40)}, "'a' claims (1099511627776,), more than the file holds"),
    ],
)
def test_what_is_refused(tmp_path: Path, state: dict[str, torch.Tensor], said: str) -> None:
    assert said in refusal(saved(tmp_path, state))


def test_views_and_shared_memory_come_as_values(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)

    found = read(saved(tmp_path, {"t": whole.T, "row": whole[1], "one": torch.ones(1).expand(5), "same": whole}))

    expected = {"t": whole.T, "row": whole[1], "one": torch.ones(5), "same": whole}
    assert {name: (bits(value), None) for name, value in expected.items()} == found


def test_what_is_read_has_memory_of_its_own(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": ONES, "b": ONES})
    with torch_file.open_source(path) as source:
        source.read("a").tensor.zero_()

        assert torch.equal(torch.ones(2), source.read("b").tensor)
        assert torch.equal(torch.ones(2), source.read("a").tensor)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, ...]]:
        return os.system, (f"touch '{self.target}'",)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "it_ran"
    path = saved(tmp_path, {"state_dict": {"a": ONES}, "hook": Malicious(mark)})
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps(Malicious(mark)))

    for file in (path, bare):
        assert "torch" == recognise(file)
        assert "never unpickled" in refusal(file)
    assert not mark.exists()


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = saved(tmp_path, {"a": torch.zeros(1000)})
    packed = tmp_path / "packed.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))

    assert "compressed zip archive, which torch.save never writes" in refusal(packed)


def test_archives_of_others_are_not_taken_for_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "some.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")

    assert not torch_file.matches(tmp_path / "some.zip")
    assert not torch_file.matches(tmp_path)
    assert not torch_file.matches(tmp_path / "nothing")


def test_a_legacy_file(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    torch.save({"a": ONES}, path, _use_new_zipfile_serialization=False)

    assert {"a": (bits(ONES), None)} == read(path)


def test_no_tensors_at_all(tmp_path: Path) -> None:
    torch_file.write(tmp_path / "weights.pt", MemorySource({}), None)
    torch_file.write(tmp_path / "empty.pt", MemorySource({"a": Decoded(torch.empty(0, 3), None)}), None)

    assert {} == read(tmp_path / "weights.pt")
    assert {"a": (bits(torch.empty(0, 3)), None)} == read(tmp_path / "empty.pt")
