import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthimg.config import Split
from synthimg.data import splits
from synthimg.errors import UserError
from synthimg.reading import parse

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


def configured(seed=0, part=None, **dataset):
    """A run on one split, or with `part` on three folds; the rare class is `a`."""
    tree = {"name": "x", "seed": seed, "folds": 3 if part else 1, "draws": 4 if part else 1, "part": part}
    return parse({**tree, "dataset": {"path": "x", "rare_class": "a", "prompts": "generic", **dataset}})


def framed(rows, **columns):
    return pd.DataFrame(rows, columns=["id", "label", "group"]).assign(**columns)


def run(rows, seed=0, budget=None):
    return dict(
        zip([row[0] for row in rows], splits.split_of(framed(rows), configured(seed, rare_budget=budget)), strict=True)
    )


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


def test_a_group_is_drawn_with_the_rare_class_if_it_holds_one_else_with_its_rarest():
    labels = ["z", "z", "z", "z", "a", "a", "a", "b", "b", "c", "c"]
    groups = ["1", "2", "2", "3", "2", "4", "4", "4", "5", "5", "6"]
    # z is the rare class by name, though the largest; of a (3 images) and b (2) the rarer is b; b and c tie: the first
    expected = {"1": "z", "2": "z", "3": "z", "4": "b", "5": "b", "6": "c"}
    assert splits.strata(labels, groups, "z") == expected
    assert splits.strata(labels[::-1], groups[::-1], "z") == expected


@st.composite
def classes_of_groups(draw):
    """(label, group) rows of the rare class `a` and of `b`: 6 to 30 groups each, a few of them large."""
    rows = []
    for label in "ab":
        sizes = draw(st.lists(st.sampled_from([1, 1, 1, 2, 3, 9]), min_size=6, max_size=30))
        rows += [(label, f"{label}{number}") for number, size in enumerate(sizes) for _ in range(size)]
    return rows


def by_class(rows, chosen, label):
    """Images and groups of a class in each split, and its largest group."""
    own = [(name, group) for (found, group), name in zip(rows, chosen, strict=True) if found == label]
    images = {name: sum(found == name for found, _ in own) for name in splits.NAMES}
    groups = {name: len({group for found, group in own if found == name}) for name in splits.NAMES}
    names = [group for _, group in own]
    return images, groups, max(map(names.count, names))


@settings(max_examples=80, deadline=None)
@given(classes_of_groups(), st.integers(0, 9))
def test_every_class_of_six_groups_has_two_in_each_split_and_its_shares_within_a_group(rows, seed):
    labels, groups = map(list, zip(*rows, strict=True))
    chosen = splits.assign(labels, groups, "a", SHARES, seed)
    for label in "ab":
        images, held, largest = by_class(rows, chosen, label)
        assert min(held.values()) >= 2
        moved = 2 * largest if sum(held.values()) < 12 else largest  # of few groups some are moved to make two in each
        for name, share in SHARES.model_dump().items():
            assert abs(images[name] - share * sum(images.values())) <= moved


@pytest.mark.parametrize(("count", "least"), [(3, 1), (4, 1), (5, 1), (6, 2), (9, 2)])
def test_other_classes_of_few_groups_are_in_every_split_all_the_same(count, least):
    """However unequal the groups are: one holds most of the images, so shares alone would leave splits empty."""
    labels, groups = ["a"] * 12 + ["b"] * (40 + count - 1), [str(n) for n in range(12)]
    groups += ["giant"] * 40 + [f"b{n}" for n in range(count - 1)]
    for seed in range(10):
        chosen = splits.assign(labels, groups, "a", SHARES, seed)
        _, held, _ = by_class(list(zip(labels, groups, strict=True)), chosen, "b")
        assert min(held.values()) >= least


def test_two_groups_of_another_class_are_no_error():
    labels, groups = ["a"] * 12 + ["b"] * 2, [str(n) for n in range(14)]
    assert len(splits.assign(labels, groups, "a", SHARES, 0)) == 14


def test_six_groups_of_the_rare_class_are_enough_and_two_go_to_each_split():
    labels, groups = ["a"] * 6 + ["b"] * 20, [str(n) for n in range(26)]
    chosen = splits.assign(labels, groups, "a", SHARES, 0)
    assert sorted(chosen[:6]) == ["test"] * 2 + ["train"] * 2 + ["validation"] * 2
    # of a class of 20 images in groups of their own the shares are met to the image: 12, 3, 5
    assert [chosen[6:].count(name) for name in splits.NAMES] == [12, 3, 5]
    with pytest.raises(UserError, match="'a' has 5 groups"):
        splits.assign(labels[1:], groups[1:], "a", SHARES, 0)


def test_other_classes_do_not_move_the_rare_one():
    rows = [("a", str(n // 2)) for n in range(40)]
    alone, together = (
        splits.assign(*map(list, zip(*(rows + others), strict=True)), "a", SHARES, 3)
        for others in ([("b", "x")], [("b", f"b{n // 3}") for n in range(90)])
    )
    assert alone[:40] == together[:40]


def test_only_rare_images_of_a_group_that_holds_some_fill_its_share():
    """Twenty patients with one rare image each; ten of them also have thirty others, which would fill any split."""
    rows = [("a", str(n)) for n in range(20)] + [("b", str(n)) for n in range(10) for _ in range(30)]
    rows += [("b", f"b{n}") for n in range(20)]
    labels, groups = map(list, zip(*rows, strict=True))
    for seed in range(5):
        chosen = splits.assign(labels, groups, "a", SHARES, seed)
        assert [chosen[:20].count(name) for name in splits.NAMES] == [12, 3, 5]


DATASET = configured().dataset


@st.composite
def rare_images(draw):
    """Ids and groups of rare images, the ids not in the order of the groups."""
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=10))
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return pd.DataFrame({"id": [f"{(7 * index) % 97:04d}" for index in range(len(groups))], "group": groups})


def drawn(rare, seed=0, budget=None, groups=None):
    dataset = DATASET.model_copy(update={"rare_budget": budget, "rare_groups": groups})
    return splits.drawn(rare, dataset, seed)


@settings(max_examples=60, deadline=None)
@given(rare_images(), st.integers(0, 40), st.integers(0, 9))
def test_the_budget_keeps_so_many_and_a_larger_one_holds_the_smaller(rare, budget, seed):
    kept = drawn(rare, seed, budget)
    assert len(kept) == min(budget, len(rare)) and kept <= set(rare["id"])
    assert kept <= drawn(rare, seed, budget + 1)
    assert kept == drawn(rare.sample(frac=1, random_state=seed), seed, budget), "depends on the row order"


def test_without_rare_groups_the_budget_is_drawn_from_all_groups():
    """Of 40 images in 8 groups, 8 images of as few groups as could be would always be of two."""
    rare = pd.DataFrame({"id": [f"{n:02d}" for n in range(40)], "group": [f"g{n // 5}" for n in range(40)]})
    touched = [rare[rare["id"].isin(drawn(rare, seed, 8))]["group"].nunique() for seed in range(20)]
    assert np.mean(touched) > 4
    often = [name for seed in range(200) for name in drawn(rare, seed, 8)]
    assert min(map(often.count, set(often))) >= 15 and len(set(often)) == 40, "each image is as likely"


@settings(max_examples=30, deadline=None)
@given(rare_images(), st.integers(1, 30), st.integers(1, 6), st.integers(0, 9))
def test_rare_groups_are_whole_groups_in_drawn_order_as_few_as_hold_the_budget(rare, budget, least, seed):
    kept = drawn(rare, seed, budget, least)
    assert len(kept) == min(budget, len(rare))
    assert kept == drawn(rare.sample(frac=1, random_state=seed), seed, budget, least), "depends on the row order"
    # the order of the groups: a budget that is not reached takes the first N of them whole
    sizes, counts = rare["group"].value_counts(), range(1, rare["group"].nunique() + 1)
    firsts = [set(rare[rare["id"].isin(drawn(rare, seed, None, count))]["group"]) for count in counts]
    assert [len(first) for first in firsts] == list(counts)
    assert all(one < two for one, two in itertools.pairwise(firsts))
    held = [sizes[list(first)].sum() for first in firsts]
    enough = next((count for count, images in zip(counts, held, strict=True) if images >= budget), len(held))
    pool = firsts[min(max(enough, least), len(firsts)) - 1]
    assert set(rare[rare["id"].isin(kept)]["group"]) <= pool
    if sizes[list(pool)].sum() <= budget:
        assert kept == set(rare.loc[rare["group"].isin(pool), "id"])


def test_rare_groups_by_hand():
    """Groups of 3, 3 and 3 images: a budget of 4 needs two of them, one of 3 a single one, unless more are asked for."""
    rare = pd.DataFrame({"id": list("abcdefghi"), "group": list("xxxyyyzzz")})
    groups = {(budget, least): {tuple(sorted(set(rare[rare["id"].isin(drawn(rare, seed, budget, least))]["group"])))
                                for seed in range(30)} for budget, least in ((4, 1), (3, 1), (6, 3), (None, 2))}  # fmt: skip
    assert groups[4, 1] == {("x", "y"), ("x", "z"), ("y", "z")} == groups[None, 2]
    assert groups[3, 1] == {("x",), ("y",), ("z",)}
    assert ("x", "y", "z") in groups[6, 3]
    assert all(len(drawn(rare, seed, 4, 1)) == 4 and len(drawn(rare, seed, None, 2)) == 6 for seed in range(5))


def split(labels, groups, seed=0, part=None, frame=None, **dataset):
    rows = [(f"{number:03d}", *row) for number, row in enumerate(zip(labels, groups, strict=True))]
    return splits.split_of(framed(rows, **(frame or {})), configured(seed, part, **dataset))


def test_without_a_budget_or_with_one_that_is_not_reached_nothing_is_held_in_reserve():
    labels, groups = ["a"] * 20 + ["b"] * 20, [str(n) for n in range(40)]
    whole = split(labels, groups)
    assert whole == splits.assign(labels, groups, "a", SHARES, 0) and "reserve" not in whole
    assert whole[:20].count("train") == 12
    for budget in (12, 30):
        assert split(labels, groups, rare_budget=budget) == whole
    for budget in (11, 3, 0):
        cut = split(labels, groups, rare_budget=budget)
        assert cut.count("reserve") == 12 - budget
        assert [("train" if name == "reserve" else name) for name in cut] == whole


def test_the_budget_is_drawn_from_the_seed_and_anew_for_each_fold_and_draw():
    labels, groups = ["a"] * 30 + ["b"] * 30, [str(n) for n in range(60)]
    fold = {"fold": [number % 3 for number in range(60)]}

    def kept(seed=0, **part):
        return tuple(split(labels, groups, seed, part or None, fold if part else None, rare_budget=5))

    assert len({kept(seed) for seed in range(5)}) == 5
    draws = [kept(fold=0, draw=draw) for draw in range(4)]
    assert len(set(draws)) == 4 and draws[1] == kept(fold=0, draw=1)
    for cut in draws:
        # fold 0 tests, fold 1 is validation, fold 2 trains
        assert {name for number, name in enumerate(cut) if number % 3 == 0} == {"test"}
        assert {name for number, name in enumerate(cut) if number % 3 == 1} == {"validation"}
        assert cut[2:30:3].count("train") == 5 and cut[2:30:3].count("reserve") == 5 and set(cut[32::3]) == {"train"}


@st.composite
def places(draw):
    """Groups of one place each, and of each kind enough; the attribute is there or not known for some images."""
    rows, where = data_sets(), st.sampled_from(["here", "there", ""])
    found = draw(rows)
    of = {group: draw(where) for group in sorted({group for _, _, group in found})}
    return found, [of[group] for _, _, group in found]


@settings(max_examples=30, deadline=None)
@given(places(), st.integers(0, 9), st.integers(0, 8))
def test_a_deployment_is_tested_there_and_trained_elsewhere(found, seed, budget):
    rows, place = found
    frame = framed(rows, **{"attribute.site": place})
    config = configured(seed, deployment={"site": ["there"]}, rare_budget=budget)
    before, split = splits.split_of(frame, configured(seed)), np.array(splits.split_of(frame, config))
    there, rare = frame["attribute.site"] == "there", frame["label"] == "a"
    trained = np.array(before) == "train"
    assert there[np.isin(split, ["validation", "test", "reserve"])].all()
    assert (split[there & ~trained] == np.array(before)[there & ~trained]).all()
    assert (split[~there & ~trained] == "unused").all()
    assert not there[(split == "train") & rare].any()
    assert ((split == "train") & rare).sum() == min(budget, (trained & rare & ~there).sum())
    assert (split[trained & rare & there] == "reserve").all()
    assert set(split[trained & rare & ~there]) <= {"train", "unused"}
    assert (split[trained & ~rare] == "train").all()


def test_any_attribute_and_several_can_say_where_the_classifier_is_used():
    frame = pd.DataFrame({"attribute.a": list("xyz"), "attribute.b": list("uvu")})
    assert splits.is_there(frame, {}).tolist() == [True] * 3
    assert splits.is_there(frame, {"a": ["x", "z"]}).tolist() == [True, False, True]
    assert splits.is_there(frame, {"a": ["x", "y"], "b": ["u"]}).tolist() == [True, False, False]


def test_what_is_missing_in_a_split_is_named():
    labels, split = list("aabbbab"), ["train", "test", "train", "validation", "test", "validation", "train"]
    frame = pd.DataFrame({"label": labels, "split": split})
    splits.check_splits(frame, "a")
    splits.check_splits(frame[1:], "a", budget=0)
    for gone, words in ((0, "'a' in train"), (1, "'a' in test"), (3, r"classes \(they set the threshold\) in validation"),
                        (4, "other classes in test")):  # fmt: skip
        with pytest.raises(UserError, match=rf"^dataset\.split: .*{words}; raise dataset\.split\."):
            splits.check_splits(frame.drop(gone), "a", 3)
        with pytest.raises(UserError, match=f"^folds: .*{words}; choose fewer folds or add groups"):
            splits.check_splits(frame.drop(gone).assign(fold=0), "a", 3)


@settings(max_examples=60, deadline=None)
@given(data_sets(), st.integers(3, 25), st.integers(0, 9))
def test_the_limit_takes_every_whole_group_that_still_fits(rows, limit, seed):
    _, labels, groups = map(list, zip(*rows, strict=True))
    kept = splits.within_limit(labels, groups, limit, seed)
    taken = {label: sum(keep for keep, found in zip(kept, labels, strict=True) if found == label) for label in set(labels)}
    assert max(taken.values()) <= limit
    for group in set(groups):
        own = [index for index, found in enumerate(groups) if found == group]
        assert len({kept[index] for index in own}) == 1
        if not kept[own[0]]:
            counts = {label: [labels[index] for index in own].count(label) for label in set(labels)}
            assert any(count and taken[label] + count > limit for label, count in counts.items())


def test_as_many_as_the_limit_are_all_kept():
    labels, groups = ["a"] * 20 + ["b"] * 3, [str(n) for n in range(23)]
    assert splits.within_limit(labels, groups, 20, 0) == [True] * 23
    assert splits.within_limit(labels, groups, None, 0) == [True] * 23
    assert splits.within_limit(labels, groups, 20, 0) != splits.within_limit(["a"] * 23, groups, 20, 0)


def test_groups_unite_along_a_chain_under_the_first_of_their_names():
    pairs = np.array([[4, 3], [3, 1], [0, 0]])
    assert splits.unite(["q", "m", "x", "b", "z"], pairs) == ["q", "b", "x", "b", "b"]
    assert splits.unite([], np.empty((0, 2), int)) == []


def test_to_make_two_groups_in_each_split_the_smallest_ones_are_moved():
    """Groups of 28 images: by shares alone validation would get 4.2 of them, one group, and training 16.8."""
    sizes = [1, 3, 5, 5, 5, 9]
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    for seed in range(8):
        chosen = splits.assign(["a"] * len(groups), groups, "a", SHARES, seed)
        images, held, _ = by_class([("a", group) for group in groups], chosen, "a")
        assert set(held.values()) == {2}
        assert images["train"] == 14  # the groups of 9 and of 5: what has left it is smaller
