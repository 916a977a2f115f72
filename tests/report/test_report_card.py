"""The model card: front matter the hub can read, the run's numbers, code that compiles."""

from __future__ import annotations

import ast
import copy
import json
import re

import pytest

from ntksap_export.report import ReportInput, render_card
from ntksap_export.report.markdown import escaped

from .sample import sample


def _front_matter(text: str) -> list[str]:
    opening, matter, _ = text.split("---\n", 2)
    assert opening == ""
    return matter.splitlines()


def test_front_matter_names_library_task_tags_and_data() -> None:
    assert _front_matter(render_card(sample())) == [
        "library_name: ntksap-export",
        "pipeline_tag: image-classification",
        "tags:",
        *("- pruning", "- sparsity", "- onnx", "- ntk-sap"),
        "datasets:",
        '- "digits"',
        "metrics:",
        "- accuracy",
    ]


def test_a_hostile_data_set_stays_one_quoted_value() -> None:
    config = copy.deepcopy(sample().config)
    config["data"]["name"] = name = 'x"\n---\nlicense: mit'
    lines = _front_matter(render_card(sample(config=config)))

    assert json.loads(lines[lines.index("datasets:") + 1].removeprefix("- ")) == name
    assert "license: mit" not in lines


def test_sections_come_in_order() -> None:
    found = re.findall(r"^## (.*)$", render_card(sample()), re.MULTILINE)
    expected = ["Model Details", "Results", "How to use", "Limitations", "How it was made", "Citation"]

    assert expected == found


@pytest.mark.parametrize(
    "line",
    [
        "# resnet50 at 90.4 % sparsity, pruned at initialization with NTK-SAP",
        "| top-1 accuracy, last epoch | 91.9 % |",
        "| sparsity | 90.4 % |",
        "| density | 9.6 % |",
        "| FLOP density | 33.6 % |",
        "| size of model.safetensors | 11.2 MB |",
        "| onnxruntime | cpu | fp32 | 1 | 2 | sparse | 28.1 | 29.8 | 34.0 | 35.6 | 100 | steady |",
        "ntksap prune-train-export resnet50 --sparsity 0.9 --rounds 20 --epochs 5 --out out/demo",
        "  title     = {{NTK-SAP}: Improving neural network pruning by aligning training dynamics},",
    ],
)
def test_the_numbers_of_the_run_are_in_the_card(line: str) -> None:
    assert line in render_card(sample()).splitlines()


def test_tables_are_not_torn_by_blank_lines() -> None:
    text = render_card(sample())
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)

    assert [len(table.splitlines()) - 2 for table in tables] == [18, 9, 8]
    assert "\n\n\n" not in text


def test_the_code_compiles_and_has_the_shape_of_the_input() -> None:
    code = re.search(r"```python\n(.*?)```", render_card(sample()), re.DOTALL)

    assert code is not None
    ast.parse(code[1])
    assert "np.zeros((1, 3, 64, 64), np.float32)" in code[1]


def test_foreign_text_cannot_make_markup_or_cells() -> None:
    assert escaped("a|b <i>*c*</i>\n# d `e`") == r"a\|b \<i\>\*c\*\</i\> \# d \`e\`"


def test_a_command_with_a_fence_stays_fenced() -> None:
    text = render_card(sample(command="echo ```\n## Not a heading"))

    assert "````sh\necho ```\n## Not a heading\n````" in text


@pytest.mark.parametrize("part", ["config", "mask", "metrics", "parity", "profile", "sizes"])
def test_one_missing_part_leaves_the_others(part: str) -> None:
    text = render_card(sample(**{part: {}}))

    assert "n/a" not in text.partition("## How to use")[0].replace("| n/a |", "")
    assert "None" not in text.replace("session.run(None, ", "")
    assert "## Citation" in text


def test_nothing_at_all_claims_nothing() -> None:
    text = render_card(ReportInput({}, {}, {}, {}, {}, {}, ""))

    assert "Nothing was measured." in text and "Latency was not measured." in text
    assert "Trained on" not in text
