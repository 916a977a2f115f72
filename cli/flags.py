"""Every flag that is a setting of a run, in one table, by its key in `RunConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting: the Python type of its value on the command line, its help, and how a list is written."""

    kind: type | Any
    help: str
    items: type | None = None
    panel: str = "Options"


_DATA = "Data and model"

FLAGS: dict[str, Flag] = {
    "recipe": Flag(str, "Settings by name, see `ntksap list recipes`; flags and --config overrule them"),
    "weights": Flag(
        str, "File of weights to start from: safetensors, or a state dict of torch.save. Default: drawn",
        panel=_DATA,
    ),
    "data": Flag(str, "A name or a layout of `ntksap list data`. Default: digits", panel=_DATA),
    "data_dir": Flag(str, "Where named data sets lie. Default: NTKSAP_DATA or ~/.cache/ntksap", panel=_DATA),
    "download": Flag(bool, "Fetch a named data set that is not there, through torchvision. Default: no", panel=_DATA),
    "broken_images": Flag(
        str, "error, or skip: replaced by another of its class, and counted. Default: error", panel=_DATA,
    ),
    "num_classes": Flag(int, "Check that the data has so many classes. Default: the data's", panel=_DATA),
    "image_size": Flag(int, "Side of the input in pixels. Default: small images' own, else the model's", panel=_DATA),
    "mean": Flag(str, "R,G,B mean on the scale 0..1. Default: the data set's, else found", float, _DATA),
    "std": Flag(str, "R,G,B standard deviation. Default: the data set's, else found", float, _DATA),
    "stem": Flag(str, "auto, imagenet or cifar: first layers of resnet18.., mobilenet. Default: auto", panel=_DATA),
    "seed": Flag(int, "All that is random follows from it. Default: 0", panel=_DATA),
    "device": Flag(str, "auto, cpu or cuda. Default: auto", panel=_DATA),
    "threads": Flag(int, "CPU threads to compute with. Default: torch's choice", panel=_DATA),
    "workers": Flag(int, "Processes that decode large images. Default: 2", panel=_DATA),
    "method": Flag(str, "How weights are scored; see `ntksap list methods`. Default: ntksap", panel="Prune"),
    "sparsity": Flag(float, "Share of prunable weights to remove, in [0, 1). Default: 0.9", panel="Prune"),
    "density": Flag(float, "Share that stays, 1 - sparsity, in (0, 1]", panel="Prune"),
    "params": Flag(str, "Prunable weights that stay, as 250000, 250k or 2.5M", panel="Prune"),
    "flops": Flag(float, "Share of the dense FLOPs that stays, in (0, 1]; alone or beside --sparsity", panel="Prune"),
    "pattern": Flag(
        str, "unstructured, 2:4 (any n:m), 4x1 (any OUTxIN), channel, channel+2:4 ... Default: unstructured",
        panel="Prune",
    ),
    "scope": Flag(str, "global, or layer (the same share of each). Default: global", panel="Prune"),
    "min_layer_density": Flag(float, "Share of weights or channels that each layer keeps. Default: 0", panel="Prune"),
    "round_to": Flag(int, "channel: kept channels are a multiple of it. Default: 8", panel="Prune"),
    "channel_sparsity": Flag(
        float,
        "channel+...: share of weights that go with channels; channel with --scope layer: share of each group's "
        "channels that goes. Default: from the budget",
        panel="Prune",
    ),
    "rounds": Flag(int, "Score-and-mask rounds. Default: the method's (ntksap: 20)", panel="Prune"),
    "epsilon": Flag(float, "ntksap: standard deviation of the perturbation. Default: 0.01", panel="Prune"),
    "draws": Flag(int, "ntksap: fresh initializations per batch and round. Default: 1", panel="Prune"),
    "score_batch_size": Flag(int, "Images per scoring batch. Default: 100; large images 16; digits 32", panel="Prune"),
    "score_batches": Flag(int, "Scoring batches. Default: 1; methods that read data 10 images a class", panel="Prune"),
    "keep_dense": Flag(list[str], "A layer that stays whole; may be repeated", panel="Prune"),
    "control": Flag(str, "none, shuffle (mask within each layer) or reinit (of weights). Default: none", panel="Prune"),
    "budget": Flag(
        str, "channel: a measured latency, latency=5ms@onnxruntime,batch=1,threads=2; or flops=, params=, sparsity=",
        panel="Prune",
    ),
    "latency_table": Flag(str, "A latency_table.json to take instead of measuring again", panel="Prune"),
    "init": Flag(
        str, "default, orthogonal or delta-orthogonal: how weights are drawn. Default: default", panel="Prune"
    ),
    "steps": Flag(int, "Prune in so many steps, training between them. Default: 1", panel="Search"),
    "step_epochs": Flag(int, "Epochs between two steps. Default: 1", panel="Search"),
    "search_epochs": Flag(
        int, "lottery: of each round; greg, tpp, edge-popup: in all. Default: those of the training", panel="Search"
    ),
    "rewind_epoch": Flag(int, "lottery: the epoch whose weights each round goes back to. Default: 0", panel="Search"),
    "round_share": Flag(float, "lottery: share of the weights that a round removes. Default: 0.2", panel="Search"),
    "reg_delta": Flag(float, "greg, tpp: what the L2 factor grows by. Default: 0.0001", panel="Search"),
    "reg_every": Flag(
        int, "greg, tpp: training steps between two growths. Default: so that it ends after half of the epochs",
        panel="Search",
    ),
    "reg_limit": Flag(float, "greg, tpp: the largest L2 factor. Default: 1", panel="Search"),
    "decorrelation": Flag(float, "tpp: weight of the decorrelation by the L2 factor. Default: 1000", panel="Search"),
    "epochs": Flag(int, "Passes over the training images. Default: 30; digits 5", panel="Train"),
    "batch_size": Flag(int, "Images per training step. Default: 128; digits 32", panel="Train"),
    "optimizer": Flag(str, "sgd or adamw. Default: sgd", panel="Train"),
    "lr": Flag(float, "Peak learning rate. Default: 0.1; digits 0.01; adamw 0.001", panel="Train"),
    "momentum": Flag(float, "Of SGD; first beta of AdamW. Default: 0.9", panel="Train"),
    "nesterov": Flag(bool, "Nesterov momentum of SGD. Default: yes", panel="Train"),
    "weight_decay": Flag(float, "L2, decoupled with adamw. Default: 0.0005", panel="Train"),
    "decay_norms": Flag(bool, "Weight decay on norms and biases too. Default: yes", panel="Train"),
    "schedule": Flag(str, "cosine, step, linear (to zero) or constant. Default: cosine", panel="Train"),
    "milestones": Flag(str, "For step: shares of the epochs. Default: 0.5,0.75", float, "Train"),
    "gamma": Flag(float, "For step: factor at each milestone. Default: 0.1", panel="Train"),
    "warmup_epochs": Flag(float, "Linear warm-up. Default: 0.5", panel="Train"),
    "clip_norm": Flag(float, "Largest norm of the gradient of kept weights. Default: not clipped", panel="Train"),
    "label_smoothing": Flag(float, "In [0, 1). Default: 0", panel="Train"),
    "mixup": Flag(float, "Alpha of mixup; 0.2 is usual, 0 off. Default: 0", panel="Train"),
    "cutmix": Flag(float, "Alpha of CutMix; 1 is usual, 0 off. Default: 0", panel="Train"),
    "ema": Flag(float, "Decay per step of averaged weights, 0.999 say; 0 off. Default: 0", panel="Train"),
    "rescale_init": Flag(bool, "Scale drawn weights to the fan-in that the mask leaves. Default: no", panel="Train"),
    "recover": Flag(
        str, "Isometry of what pruning left: none, orthp (whole channels), isometry (any mask). Default: none",
        panel="Train",
    ),
    "snapshot_epochs": Flag(
        str, "Epochs after which the weights are kept in snapshots/, for `ntksap analyze`; 0 is the start", int, "Train"
    ),
    "augment": Flag(str, "auto, none, shift, crop-flip or resized-crop. Default: auto", panel="Train"),
    "cutout": Flag(int, "Side in pixels of a square set to the mean in each image. Default: 0", panel="Train"),
    "crop_scale": Flag(str, "resized-crop: smallest and largest share of the area. Default: 0.08,1", float, "Train"),
    "crop_ratio": Flag(str, "resized-crop: least and greatest width / height. Default: 3/4 and 4/3", float, "Train"),
    "repeats": Flag(int, "Times an image is in an epoch, augmented anew; fewer images. Default: 1", panel="Train"),
    "precision": Flag(
        str, "fp32, bf16, fp16, or auto: bf16 where the hardware is fast at it. Default: auto", panel="Train"
    ),
    "accumulate": Flag(int, "Micro-batches of a step, where a batch needs too much memory. Default: 1", panel="Train"),
    "sync_bn": Flag(bool, "Several processes: BatchNorm over all of them. Default: yes", panel="Train"),
    "compile": Flag(
        str, "torch.compile: none, default, reduce-overhead (CUDA graphs) or max-autotune. Default: none",
        panel="Train",
    ),
    "checkpoint_minutes": Flag(
        float, "Minutes between two saves within an epoch; each epoch is saved besides. Default: 10", panel="Train"
    ),
    "keep_checkpoints": Flag(int, "How many of the last saved states stay, and the best. Default: 2", panel="Train"),
    "tensorboard": Flag(bool, "Also write event files to OUT/tensorboard (an extra). Default: no", panel="Train"),
    "opset": Flag(int, "ONNX opset, 17 to 23. Default: 20", panel="Export"),
    "dynamic_size": Flag(bool, "Leave height and width of the graph's input open. Default: no", panel="Export"),
    "external_data": Flag(
        str, "Weights in a file of their own beside the graph: always, never, auto (above 1 GiB). Default: auto",
        panel="Export",
    ),
    "normalize": Flag(bool, "Mean and std go into the graph; it takes pixels in [0, 1]. Default: no", panel="Export"),
    "input": Flag(
        str, "float32, or uint8: bytes (N, H, W, 3) as a camera gives them, normalized in the graph. Default: float32",
        panel="Export",
    ),
    "sparse_initializers": Flag(
        bool, "Weights as sparse_initializer: a smaller file, which some runtimes refuse. Default: no", panel="Export"
    ),
    "atol": Flag(float, "Parity: absolute tolerance of a logit. Default: 1e-5", panel="Export"),
    "rtol": Flag(float, "Parity: tolerance as a share of the largest logit. Default: 1e-4", panel="Export"),
    "fp16": Flag(bool, "Also write model.fp16.onnx. Default: no", panel="Export"),
    "fp16_io": Flag(str, "Its images and logits: float32 or float16. Default: float32", panel="Export"),
    "int8": Flag(bool, "Also write model.int8.onnx, calibrated on training images. Default: no", panel="Export"),
    "int8_keep": Flag(
        str, "Layers that stay float32: auto (what the drop asks for), none, or names. Default: auto", str, "Export"
    ),
    "int8_range": Flag(str, "Weights: full, reduced (7 bits; CPUs without VNNI), auto. Default: auto", panel="Export"),
    "max_drop": Flag(float, "Points of top-1 accuracy that int8 or fp16 may lose. Default: 1", panel="Export"),
    "calibration": Flag(str, "percentile, entropy or minmax. Default: percentile", panel="Export"),
    "calibration_images": Flag(int, "Training images to calibrate on, at least 32. Default: 128", panel="Export"),
    "engine": Flag(bool, "Also write model.sparse.onnx, for the sparse CPU engine. Default: no", panel="Export"),
    "passes": Flag(
        str, "Graph passes: a,b in place of the usual list, -c out of it, or none. Default: `ntksap list passes`", str,
        "Export",
    ),
    "profile_batch": Flag(str, "Batches to measure. Default: 1,8", int, "Profile"),
    "profile_threads": Flag(str, "Threads to measure with. Default: all CPUs", int, "Profile"),
    "profile_backend": Flag(
        str, "onnxruntime, torch, torch-compile, openvino, tensorrt. Default: the first two", str, "Profile"
    ),
    "profile_device": Flag(str, "cpu, cuda. Default: both; what is missing gets a row with the reason", str, "Profile"),
    "profile_streams": Flag(
        str, "Calls in flight at once, each with its own threads; see the mode. Default: 1", int, "Profile"
    ),
    "profile_precision": Flag(
        str, "fp32, bf16 (openvino and torch, of a float32 network), fp16, int8. Default: those there are", str,
        "Profile",
    ),
    "profile_percentiles": Flag(str, "Of the latency. Default: 50,90,95,99", float, "Profile"),
    "profile_min_time": Flag(float, "Seconds of timed calls that each cell gets. Default: 1", panel="Profile"),
    "profile_max_time": Flag(float, "Seconds after which a cell ends, however noisy. Default: 10", panel="Profile"),
    "profile_target_ci": Flag(
        float, "A cell ends when its median is known to +- this share, with 95 %. Default: 0.02", panel="Profile"
    ),
    "profile_mode": Flag(
        str, "latency; throughput: all streams busy; server: calls at random times. Default: latency", panel="Profile"
    ),
    "profile_rate": Flag(str, "server: images/s that arrive, several one after the other", float, "Profile"),
    "profile_limit": Flag(float, "server: find the highest rate whose p99 stays under this, in ms", panel="Profile"),
    "profile_per_layer": Flag(bool, "Also time every node and name its module. Default: no", panel="Profile"),
    "profile_cuda_graph": Flag(bool, "torch on cuda: record a CUDA graph and replay it. Default: no", panel="Profile"),
}  # fmt: skip
