"""The command line as its user sees it: results on standard output, talk on standard error, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ntksap_export.cli.flags import FLAGS
from ntksap_export.config import RunConfig
from tests.conftest import SMALL_FLAGS
from tests.support.engine import NOT_BUILT, take_library_away

Call = Callable[..., tuple[int, str, str]]


def write_images(root: Path, splits: dict[str, list[str]], count: int = 4) -> Path:
    generator = np.random.default_rng(0)
    for split, classes in splits.items():
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 255, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.jpg")
    return root


def refused(result: tuple[int, str, str], code: int, *said: str) -> None:
    """One line on stderr, nothing on stdout, the right exit code."""
    assert (code, "") == result[:2], result
    lines = [line for line in result[2].splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in result[2]
    for text in said:
        assert text in lines[0]


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--sparsity", "95"), 2, "write --sparsity 0.95"),
        (("--sparsity", "-1"), 2, "[0, 1)"),
        (("--sparsity", "1"), 2, "remove every weight"),
        (("--sparsity", "0.9", "--density", "0.1"), 2, "not both"),
        (("--method", "ntk-sap"), 2, "did you mean ntksap"),
        (("--keep-dense", "layer1.0.conv9"), 2, "did you mean layer1.0.conv"),
        (("--keep-dense", "layer3.2.conv1", "--sparsity", "0.99"), 2, "--keep-dense keeps"),
        (("--image-size", "3"), 2, "image-size"),
        (("--mean", "0.5,oops,0.5"), 2, "--mean takes numbers"),
        (("--mean", "0.5,0.5,0.5"), 2, "both --mean and --std"),
        (("--num-classes", "7"), 3, "10 classes"),
        (("--data", "no/such/folder"), 3, "does not exist"),
        (("--config", "no_such.toml"), 2, "no such file"),
        (("--epochs", "-1"), 2, "epochs"),
        (("--precision", "fp8"), 2, "precision"),
        (("--stem", "imagenet"), 2, "stem"),
        (("--engine", "--dynamic-size"), 2, "--engine plans for one size of images"),
    ],
)
def test_wrong_flags_write_nothing(ntksap: Call, tmp_path: Path, flags: tuple[str, ...], code: int, said: str) -> None:
    out = tmp_path / "out"

    refused(ntksap("prune-train-export", "resnet20", *flags, "--out", out), code, said)
    assert not out.exists()


@pytest.mark.parametrize("verb", ["prune-train-export", "sweep"])
def test_the_engine_without_its_library_ends_before_any_work(
    ntksap: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    take_library_away(monkeypatch, tmp_path)

    refused(ntksap(verb, "resnet20", "--engine", "--out", tmp_path / "out"), 7, NOT_BUILT, "or use model.onnx")
    assert not (tmp_path / "out").exists()


def test_a_sweep_in_the_engine_measures_float32(ntksap: Call, tmp_path: Path) -> None:
    result = ntksap("sweep", "resnet20", "--engine", "--precision", "int8", "--out", tmp_path / "out")

    refused(result, 2, "--engine is for graphs in float32; got --precision int8, add fp32 to it")


def test_unknown_model_suggests_near_names(ntksap: Call, tmp_path: Path) -> None:
    refused(ntksap("prune", "resnet5O", "--out", tmp_path / "out"), 2, "unknown model 'resnet5O'", "resnet50")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there(ntksap: Call, tmp_path: Path) -> None:
    refused(ntksap("prune", "resnet20", "--device", "cuda", "--out", tmp_path / "out"), 7, "no CUDA device")
    assert not (tmp_path / "out").exists()


def test_unknown_key_in_the_file_names_the_valid_ones(ntksap: Call, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("epoch = 3\n")

    result = ntksap("prune", "resnet20", "--config", file, "--out", tmp_path / "out")

    refused(result, 2, "unknown key 'epoch'", "did you mean epochs", "weight-decay")


@pytest.mark.parametrize("method", ["snip", "synflow", "erk"])
def test_other_methods_prune_to_the_same_count(ntksap: Call, tmp_path: Path, method: str) -> None:
    flags = ("--image-size", 16, "--rounds", 1, "--sparsity", 0.9, "--json")

    code, out, err = ntksap("prune", "resnet20", "--method", method, *flags, "--out", tmp_path / "out")

    assert code == 0, err
    assert (27_090, method) == (json.loads(out)["kept"], json.loads(out)["method"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--flops", "25"), "flops: input should be less than or equal to 1; got 25"),
        (("--flops", "0"), "flops: input should be greater than 0"),
        (("--params", "many"), "error: params: must be a number such as 250000, 250k or 2.5M; got 'many'"),
        (("--params", "1G"), "--params 1,000,000,000 is more than the 270,896 prunable weights"),
        (("--params", "1k", "--sparsity", "0.5"), "give --sparsity or --params, not both"),
        (("--pattern", "3/4"), "unknown pattern '3/4'"),
        (("--pattern", "2:4", "--sparsity", "0.1"), "pattern 2:4 lets at most 135,664 of 270,896 weights live"),
        (("--pattern", "1x16", "--sparsity", "0.999"), "pattern 1x16 leaves 1 layer(s) whole and so keeps 432 weights"),
        (("--pattern", "channel+2:4", "--sparsity", "0.3"), "pattern 2:4 alone keeps 50%; a budget of 70.00% leaves"),
        (("--pattern", "channel", "--channel-sparsity", "0.5"), "--channel-sparsity belongs to channel+..."),
        (("--pattern", "channel", "--sparsity", "0.9999"), "--sparsity 0.9999 allows 27 weights, but"),
        (("--pattern", "channel", "--round-to", "0"), "round-to: input should be greater than or equal to 1"),
        (
            ("--pattern", "channel", "--control", "shuffle"),
            "--control shuffle has nothing to shuffle in --pattern channel",
        ),
        (
            ("--pattern", "channel", "--scope", "layer", "--channel-sparsity", "0.5", "--sparsity", "0.5"),
            "give --channel-sparsity or --sparsity, not both",
        ),
        (("--method", "l1"), "method l1 judges whole filters, but --pattern unstructured chooses among single weights"),
        (
            ("--method", "fpgm", "--pattern", "channel+2:4"),
            "method fpgm judges whole filters, but --pattern channel+2:4",
        ),
        (("--round-to", "4"), "--channel-sparsity and --round-to belong to --pattern channel or channel+..."),
        (("--pattern", "channel+128x1"), "no layer fits the pattern 128x1"),
        (
            ("--pattern", "channel+1:4", "--sparsity", "0.9", "--min-layer-density", "0.5"),
            "--min-layer-density 0.5 leaves nothing to choose within 1:4, which keeps 0.25 of a layer, and channels",
        ),
        (("--scope", "model"), "scope: input should be 'global' or 'layer'"),
        (("--min-layer-density", "0.5"), "--min-layer-density 0.5 keeps 135,448 weights, the budget allows 27,090"),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused_before_anything_is_written(
    ntksap: Call, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    out = tmp_path / "out"

    refused(ntksap("prune", "resnet20", "--image-size", 16, "--rounds", 1, *flags, "--out", out), 2, said)
    assert not out.exists()


def test_a_prune_that_failed_late_leaves_the_directory_to_another(ntksap: Call, tmp_path: Path) -> None:
    flags = ("--image-size", 16, "--rounds", 1, "--method", "magnitude", "--out", tmp_path / "out")

    late = ntksap("prune", "resnet20", *flags, "--pattern", "channel+64x64", "--sparsity", "0.9")

    refused(late, 2, "no layer fits the pattern 64x64")
    assert 0 == ntksap("prune", "resnet20", *flags, "--pattern", "channel")[0]


def test_budgets_and_patterns_from_the_command_line(ntksap: Call, tmp_path: Path) -> None:
    flags = ("--image-size", 16, "--rounds", 1, "--method", "magnitude", "--json")

    def kept(*more: str) -> tuple[int, float]:
        out = tmp_path / "-".join(more).replace(":", "of")
        code, text, err = ntksap("prune", "resnet20", *flags, *more, "--out", out)
        assert code == 0, err
        return json.loads(text)["kept"], json.loads(text)["flop_density"]

    assert 12_500 == kept("--params", "12.5k")[0]
    assert 0.25 == pytest.approx(kept("--flops", "0.25")[1], abs=1e-6)
    assert 135_664 == kept("--pattern", "2:4")[0]
    assert 27_088 == kept("--pattern", "4x1")[0]


def test_compare_draws_into_a_directory(ntksap: Call, tmp_path: Path) -> None:
    flags = ("--image-size", 16, "--rounds", 1, "--out", tmp_path / "out")

    code, out, err = ntksap("prune", "resnet20", "--compare", "magnitude,erk", *flags)

    assert code == 0, err
    assert {"compare.json", "compare.html"} == {path.name for path in (tmp_path / "out").iterdir()}
    page = (tmp_path / "out" / "compare.html").read_text()
    assert page.count("<svg") == 2
    assert "layer2.0.shortcut.0, erk: 100.00%" in page
    assert "\nerk        " in out


def test_compare_prints_one_table_and_writes_nothing(
    ntksap: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ("--image-size", 16, "--rounds", 1)

    code, out, err = ntksap("prune", "resnet20", "--compare", "snip,erk,random", *flags)
    rows = json.loads(ntksap("prune", "resnet20", "--compare", "snip,erk,random", "--json", *flags)[1])

    assert code == 0, err
    assert "overlap" in out
    assert {"snip erk", "snip random", "erk random"} == set(rows["overlap"])
    assert rows["methods"]["random"]["flop_density"] == pytest.approx(0.1, abs=1e-3)
    assert (
        rows["methods"]["erk"]["groups"]["layer3"]["density"] < 0.1 < rows["methods"]["erk"]["groups"]["fc"]["density"]
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("methods", ["snip", "snip,snip", "snip,nonsense", ""])
def test_compare_needs_two_methods_that_exist(ntksap: Call, tmp_path: Path, methods: str) -> None:
    refused(ntksap("prune", "resnet20", "--compare", methods, "--out", tmp_path / "out"), 2, "method")


def test_too_few_images_to_score_with(ntksap: Call, tmp_path: Path) -> None:
    flags = ("--image-size", 16, "--score-batches", 100, "--out", tmp_path / "out")

    refused(ntksap("prune", "resnet20", "--method", "snip", *flags), 2, "Lower --score-batches")
    assert not (tmp_path / "out" / "mask.json").exists()


def test_a_flag_wins_over_the_file(ntksap: Call, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('epochs = 7\nbatch-size = 64\nsparsity = 0.5\nkeep-dense = ["fc"]\n')

    code, out, _ = ntksap("prune-train-export", "resnet20", "--config", file, "--epochs", 3, "--dry-run", "--json")

    config = json.loads(out)["config"]
    assert code == 0
    assert (3, 64, 0.5, ["fc"]) == tuple(config[key] for key in ("epochs", "batch-size", "sparsity", "keep-dense"))


def test_dry_run_tells_the_plan_and_writes_nothing(ntksap: Call, tmp_path: Path) -> None:
    code, out, _ = ntksap("prune-train-export", "resnet20", "--out", tmp_path / "out", "--dry-run")

    assert code == 0
    for text in ("layer3.2.conv2.weight", "prunable 270,896; to keep 27,090", "estimated time", "model.onnx"):
        assert text in out
    assert not (tmp_path / "out").exists()


def test_the_plan_names_what_a_pattern_leaves_whole_and_not_what_was_asked_for(ntksap: Call, tmp_path: Path) -> None:
    flags = (
        "--image-size",
        16,
        "--sparsity",
        0.8,
        "--pattern",
        "2:4",
        "--dry-run",
        "--json",
        "--out",
        tmp_path / "out",
    )

    plain, asked = (
        json.loads(ntksap("prune-train-export", "resnet20", *flags, *more)[1])["left_whole"]
        for more in ((), ("--keep-dense", "conv1"))
    )

    assert ({"conv1": "3 input channels do not divide by 4"}, {}) == (plain, asked)


def test_broken_data_folders(ntksap: Call, tmp_path: Path) -> None:
    def run(root: Path) -> tuple[int, str, str]:
        flags = ("--data", root, "--rounds", 1, "--epochs", 1, "--image-size", 16, "--out", tmp_path / "out")
        return ntksap("prune-train-export", "resnet20", *flags)

    no_train = write_images(tmp_path / "no_train", {"val": ["cat", "dog"]})
    empty = write_images(tmp_path / "empty", {"train": ["cat", "dog"], "val": ["cat", "dog"]})
    (empty / "train" / "emu").mkdir()
    broken = write_images(tmp_path / "broken", {"train": ["cat", "dog"], "val": ["cat", "dog"]})
    (broken / "train" / "dog" / "2.jpg").write_bytes(b"not a picture")

    refused(run(no_train), 3, "train/")
    refused(run(empty), 3, "emu")
    assert not (tmp_path / "out").exists()
    refused(run(broken), 3, "2.jpg")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_own_images_go_the_whole_road(ntksap: Call, tmp_path: Path) -> None:
    root = write_images(tmp_path / "animals", {"train": ["cat", "dog"], "val": ["cat", "dog"]}, count=8)

    code, out, err = ntksap(
        "prune-train-export",
        "resnet20",
        *SMALL_FLAGS,
        "--batch-size",
        8,
        "--data",
        root,
        "--out",
        tmp_path / "out",
        "--json",
    )

    assert code == 0, err
    assert json.loads(out)["num_classes"] == 2
    assert json.loads((tmp_path / "out" / "config.json").read_text())["classes"] == ["cat", "dog"]


def test_another_run_in_the_directory(ntksap: Call, finished_run: Path) -> None:
    result = ntksap("prune-train-export", "resnet20", *SMALL_FLAGS, "--seed", 1, "--out", finished_run)

    refused(result, 4, "seed is 0 there, 1 here", "--overwrite")


def test_summary_and_json(ntksap: Call, finished_run: Path) -> None:
    code, out, err = ntksap("prune-train-export", "resnet20", *SMALL_FLAGS, "--out", finished_run)
    _, as_json, _ = ntksap("prune-train-export", "resnet20", *SMALL_FLAGS, "--out", finished_run, "--json")

    assert code == 0
    assert "embedded sample `digits`" in err
    assert "FLOP density" in out
    assert json.loads(as_json)["kept"] == 27_090


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"PK\x03\x04" + b[4:], lambda _: b""])
def test_damaged_checkpoint(ntksap: Call, finished_run: Path, damage: Callable[[bytes], bytes]) -> None:
    path = finished_run / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))

    refused(ntksap("export", finished_run), 4, "model.safetensors")
    refused(ntksap("inspect", path), 4, "model.safetensors")


@pytest.mark.parametrize("command", ["train", "export", "profile", "report", "inspect"])
def test_a_directory_that_is_no_run(ntksap: Call, tmp_path: Path, command: str) -> None:
    refused(ntksap(command, tmp_path), 4, "config.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["train", "export", "report", "inspect", "profile"])
def test_a_path_that_is_not_there(ntksap: Call, tmp_path: Path, command: str) -> None:
    code, _, err = ntksap(command, tmp_path / "nothing")

    assert code in (4, 5)
    assert "no such" in err


def test_diverging_training_names_the_layer_and_keeps_the_last_epoch(ntksap: Call, tmp_path: Path) -> None:
    flags = [*SMALL_FLAGS, "--lr", "1e30", "--warmup-epochs", "0"]

    refused(
        ntksap("prune-train-export", "resnet20", *flags, "--out", tmp_path / "out"), 6, "epoch 1", "first bad layer"
    )
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_out_that_cannot_be_written(ntksap: Call, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    code, _, err = ntksap("prune", "resnet20", "--out", tmp_path / "file" / "run")

    assert code in (4, 8)
    assert "Traceback" not in err


def test_inspect_tells_what_is_in_each_kind(ntksap: Call, finished_run: Path) -> None:
    kinds = {
        name: json.loads(ntksap("inspect", finished_run / name, "--json")[1])["kind"]
        for name in ("model.safetensors", "mask.safetensors", "model.onnx", "")
    }

    assert list(kinds.values()) == ["sparse checkpoint", "mask", "ONNX graph", "run directory"]


def test_profile_of_a_lone_graph_has_a_dense_twin(ntksap: Call, finished_run: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.json"

    code, out, _ = ntksap(
        "profile", finished_run / "model.onnx", "--batch", 1, "--threads", 1, "--device", "cpu",
        "--min-time", 0.05, "--max-time", 0.05, "--out", rows,
    )  # fmt: skip

    assert code == 0
    assert "dense" in out
    assert [cell["variant"] for cell in json.loads(rows.read_text())["cells"]] == ["sparse", "dense"]


def test_profile_of_a_run_measures_torch_too(ntksap: Call, finished_run: Path) -> None:
    flags = ("--batch", "1,2", "--threads", 1, "--backend", "onnxruntime,torch", "--min-time", 0.05, "--max-time", 0.05)

    code, _, err = ntksap("profile", finished_run, *flags)

    cells = json.loads((finished_run / "profile.json").read_text())["cells"]
    measured = [cell for cell in cells if cell["status"] == "measured" and cell["device"] == "cpu"]
    assert code == 0, err
    assert {(cell["backend"], cell["variant"], cell["batch"]) for cell in measured} == {
        (backend, variant, batch)
        for backend in ("onnxruntime", "torch")
        for variant in ("sparse", "dense")
        for batch in (1, 2)
    }
    assert all(len(cell["times_ms"]) == cell["runs"] >= 10 for cell in measured)
    assert all(cell["memory"]["run_peak_rss_bytes"] > cell["memory"]["baseline_rss_bytes"] > 0 for cell in measured)


@pytest.mark.parametrize("what", ["models", "methods", "data", "passes"])
def test_list(ntksap: Call, what: str) -> None:
    said = {"models": "resnet50", "methods": "needs no data", "data": "train/CLASS", "passes": "drop_dead_channels"}
    expected = said[what]

    assert expected in ntksap("list", what)[1]


def test_methods_for_trained_networks_are_listed_after_the_others(ntksap: Call) -> None:
    listed = json.loads(ntksap("list", "methods", "--json")[1])

    kinds = [row["kind"] for row in listed]
    assert kinds == sorted(kinds, key=list(dict.fromkeys(kinds)).index)
    assert ["initialization", "trained"] == list(dict.fromkeys(kinds))[:2]
    assert {"l1", "bn-scale", "fpgm", "taylor", "fisher", "obd", "lamp"} == {
        row["name"] for row in listed if row["kind"] == "trained"
    }
    assert {"l1", "bn-scale", "fpgm"} == {
        row["name"] for row in listed if row["summary"].endswith("--pattern channel only")
    }


def test_defaults_in_the_help_are_those_of_the_configuration() -> None:
    said = {name: flag.help.rpartition("Default: ")[2].split(";")[0] for name, flag in FLAGS.items()}
    plain = {
        name: field.get_default()
        for name, field in RunConfig.model_fields.items()
        if name in FLAGS and isinstance(field.get_default(), str | int | float)
    }
    words = {"yes": True, "no": False}

    assert len(plain) > 15
    for name, default in plain.items():
        assert (words[said[name]] if type(default) is bool else type(default)(said[name])) == default, name


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["prune-train-export", "--help"],
        ["inspect", "--help"],
        ["convert", "--help"],
        ["optimize", "--help"],
        ["analyze", "--help"],
        ["sweep", "--help"],
        ["--version"],
        ["list", "models"],
        ["list", "recipes"],
        ["train", "--show-recipe", "cifar-fast"],
    ],
)
def test_help_loads_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys; sys.argv = ['ntksap', *sys.argv[1:]]\n"
        "from ntksap_export.cli.app import main\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)\n"
        "    print('HEAVY', sorted(heavy), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    assert ended.returncode == 0
    assert "HEAVY []" in ended.stderr


def test_resume_only_goes_on(tmp_path: Path, ntksap: Call, finished_run: Path) -> None:
    nothing = "' holds no {} stage to go on with; leave --resume away to begin one\n"

    code, _, err = ntksap("prune-train-export", "resnet20", "--resume", "--out", tmp_path / "new")
    assert (4, f"error: '{tmp_path / 'new'}{nothing.format('prune')}") == (code, err)
    assert not (tmp_path / "new").exists()

    pruned = tmp_path / "pruned"
    ntksap("prune", "resnet20", "--method", "magnitude", "--out", pruned)
    code, _, err = ntksap("train", pruned, "--resume")
    assert (4, f"error: '{pruned}{nothing.format('train')}") == (code, err)

    code, _, err = ntksap("train", finished_run, "--resume", "--overwrite")
    assert (2, "error: --resume goes on with a run and --overwrite gives it up; leave one of them away\n") == (
        code,
        err,
    )

    code, _, err = ntksap("train", finished_run, "--resume")
    assert 0 == code
    assert "train: finished before, skipped" in err
