import pandas as pd

from synthimg.data.grouping import group_counts, group_table

ROWS = [
    ("rare", "p", "train"), ("rare", "p", "train"), ("rare", "q", "test"), ("common", "p", "train"),
    ("common", "r", "reserve"), ("common", "s", "validation"), ("common", "s", "validation"),
]  # fmt: skip
FRAME = pd.DataFrame(ROWS, columns=["label", "group", "split"]).assign(path=[f"{n}.png" for n in range(7)])


def test_images_and_groups_are_counted_apart_in_each_class_and_split():
    assert group_counts(FRAME) == {
        "common": {"train": 1, "reserve": 1, "validation": 1, "test": 0, "all": 3},
        "rare": {"train": 1, "reserve": 0, "validation": 0, "test": 1, "all": 2},
    }
    assert group_table(FRAME).split("\n") == [
        "images in groups   train  reserve  validation    test     all",
        "common            1 in 1   1 in 1      2 in 1  0 in 0  4 in 3",
        "rare              2 in 1   0 in 0      0 in 0  1 in 1  3 in 2",
    ]


def test_folds_are_listed_by_their_number_and_a_group_in_two_of_them_is_one_in_all():
    frame = pd.DataFrame({"label": "a", "group": ["x", "x", "y"], "split": [10, 2, 2], "path": ["1", "2", "3"]})
    assert group_counts(frame) == {"a": {"2": 2, "10": 1, "all": 2}}
    assert group_table(frame).split("\n")[0].split() == ["images", "in", "groups", "2", "10", "all"]
