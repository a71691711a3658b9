"""Parts of the accepted images: nested, complete, one kind at a time, and a knee that does not read gains into noise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from synthimg.evaluation.portions import growing, knee, portions_of, without_kinds


def accepted(count: int) -> pd.DataFrame:
    return pd.DataFrame({
        "id": [f"{i:04x}" for i in range(count)],
        "method": ["text", "image", "text"][:count] + ["text"] * (count - 3),
        "attribute.light": [["dark", "bright", ""][i % 3] for i in range(count)],
        "attribute.type": "mono",
    })  # fmt: skip


@given(st.integers(1, 200), st.integers(1, 60), st.integers(0, 9))
def test_growing_parts_are_nested_and_double(count: int, rare: int, seed: int) -> None:
    found = list(growing(accepted(count), rare, seed))
    assert all(len(part) == max(1, rare // 2) * 2**i < count for i, part in enumerate(found))
    assert all(set(small) < set(large) for small, large in pairwise(found))
    assert found == list(growing(accepted(count).sample(frac=1, random_state=0), rare, seed))


def test_each_part_lacks_one_kind_and_nothing_else() -> None:
    made = accepted(9)
    found = {(part.what, part.value): part.ids for part in without_kinds(made)}
    assert set(found) == {("method", "text"), ("method", "image"), ("light", "dark"), ("light", "bright")}
    assert set(made["id"]) - set(found["light", "dark"]) == set(made.loc[made["attribute.light"] == "dark", "id"])
    assert found["method", "text"] == ["0001"]


def test_portions_have_one_name_each_and_the_same_in_every_part_of_a_run() -> None:
    """So what the parts of a run say of a portion can be pooled, though each part has other images."""
    kinds = ["method = text", "method = image", "light = dark", "light = bright"]
    for made in (accepted(9), accepted(9).assign(id=[f"{i:04x}" for i in range(100, 109)])):
        found = portions_of(made, rare=5, seed=0)
        assert [portion.name for portion in found] == ["size 0", "size 1", "size 2", *(f"without {kind}" for kind in kinds)]
        assert [len(portion.ids) for portion in found[:3]] == [2, 4, 8]


def test_without_real_rare_images_no_size_is_counted_by_them() -> None:
    assert list(growing(accepted(9), 0, seed=0)) == []
    assert [portion.name.split()[0] for portion in portions_of(accepted(9), 0, seed=0)] == ["without"] * 4


def sizes(*means: float, width: float = 0.04) -> list[dict[str, Any]]:
    spread = [{"mean": mean, "ci95": [mean - width, mean + width]} for mean in means]
    return [{"ratio": 2.0**i, "gain": gain} for i, gain in enumerate(spread)]


def test_the_knee_is_the_first_ratio_within_one_standard_error_of_the_best() -> None:
    assert knee(sizes(0.01, 0.05, 0.06, 0.055)) == 2  # the standard error is 0.08 / 3.92 = 0.02
    assert knee(sizes(0.01, 0.03, 0.06, 0.055)) == 4
    assert knee(sizes(-0.01, -0.02)) is None
    assert knee(sizes(0.01, 0.012)) is None  # 0 is within a standard error, too
