"""Names that tensors take in a file: no two tensors may want one, whatever encoding each gets."""

from __future__ import annotations

from ntksap_export.checkpoint.encodings import ENCODINGS
from ntksap_export.errors import CheckpointError
from ntksap_export.quoting import shown


def claim_(taken: set[str], name: str, pruned: bool) -> None:
    """Add to `taken`, in place, every name that a tensor may have in the file.

    Which encoding is chosen does not matter: whether a checkpoint can be saved must not hang on how sparse it is.

    Raises:
        CheckpointError: one of them is taken.
    """
    encodings = ENCODINGS.values() if pruned else (ENCODINGS["dense"], ENCODINGS["planes"])
    claimed = {name, *(part for encoding in encodings for part in encoding.parts(name))}
    if twice := sorted(claimed & taken) or sorted(claimed & {"__metadata__"}):
        raise CheckpointError(
            f"two tensors would be stored under the name {shown(twice[0])}: P.weight may take P.weight.packed, and "
            "pruned also P.shape, P.compressed, P.bitmask and P.row_offsets; rename one"
        )
    taken |= claimed
