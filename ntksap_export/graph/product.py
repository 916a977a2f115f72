"""A graph of one large matrix product with a constant factor: how fast a machine multiplies, at its best."""

from __future__ import annotations

from typing import Final, Literal

import onnx

Kind = Literal["fp32", "int8"]
_FORMS: Final = {  # types of what is given and made, the operator, and the factor's value
    "fp32": ("float", "float", "MatMul", "float[1] {0.5}"),
    "int8": ("uint8", "int32", "MatMulInteger", "int8[1] {3}"),
}


def matrix_product(side: int, kind: Kind) -> bytes:
    """(side, side) x (side, side), the second known when the graph is loaded; 2 * side**3 operations.

    The factor is written as its shape and one value, so that the graph is small; runtimes unfold it when they load it.
    """
    given, made, operator, value = _FORMS[kind]
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        product ({given}[{side}, {side}] images) => ({made}[{side}, {side}] products) {{
            shape = Constant<value = int64[2] {{{side}, {side}}}>()
            factor = ConstantOfShape<value = {value}>(shape)
            products = {operator}(images, factor)
        }}
    """
    return bytes(onnx.parser.parse_model(text).SerializeToString())
