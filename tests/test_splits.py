import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.config import Split
from synthimg.data import splits
from synthimg.errors import UserError

SHARES = Split()


@st.composite
def data_sets(draw):
    """Rows (id, label, group): each of 2 to 3 classes has at least 6 groups of its own, then mixed groups follow."""
    rows = []
    for label in "abc"[: draw(st.integers(2, 3))]:
        for number, size in enumerate(draw(st.lists(st.integers(1, 6), min_size=6, max_size=20))):
            rows += [(label, f"{label}{number}")] * size
    for number, labels in enumerate(draw(st.lists(st.lists(st.sampled_from("ab"), min_size=2, max_size=4), max_size=4))):
        rows += [(label, f"mixed{number}") for label in labels]
    return [(f"{index:016x}", label, group) for index, (label, group) in enumerate(rows)]


def run(rows, seed=0, budget=None):
    ids, labels, groups = map(list, zip(*rows, strict=True))
    first = splits.assign(labels, groups, "a", SHARES, seed)
    return dict(zip(ids, splits.reserve(ids, labels, groups, first, "a", budget, seed), strict=True))


@settings(max_examples=30, deadline=None)
@given(data_sets(), st.integers(0, 9), st.integers(1, 12), st.randoms(use_true_random=False))
def test_split_properties(rows, seed, budget, random):
    chosen = run(rows, seed, budget)
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert run(shuffled, seed, budget) == chosen, "depends on the row order"

    places = {}
    for identity, _, group in rows:
        places.setdefault(group, set()).add({"reserve": "train"}.get(chosen[identity], chosen[identity]))
    assert all(len(found) == 1 for found in places.values()), "a group straddles splits"

    for label in {label for _, label, _ in rows}:
        held = {chosen[identity] for identity, found, _ in rows if found == label}
        assert {"train", "validation", "test"} <= held
    rare = [chosen[identity] for identity, label, _ in rows if label == "a"]
    assert rare.count("train") <= budget
    assert not rare.count("reserve") or rare.count("train") == budget
    assert all(chosen[identity] != "reserve" for identity, label, _ in rows if label != "a")


def test_shares_are_met_and_the_seed_counts():
    rows = [(f"{n:016x}", "a" if n < 100 else "b", str(n)) for n in range(500)]
    chosen = run(rows)
    assert [sum(chosen[row[0]] == name for row in rows if row[1] == "a") for name in splits.NAMES] == [60, 15, 25]
    assert chosen != run(rows, seed=1)


def test_rare_images_fill_the_splits_however_many_others_their_patients_have():
    many = np.random.default_rng(0).lognormal(2.5, 1, 30).astype(int)
    rows = [("a", str(patient)) for patient in range(30)]
    rows += [("b", str(patient)) for patient, count in enumerate(many) for _ in range(count)]
    rows = [(f"{index:016x}", *row) for index, row in enumerate(rows)]
    for seed in range(10):
        chosen = run(rows, seed)
        rare = [chosen[row[0]] for row in rows if row[1] == "a"]
        assert all(abs(rare.count(name) - 30 * share) <= 1 for name, share in SHARES.model_dump().items())


def test_one_giant_group_does_not_take_the_test_split():
    rows = [(f"{n:016x}", "a", "giant" if n < 50 else str(n)) for n in range(100)]
    assert all(run(rows, seed)[rows[0][0]] == "train" for seed in range(10))


@pytest.mark.parametrize("groups", [["g"] * 9, ["g", "h", "i"]])
def test_a_rare_class_of_few_groups_is_refused_with_numbers(groups):
    labels = ["a"] * len(groups) + ["b"] * 20
    with pytest.raises(UserError, match=f"'a' has {len(set(groups))} group.*at least 6 are needed"):
        splits.assign(labels, groups + [str(n) for n in range(20)], "a", SHARES, 0)


def test_a_missing_class_and_a_share_of_nothing_are_refused():
    with pytest.raises(UserError, match="no usable image is labelled 'z'; the classes are: a, b"):
        splits.assign(["a", "b"], ["1", "2"], "z", SHARES, 0)
    with pytest.raises(UserError, match=r"dataset\.split\.validation"):
        splits.assign(["a"] * 9, list("123456789"), "a", Split(train=0.5, validation=0, test=0.5), 0)


def test_groups_unite_across_duplicates():
    pairs = np.array([[0, 2], [3, 4]])
    assert splits.unite(["a", "a", "b", "c", "d", "e"], pairs) == ["a", "a", "a", "c", "c", "e"]
    assert splits.unite(["a", "b"], np.empty((0, 2), int)) == ["a", "b"]


def test_limit_takes_whole_groups():
    labels, groups = ["a"] * 30 + ["b"] * 10, [str(n // 3) for n in range(40)]
    kept = splits.within_limit(labels, groups, 20, 0)
    assert sum(kept[:30]) <= 20 and sum(kept[:30]) >= 17
    assert all(len({kept[i] for i in range(40) if groups[i] == group}) == 1 for group in groups)
