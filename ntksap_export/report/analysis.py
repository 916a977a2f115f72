"""analysis.html and .md: tangent kernel, dynamical isometry and structure of several networks, side by side."""

from __future__ import annotations

from typing import Any

from ntksap_export.report.analysis_figures import (
    along_training,
    isometry_figure,
    layer_density_figures,
    layer_isometry_figures,
    overlap_figure,
    spectrum_figure,
)
from ntksap_export.report.document import (
    Code,
    Column,
    Document,
    Facts,
    Folded,
    Part,
    Section,
    Table,
    Words,
    figures,
)
from ntksap_export.report.inputs import Json, at
from ntksap_export.report.markdown import to_markdown
from ntksap_export.report.page import to_html
from ntksap_export.report.text import count, percent, plural, seconds, significant, size

_NETWORK = (Column("network", "name", words=True),)
_KERNEL = (
    *_NETWORK,
    Column("trace", "trace", significant),
    Column("top eigenvalue", "top", significant),
    Column("condition", "condition", significant),
    Column("effective rank", "effective_rank", significant),
    Column("alignment", "alignment", significant),
    Column("distance", "distance_log10", significant),
    Column("full trace", "full_trace", significant),
    Column("+-", "full_trace_error", significant),
    Column("relative distance", "distance_relative", significant),
    Column("top share", "top_share", percent),
)
_ISOMETRY = (
    *_NETWORK,
    Column("mean JSV", "mean", significant),
    Column("spread", "spread", significant),
    Column("condition", "condition", significant),
    Column("std", "std", significant),
    Column("min", "min", significant),
    Column("max", "max", significant),
    Column("values an image", "values"),
    Column("way", "way", words=True),
)
_LAYER_ISOMETRY = (
    *_NETWORK,
    Column("layer", "layer", words=True),
    Column("mean", "mean", significant),
    Column("std", "std", significant),
    Column("min", "min", significant),
    Column("max", "max", significant),
    Column("condition", "condition", significant),
    Column("exact", "exact", words=True),
)
_STRUCTURE = (
    *_NETWORK,
    Column("method", "method", words=True),
    Column("density", "density", percent),
    Column("effective density", "effective_density", percent),
    Column("kept", "kept", count),
    Column("live nodes", "live_channels", count),
    Column("of", "channels", count),
    Column("log10 of paths", "log10_paths", significant),
)
_OVERLAP = (
    Column("mask", "first", words=True),
    Column("mask", "second", words=True),
    Column("overlap", "jaccard", percent),
    Column("by chance", "by_chance", percent),
)


def render_analysis(tree: Json) -> tuple[str, str]:
    """The page of an `analysis.json`, as HTML and as Markdown."""
    made = document(tree)
    return to_html(made), to_markdown(made)


def document(tree: Json) -> Document:
    """What the page says, for any of its forms."""
    networks: list[Json] = at(tree, "networks", default=[])
    return Document(
        kicker="ntksap-export analysis",
        title=f"Analysis of {at(tree, 'subject', 'model', default='a network')}: {plural(len(networks), 'network')}",
        lines=_lines(networks),
        sections=(
            Section("ntk", "Neural tangent kernel", _kernel(networks, tree)),
            *_training(networks),
            Section("isometry", "Dynamical isometry", _isometry(networks)),
            Section("structure", "Structure of the masks", _structure(networks)),
            Section("overlap", "Overlap of the masks", _overlap(at(tree, "overlap", default=[]))),
            Section("settings", "What was looked at", (Facts(_facts(tree)),)),
            Section("repeat", "Repeat", _repeat(tree)),
        ),
        source=tree,
    )


def analysis_rows(networks: list[Json]) -> list[Json]:
    """The numbers that matter, one flat row a network; what was not asked for is None."""
    return [
        {
            **{key: network.get(key) for key in ("name", "state", "epoch", "method", "density", "kept", "weights")},
            **{f"ntk_{key}": at(network, "ntk", key) for key in _keys(_KERNEL)},
            "ntk_full_trace": at(network, "trace", "mean"),
            "ntk_full_trace_error": at(network, "trace", "standard_error"),
            **{f"jsv_{key}": at(network, "isometry", key) for key in _keys(_ISOMETRY)},
            **{
                key: at(network, "structure", key)
                for key in ("effective_density", "live_channels", "channels", "log10_paths")
            },
        }
        for network in networks
    ]


def _keys(columns: tuple[Column, ...]) -> list[str]:
    return [column.key for column in columns if column.key != "name"]


def _lines(networks: list[Json]) -> tuple[tuple[str, str], ...]:
    """The result, for somebody who reads nothing else."""
    first = networks[0]["state"] if networks else None
    masked = [network for network in networks[1:] if network["state"] == first]
    lines = []
    apart = sorted(
        (float(value), str(network["name"]))
        for network in masked
        if (value := at(network, "ntk", "distance_log10")) is not None
    )
    if apart:
        words = ", ".join(f"{name} {significant(value)}" for value, name in apart)
        lines.append(("NTK spectrum", f"Orders of magnitude from the dense one, the nearest first: {words}."))
    means = [(str(n["name"]), value) for n in networks if (value := at(n, "isometry", "mean")) is not None]
    if means:
        words = ", ".join(f"{name} {significant(value)}" for name, value in means)
        lines.append(("Mean JSV", f"1 keeps lengths: {words}."))
    lost = [
        f"{network['name']} {percent(value)} of {percent(network['density'])}"
        for network in masked
        if (value := at(network, "structure", "effective_density")) is not None
    ]
    if lost:
        lines.append(("Effective density", f"Weights on a live path, of those kept: {', '.join(dict.fromkeys(lost))}."))
    return tuple(lines)


def _kernel(networks: list[Json], tree: Json) -> tuple[Part, ...]:
    rows = [
        {**at(network, "ntk", default={}), **_trace(network), "name": network["name"]}
        for network in networks
        if at(network, "ntk") is not None or at(network, "trace") is not None
    ]
    if not rows:
        return _absent("ntk")
    form = at(tree, "settings", "form", default="sum")
    note = Words(
        f"Empirical kernel of {at(tree, 'settings', 'images', default='the')} images, form {form}, by all prunable "
        "weights that are kept. Alignment is centered kernel alignment with the dense network's kernel at "
        "initialization (1: the same directions). The distance compares eigenvalues rank by rank: 1 is an order of "
        "magnitude apart. The full trace, over all logits, is estimated from random vectors.",
        "note",
    )
    return (note, *figures(spectrum_figure(networks)), _table("kernels", "Kernels", _KERNEL, rows))


def _trace(network: Json) -> Json:
    return {
        "full_trace": at(network, "trace", "mean"),
        "full_trace_error": at(network, "trace", "standard_error"),
    }


def _training(networks: list[Json]) -> tuple[Section, ...]:
    drawn = figures(*along_training(networks))
    return (Section("training", "Along training", drawn),) if drawn else ()


def _isometry(networks: list[Json]) -> tuple[Part, ...]:
    known = [network for network in networks if at(network, "isometry") is not None]
    if not known:
        return _absent("isometry")
    rows = [{**network["isometry"], "name": network["name"]} for network in known]
    layers = [
        {**layer, "layer": layer["name"], "name": network["name"]}
        for network in known
        for layer in at(network, "isometry", "layers", default=[])
    ]
    note = Words(
        "Singular values (JSV) of the Jacobian of the logits by the image, over all images. Mean 1 and spread 0 keep "
        "every length; near 0, gradients vanish. Of a layer they are those of its own linear map.",
        "note",
    )
    table = _table("layer_isometry", "Singular values of each layer", _LAYER_ISOMETRY, layers)
    return (
        note,
        *figures(isometry_figure(known)),
        _table("isometry", "Singular values of the whole network", _ISOMETRY, rows),
        *figures(*layer_isometry_figures(known), level=True),
        *((Folded("All layers", (table,)),) if layers else ()),
    )


def _structure(networks: list[Json]) -> tuple[Part, ...]:
    known = [network for network in networks if at(network, "structure") is not None]
    if not known:
        return _absent("structure")
    rows = [
        {**network["structure"], **{key: network.get(key) for key in ("name", "method", "density", "kept")}}
        for network in distinct_masks(known)
    ]
    note = Words(
        "A kept weight counts as effective if a path of kept weights leads through it from an input to an output. ERK "
        "(Erdos-Renyi kernel) is the usual sparse layout of the same total.",
        "note",
    )
    table = _table("structure", "Masks", _STRUCTURE, rows)
    return (note, table, *figures(*layer_density_figures(distinct_masks(known)), level=True))


def distinct_masks(networks: list[Json]) -> list[Json]:
    """Without those that have the mask of one before them: a run's along its training."""
    seen: list[Any] = []
    found = []
    for network in networks:
        key = (network.get("method"), network.get("kept"), at(network, "structure"))
        if key not in seen or network["state"] == networks[0]["state"]:
            found.append(network)
        seen.append(key)
    return found


def _overlap(pairs: list[Json]) -> tuple[Part, ...]:
    if not pairs:
        return (Words("There are no two masks to compare.", "absent"),)
    note = Words(
        "Weights kept by both masks, of those that either keeps (Jaccard), beside what two independent masks of the "
        "same layer densities would share.",
        "note",
    )
    table = _table("overlap", "Pairs of masks", _OVERLAP, pairs)
    return (note, *figures(overlap_figure(pairs), level=True), table)


def _table(name: str, caption: str, columns: tuple[Column, ...], rows: list[Json]) -> Table:
    cells = tuple(tuple(row.get(column.key) for column in columns) for row in rows)
    return Table(name, caption, columns, cells).without_empty()


def _absent(part: str) -> tuple[Part, ...]:
    return (Words(f"Not asked for: --only goes without {part}.", "absent"),)


def _facts(tree: Json) -> tuple[tuple[str, str], ...]:
    said: dict[str, Any] = at(tree, "settings", default={})
    subject, memory = at(tree, "subject", default={}), at(tree, "memory", default={})
    images = f"{said.get('images')} of {said.get('data')}" if said.get("real") else f"{said.get('images')} of noise"
    rows = [
        ("model", str(subject.get("model"))),
        ("run", str(subject.get("run") or "none")),
        ("input", "x".join(map(str, subject.get("input_shape") or ()))),
        ("classes", str(subject.get("num_classes"))),
        ("images", images),
        ("draws of the initialization", str(said.get("seeds"))),
        ("device", f"{said.get('device')}, {plural(int(said.get('threads') or 1), 'thread')}"),
        ("memory allowed", size(said.get("memory_bytes"))),
        ("peak RSS", size(memory.get("peak_rss_bytes"))),
        ("time", seconds(at(tree, "seconds"))),
    ]
    return tuple(rows)


def _repeat(tree: Json) -> tuple[Part, ...]:
    command = str(at(tree, "command", default=""))
    return (Code(command),) if command else (Words("The command was not recorded.", "absent"),)
