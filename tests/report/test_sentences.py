import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailora.metrics import MethodMetrics, PairedDifference
from tailora.report.sentences import (
    compare_scores,
    describe_geometry,
    describe_purity,
    small_test_warning,
    supported_best,
)

SHARES = st.floats(-1, 1).map(lambda share: round(share, 6))


def pair(change, ends):
    return PairedDifference("deblora", "lora", {"tail": change}, {"tail": ends})


def method(name, score, ends, **geometry):
    return MethodMetrics(
        method=name, macro_f1={"tail": score}, macro_f1_interval={"tail": ends}, accuracy=0.5,
        balanced_accuracy=0.5, ece=0.1, ece_by_group={}, per_class=(), confusion=(),
        geometry=geometry, trained_parameters=0, seconds=1.0, peak_memory_mb=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "ends", "tone", "sentence"),
    [
        (
            0.021,
            [0.003, 0.04],
            "good",
            "debLoRA changes tail macro-F1 by +2.1 points over LoRA, 95 % interval [0.3, 4.0]: "
            "it helps.",
        ),
        (
            -0.02,
            [-0.04, -0.001],
            "bad",
            "debLoRA changes tail macro-F1 by -2.0 points over LoRA, 95 % interval [-4.0, -0.1]: "
            "it hurts.",
        ),
        (
            0.004,
            [-0.012, 0.02],
            "open",
            "debLoRA changes tail macro-F1 by +0.4 points over LoRA, 95 % interval [-1.2, 2.0]: "
            "no difference can be claimed.",
        ),
    ],
)
def test_sentence_says_what_the_interval_allows(change, ends, tone, sentence):
    note = compare_scores(pair(change, ends), "tail", confidence=0.95)
    assert (note.text, note.tone) == (sentence, tone)


@given(first=SHARES, second=SHARES)
@settings(deadline=None, max_examples=50)
def test_a_claim_is_made_exactly_when_zero_lies_outside(first, second):
    low, high = sorted((first, second))
    note = compare_scores(pair((low + high) / 2, [low, high]), "tail", confidence=0.95)
    claimed = {"good": 1, "bad": -1, "open": 0}[note.tone]
    expected = 0 if low <= 0 <= high else (1 if low > 0 else -1)
    assert claimed == expected


def test_an_interval_that_touches_zero_claims_nothing():
    for ends in ([0.0, 0.03], [-0.03, 0.0], [0.0, 0.0], [1e-17, 0.02]):
        note = compare_scores(pair(0.01, ends), "tail", confidence=0.95)
        assert note.tone == "open"
        assert "no difference can be claimed" in note.text


def test_a_bound_near_zero_is_not_printed_as_zero():
    note = compare_scores(pair(0.01, [0.0002, 0.02]), "tail", confidence=0.9)
    assert "90 % interval [0.02, 2.0]: it helps" in note.text


def test_missing_numbers_claim_nothing():
    without_interval = compare_scores(pair(0.01, None), "tail", confidence=0.95)
    assert without_interval.tone == "open"
    assert "no difference can be claimed" in without_interval.text
    assert "cannot be compared" in compare_scores(pair(None, None), "tail", confidence=0.95).text


def test_a_lead_needs_intervals_apart():
    apart = [method("lora", 0.5, [0.45, 0.55]), method("deblora", 0.7, [0.6, 0.8])]
    overlapping = [method("lora", 0.5, [0.45, 0.65]), method("deblora", 0.7, [0.6, 0.8])]
    assert supported_best(apart, [], "tail") == 1
    assert supported_best(overlapping, [], "tail") is None


def test_a_paired_interval_outweighs_overlapping_ones():
    methods = [method("lora", 0.50, [0.4, 0.6]), method("deblora", 0.53, [0.43, 0.63])]
    assert supported_best(methods, [pair(0.03, [0.01, 0.05])], "tail") == 1
    assert supported_best(methods, [pair(0.03, [-0.01, 0.05])], "tail") is None


def test_a_paired_interval_counts_for_the_other_method_too():
    methods = [method("lora", 0.56, [0.4, 0.7]), method("deblora", 0.53, [0.43, 0.63])]
    assert supported_best(methods, [pair(-0.03, [-0.05, -0.01])], "tail") == 0
    assert supported_best(methods, [pair(-0.03, [-0.05, 0.01])], "tail") is None


def test_the_best_must_lead_every_other_method():
    methods = [
        method("zero-shot", 0.2, [0.1, 0.3]),
        method("lora", 0.65, [0.55, 0.75]),
        method("deblora", 0.7, [0.6, 0.8]),
    ]
    assert supported_best(methods, [], "tail") is None


def test_one_method_alone_or_without_interval_is_no_winner():
    assert supported_best([method("lora", 0.5, [0.4, 0.6])], [], "tail") is None
    assert supported_best([method("a", 0.5, None), method("b", 0.9, None)], [], "tail") is None
    assert supported_best([method("a", None, None), method("b", 0.9, None)], [], "tail") is None


@pytest.mark.parametrize(
    ("purity", "words"),
    [(0.71, "nearly pure: little is shared"), (0.7, "partly"), (0.4, "shared attributes")],
)
def test_purity_is_put_into_words(purity, words):
    text = describe_purity(purity, largest_share=0.3).text
    assert words in text
    assert "largest class" not in text


def test_a_majority_class_explains_pure_clusters():
    assert "has 80 %" in describe_purity(0.85, largest_share=0.8).text


def test_geometry_tells_wanted_from_unwanted_moves():
    before, after, unknown = (
        method(name, 0.5, None, inter_head_tail=head, inter_tail_tail=tail, intra_tail=within)
        for name, head, tail, within in (
            ("lora", 0.3, 0.3, 0.2),
            ("deblora", 0.4, 0.2, 0.1),
            ("deblora", None, None, None),
        )
    )
    assert describe_geometry(before, after).text == (
        "From LoRA to debLoRA: head and tail classes are further apart (desired); tail classes "
        "are, from each other, closer together (not desired); samples of one tail class are "
        "closer together (desired)."
    )
    assert describe_geometry(before, before) is None
    assert describe_geometry(before, unknown) is None


def test_a_small_test_split_is_pointed_out():
    assert "based on 12 test samples" in small_test_warning(12).text
    assert small_test_warning(50) is None
