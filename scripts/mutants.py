"""Break the code on purpose, one place at a time, and see the tests notice.

    python scripts/mutants.py [--only NAME] [--list] [--jobs N]

The breaks are of meaning: which split something is chosen on, which end an order begins at, on
which side of a limit equality lies. Tests and sources are copied to a temporary folder first, so
nothing here changes. A break that no test notices is a missing test.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "pyproject.toml")
SECONDS = 300  # of one break; one that hangs is not noticed by a test, but by its reader
FAILED = 1  # what pytest ends with when tests failed, and not their collection


@dataclass(frozen=True)
class Break:
    """One deliberate fault.

    Args:
        name: To ask for it.
        says: What is wrong then.
        file: Below `src/tailora`.
        edits: Old and new text of each place; the old one stands there exactly once.
        tests: Node ids below `tests`, at least one of which must fail.
    """

    name: str
    says: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


BREAKS: tuple[Break, ...] = (
    Break(
        "parts-of-objects",
        "parts of a batch divide by their own objects",
        "train/loop.py",
        (("num_processes > 1 or len(parts) > 1", "num_processes > 1"),),
        (
            "train/test_parts_of_objects.py::"
            "test_parts_make_the_step_of_the_whole_batch_whatever_objects_each_has",
        ),
    ),
    Break(
        "names-of-parts",
        "a loss that the last part of a batch does not have is forgotten",
        "train/loop.py",
        (("noted |= {n: noted.get", "noted = {n: noted.get"),),
        (
            "train/test_parts_of_objects.py::"
            "test_parts_make_the_step_of_the_whole_batch_whatever_objects_each_has",
        ),
    ),
    Break(
        "ground-sampling-unknown",
        "objects of images of unknown ground sampling distance are pasted beside others",
        "augment/moved_objects.py",
        (("np.isfinite(known) | (not measured)", "np.ones(len(known))"),),
        (
            "augment/test_moved_objects.py::"
            "test_an_image_of_unknown_distance_neither_gives_nor_takes",
        ),
    ),
    Break(
        "stage-of-objects",
        "maps of stages begin with what heads see",
        "detection/feature_pyramid.py",
        (("cells[..., self.features :]", "cells[..., : -self.features]"),),
        (
            "detection/test_rotated_fcos.py::"
            "test_levels_of_stages_have_their_strides_and_see_their_own_and_coarser_maps",
        ),
    ),
    Break(
        "boundary-of-ignored",
        "pixels without a class are the boundary of every class",
        "losses/boundary.py",
        (("~(known & ~own)", "own"),),
        ("losses/test_boundary.py::test_a_strip_by_hand",),
    ),
    Break(
        "copies-of-page",
        "a copy of an image on the same page is shown beside it",
        "labelling/acquisition.py",
        (("        self.recent.append(item)\n", ""),),
        ("labelling/test_acquisition.py::test_a_copy_is_shown_only_when_nothing_else_is_left",),
    ),
    Break(
        "refit-silent",
        "a head that could not be fitted is tried again only after ten more answers",
        "labelling/session.py",
        (("error, max(self._new, 1)", "error, self._new"),),
        ("labelling/test_server.py::test_a_head_that_cannot_be_fitted_is_told_and_loses_nothing",),
    ),
    Break(
        "box-mirrored",
        "the angle of a box stays when its image is mirrored",
        "boxes/moves.py",
        (("side - moved[:, 0], -moved[:, 4]", "side - moved[:, 0], moved[:, 4]"),),
        ("tasks/test_detection.py::test_boxes_turn_with_their_images",),
    ),
    Break(
        "centre-common",
        "of two objects with centres in one token the more common decides",
        "tasks/detection.py",
        (("np.argsort(rank[classes], kind", "np.argsort(-rank[classes], kind"),),
        (
            "tasks/test_detection.py::test_the_token_at_the_centre_decides_and_of_two_the_rarer_class",
        ),
    ),
    Break(
        "boxes-upright",
        "features of objects are pooled without the angle of their boxes",
        "detection/roi_pooling.py",
        (("boxes[:, 4:5].cos(), boxes[:, 4:5].sin()", "1.0, 0.0"),),
        ("detection/test_roi_pooling.py::test_the_mean_of_points_that_scipy_reads",),
    ),
    Break(
        "tokens-cornered",
        "a token is taken for its corner where features of objects are pooled",
        "detection/roi_pooling.py",
        (("at * cells - 0.5", "at * cells"),),
        (
            "detection/test_roi_pooling.py::test_a_ramp_gives_its_value_at_the_centre_whatever_the_angle",
        ),
    ),
    Break(
        "difficult-false",
        "detections of difficult objects count as false alarms",
        "metrics/detection.py",
        (("used = flags >= 0", "used = flags >= -1"),),
        ("metrics/test_detection.py::test_weights_are_repetitions",),
    ),
    Break(
        "absence-ignored",
        "absence is learnt where objects are difficult",
        "detection/rotated_fcos.py",
        (("[known].sum()", ".sum()"),),
        ("detection/test_rotated_fcos.py::test_what_is_said_in_ignored_boxes_costs_nothing",),
    ),
    Break(
        "claims-dearest",
        "a location that two objects want goes to the one that it finds worse",
        "detection/rotated_rtmdet.py",
        (("taken.min(dim=1)", "taken.masked_fill(taken.isinf(), -1).max(dim=1)"),),
        ("detection/test_rotated_rtmdet.py::test_every_location_goes_where_loops_send_it",),
    ),
    Break(
        "overlap-unpriced",
        "a location that says a poor box is as cheap as one that says a good one",
        "detection/rotated_rtmdet.py",
        (("_OVERLAP_WEIGHT * found.log()", "0 * found.log()"),),
        (
            "detection/test_rotated_rtmdet.py::test_an_object_gets_as_many_of_its_cheapest_locations_as_its_overlaps_sum_to",
        ),
    ),
    Break(
        "edges-twice",
        "edges that coincide count for both shapes",
        "boxes/overlap.py",
        (("_along(other, one, -near)", "_along(other, one, near)"),),
        ("boxes/test_overlap.py::test_boxes_with_common_edges_overlap_as_shapely_says",),
    ),
    Break(
        "recut-other-way",
        "masks of re-cut windows move against their images",
        "augment/recut.py",
        (
            (
                "(slice(max(0, n), size + min(0, n)), slice(max(0, -n), size - max(0, n)))",
                "(slice(max(0, -n), size + min(0, -n)), slice(max(0, n), size - max(0, -n)))",
            ),
        ),
        (
            "train/test_recutting.py::test_targets_are_turned_with_the_re_cut_window_and_batches_drawn_in_parts",
        ),
    ),
    Break(
        "points-moved-unbalanced",
        "points learn from moved tokens by their number, not all classes alike",
        "heads/vit_p.py",
        (("_chances(torch.from_numpy(labels)[None])[0]", "torch.ones(len(labels))"),),
        ("heads/test_vit_p.py::test_points_learn_from_moved_rows_all_classes_alike",),
    ),
    Break(
        "token-corners",
        "logits of tokens are stretched from edge to edge, half a token off",
        "tasks/segmentation.py",
        (("align_corners=False", "align_corners=True"),),
        ("tasks/test_segmentation.py::test_a_ramp_stays_a_ramp",),
    ),
    Break(
        "token-first",
        "of four pixels at the centre of a token always the first is taken",
        "tasks/segmentation.py",
        (("% 2 * 2 - 1", "* 0 + 1"),),
        ("tasks/test_segmentation.py::test_tokens_of_even_sides_are_not_shifted",),
    ),
    Break(
        "token-farthest",
        "a token stands for the pixel farthest from its centre",
        "tasks/segmentation.py",
        (("distance))[::-1]", "distance))"),),
        (
            "tasks/test_segmentation.py::test_tokens_take_the_labelled_pixel_nearest_to_their_centre",
        ),
    ),
    Break(
        "iou-absent",
        "a class that is neither true nor predicted has IoU 0",
        "metrics/segmentation.py",
        (("hits / np.maximum(union, 1), np.nan)", "hits / np.maximum(union, 1), 0.0)"),),
        ("metrics/test_segmentation.py::test_pixels_of_all_images_are_counted_together",),
    ),
    Break(
        "iou-border",
        "the border of an image is on no boundary",
        "metrics/segmentation.py",
        (
            (
                'low = ndimage.minimum_filter(mask, size, mode="constant", cval=outside)',
                'low = ndimage.minimum_filter(mask, size, mode="nearest")',
            ),
            (
                'high = ndimage.maximum_filter(mask, size, mode="constant", cval=outside)',
                'high = ndimage.maximum_filter(mask, size, mode="nearest")',
            ),
        ),
        ("metrics/test_segmentation.py::test_a_boundary_is_what_erosion_removes",),
    ),
    Break(
        "iou-units",
        "pixels are resampled by image where blocks are known",
        "metrics/segmentation.py",
        (
            (
                "np.unique(np.asarray(units), return_inverse=True)",
                "np.unique(np.arange(len(sums)), return_inverse=True)",
            ),
        ),
        ("metrics/test_segmentation.py::test_units_are_resampled_as_a_whole",),
    ),
    Break(
        "negative-rows",
        "rows with a negative target count unless it is the ignored value",
        "losses/row_loss.py",
        (("return (targets >= 0) & (targets != ignore_index)", "return targets != ignore_index"),),
        ("losses/test_ignored_rows.py::test_no_negative_target_counts_whatever_the_ignored_value",),
    ),
    Break(
        "noise-evaluated",
        "BLV's noise is also in evaluation",
        "losses/blv.py",
        (("if self.training:", "if self.sigma:"),),
        ("losses/test_blv.py::test_in_evaluation_nothing_is_drawn",),
    ),
    Break(
        "noise-redrawn",
        "a linear head has other noise in each step of its fit",
        "heads/loss_probe.py",
        (('getattr(loss, "draws", False)', 'getattr(loss, "drawn", False)'),),
        ("losses/test_blv.py::test_a_linear_head_is_the_minimum_under_noise_that_is_drawn_once",),
    ),
    Break(
        "objects-pixels",
        "the prior of objects counts pixels",
        "losses/logit_adjusted.py",
        (('counts.of_objects() if prior == "objects" else counts', "counts"),),
        (
            "losses/test_logit_adjusted.py::test_the_prior_may_count_objects_in_the_place_of_their_pixels",
        ),
    ),
    Break(
        "objects-rows",
        "objects are counted in images that were not selected",
        "data/masks.py",
        (
            (
                "targets, rows = targets.base, targets.indices[rows]",
                "targets = targets.base",
            ),
        ),
        ("data/test_masks.py::test_objects_of_masks_are_their_connected_areas",),
    ),
    Break(
        "objects-one-order",
        "areas of a transition are counted in one order of the dates",
        "tasks/change.py",
        (("own + own[parse_transitions(data.classes).inverse]", "2 * own"),),
        ("tasks/test_change.py::test_objects_of_a_transition_are_its_areas_in_both_orders",),
    ),
    Break(
        "windows-of-what-stays",
        "pairs are shown for what rarely stays",
        "tasks/change.py",
        (("measured.groups.tail if found.changed[c]", "measured.groups.tail"),),
        ("tasks/test_change.py::test_the_worst_pairs_of_rare_transitions_are_shown",),
    ),
    Break(
        "overlap-absent",
        "classes absent from a batch count as without overlap",
        "losses/overlap.py",
        (("present = (truth.sum(dim=0) > 0)", "present = (truth.sum(dim=0) >= 0)"),),
        ("losses/test_overlap.py::test_classes_absent_from_the_batch_have_no_overlap",),
    ),
    Break(
        "lovasz-order",
        "Lovász sorts rows from the least wrong",
        "losses/overlap.py",
        (("sort(dim=0, descending=True)", "sort(dim=0)"),),
        ("losses/test_overlap.py::test_lovasz_is_the_mean_of_one_minus_iou_over_thresholds",),
    ),
    Break(
        "pixel-blend",
        "pixels of overlapping windows are not weighted",
        "inference/maps/blend.py",
        (
            (
                "np.outer(grid.rows.of_pixels(), grid.columns.of_pixels())",
                "np.ones((grid.chip, grid.chip))",
            ),
        ),
        (
            "inference/maps/test_pixel_blend.py::test_pixels_are_weighted_means_of_the_windows_over_them",
        ),
    ),
    Break(
        "second-date-gaps",
        "ground that the second scene lacks is labelled",
        "data/scene_dates.py",
        (("np.where(valid, np.stack([first, second]), IGNORED)", "np.stack([first, second])"),),
        ("data/test_scene_dates.py::test_ground_that_the_second_date_lacks_is_not_labelled",),
    ),
    Break(
        "seed-units",
        "an interval over seeds is corrected by the class with most units",
        "metrics/seed_differences.py",
        (("enough.min()", "enough.max()"),),
        (
            "metrics/test_over_seeds.py::test_the_smallest_class_of_a_scope_says_how_far_its_spread_falls_short",
        ),
    ),
    Break(
        "target-spread",
        "targets are seen in units of the moved features",
        "methods/deblora/stages.py",
        (("as_tensor(unit_spread(source))", "as_tensor(unit_spread(found.features))"),),
        (
            "methods/deblora/test_stages.py::test_targets_are_seen_in_units_of_the_features_before_they_moved",
        ),
    ),
    Break(
        "target-mean",
        "angles of targets are seen from the mean of the moved features",
        "methods/deblora/stages.py",
        (("mean=as_tensor(source.mean(", "mean=as_tensor(found.features.mean("),),
        (
            "methods/deblora/test_stages.py::test_angles_of_targets_are_seen_from_the_mean_before_anything_moved",
        ),
    ),
    Break(
        "tau-split",
        "tau of a head is chosen on training rows",
        "heads/tau_normalisation.py",
        (("weight, data.val_features, data.val_labels)", "weight, data.features, data.labels)"),),
        ("heads/test_probes.py::test_tau_is_the_best_on_validation_and_not_on_training_rows",),
    ),
    Break(
        "stated-rows",
        "the stated probability is a mean over true rows",
        "methods/scoring.py",
        (("probabilities[chosen, index].mean()", "probabilities[targets == index, index].mean()"),),
        (
            "methods/test_verdicts.py::test_what_is_stated_is_held_against_what_is_right_where_the_class_is_predicted",
        ),
    ),
    Break(
        "right-rows",
        "recall stands for the share that is right where a class is predicted",
        "methods/scoring.py",
        (("(targets[chosen] == index)", "(predicted[targets == index] == index)"),),
        (
            "methods/test_verdicts.py::test_what_is_stated_is_held_against_what_is_right_where_the_class_is_predicted",
        ),
    ),
    Break(
        "verdict-places",
        "places of predicted rows are counted where the class is true",
        "methods/scoring.py",
        (
            (
                "predicted_units=_count_units(chosen, units)",
                "predicted_units=_count_units(targets == index, units)",
            ),
        ),
        ("methods/test_verdicts.py::test_places_are_those_where_the_class_is_predicted",),
    ),
    Break(
        "penalty-split",
        "the probe's penalty is chosen on the test",
        "methods/method.py",
        (
            ('("train", "val", *together)', '("train", "test", *together)'),
            (
                'val_labels=job.decisions("val").labels',
                'val_labels=job.decisions("test").labels',
            ),
        ),
        ("methods/test_stages.py::test_the_penalty_of_the_probe_is_chosen_on_validation",),
    ),
    Break(
        "pull-split",
        "pulls are chosen on training features",
        "methods/deblora/method.py",
        (
            (
                'stage_features(job, source, "val"))',
                'stage_features(job, source, "train"))',
            ),
            (
                'return val, job.decisions("val").labels',
                'return val, job.decisions("train").labels',
            ),
        ),
        ("methods/test_stages.py::test_pulls_are_chosen_on_validation",),
    ),
    Break(
        "geometry-center",
        "distances between classes are seen from the test mean",
        "methods/scoring.py",
        (("feature_center=np.mean(train, axis=0)", "feature_center=np.mean(test, axis=0)"),),
        (
            "methods/test_scoring.py::test_distances_between_classes_are_seen_from_the_training_mean",
        ),
    ),
    Break(
        "row-center",
        "distances in a comparison are seen from the test mean",
        "experiments/rows.py",
        (("feature_center=train.mean(axis=0)", "feature_center=test.mean(axis=0)"),),
        ("methods/test_scoring.py::test_rows_of_a_comparison_are_seen_from_the_training_mean_too",),
    ),
    Break(
        "tuned-split",
        "what is tuned is scored on the test",
        "experiments/rows.py",
        (
            (
                'val = method.features(job, "val")\n',
                'val = method.features(job, "test")\n',
            ),
        ),
        ("methods/test_scoring.py::test_what_is_tuned_is_scored_on_validation",),
    ),
    Break(
        "tuned-labels",
        "what is tuned is scored by labels of the test",
        "experiments/rows.py",
        (
            (
                'targets = job.decisions("val").labels',
                'targets = job.decisions("test").labels',
            ),
        ),
        ("methods/test_scoring.py::test_what_is_tuned_is_scored_on_validation",),
    ),
    Break(
        "threshold-split",
        "thresholds of sets and temperatures are fitted on the test",
        "methods/scoring.py",
        (
            ('for split in ("train", "val", "test")', 'for split in ("train", "test", "test")'),
            (
                'targets = job.decisions("val").labels',
                'targets = job.decisions("test").labels',
            ),
        ),
        ("methods/test_scoring.py::test_thresholds_and_scalings_are_fitted_on_validation",),
    ),
    Break(
        "stale-features",
        "features that other weights made are found again",
        "methods/job.py",
        (('"weights": weights,', '"weights": "",'),),
        ("methods/test_stage_features.py::test_features_of_other_weights_are_made_anew",),
    ),
    Break(
        "probe-loss",
        "the probe learns under the loss of the training",
        "config/probe_choice.py",
        (("ProbeChoice(name, recipe.probe.loss,", "ProbeChoice(name, recipe.train.loss,"),),
        ("methods/test_stages.py::test_the_probe_learns_under_its_own_loss",),
    ),
    Break(
        "own-costs",
        "a method costs what its own stage does",
        "methods/method.py",
        (("return before + self.own_costs(job)", "return self.own_costs(job)"),),
        ("methods/test_stages.py::test_a_method_costs_what_the_stages_it_stands_on_cost_too",),
    ),
    Break(
        "round-units",
        "every round is learnt in units of the base adapter",
        "methods/deblora/method.py",
        (
            (
                'stage_features(job, source_stage(options, number), "train")',
                'stage_features(job, "lora", "train")',
            ),
        ),
        ("methods/test_stages.py::test_each_round_moves_the_features_of_the_round_before",),
    ),
    Break(
        "round-source",
        "every round moves the features of the base adapter",
        "methods/deblora/method.py",
        (
            (
                "source_stage(options, number)\n        chosen",
                "source_stage(options, 1)\n        chosen",
            ),
        ),
        ("methods/test_stages.py::test_each_round_moves_the_features_of_the_round_before",),
    ),
    Break(
        "head-targets",
        "a head of targets is fitted on features as they are",
        "methods/deblora/method.py",
        (("return targets, labels", "return own, labels"),),
        ("methods/test_stages.py::test_a_head_of_targets_is_fitted_on_moved_features",),
    ),
    Break(
        "first-predicts",
        "predictions are those of the first method",
        "methods/scoring.py",
        (("np.asarray(outputs[-1].probabilities)", "np.asarray(outputs[0].probabilities)"),),
        (
            "methods/test_scoring.py::test_the_last_method_says_what_is_predicted_and_each_row_has_the_verdict_of_its_class",
        ),
    ),
    Break(
        "verdict-of-truth",
        "a prediction has the verdict of the true class",
        "methods/scoring.py",
        (("verdict = verdicts[best]", "verdict = verdicts[label]"),),
        (
            "methods/test_scoring.py::test_the_last_method_says_what_is_predicted_and_each_row_has_the_verdict_of_its_class",
        ),
    ),
    Break(
        "validation-counts",
        "classes are said to have test samples for validation",
        "methods/scoring.py",
        (('job.dataset.counts("val")', 'job.dataset.counts("test")'),),
        (
            "methods/test_scoring.py::test_the_last_method_says_what_is_predicted_and_each_row_has_the_verdict_of_its_class",
        ),
    ),
    Break(
        "small-weights",
        "a weighted mean divides by at least 1",
        "losses/row_loss.py",
        (("torch.where(some, total, torch.ones_like(total))", "total.clamp_min(1.0)"),),
        ("losses/test_ignored_rows.py::test_a_weighted_mean_divides_by_the_weights_however_small",),
    ),
    Break(
        "epoch-seed",
        "the order of an epoch follows from seed + epoch",
        "samplers/epoch.py",
        (("default_rng((self.seed, self.epoch))", "default_rng(self.seed + self.epoch)"),),
        ("samplers/test_contract.py::test_runs_of_other_seeds_never_meet",),
    ),
    Break(
        "left-over",
        "left-over rows are always the first of their line",
        "samplers/stratified.py",
        (("offset = generator.integers(len(line))", "offset = 0"),),
        ("samplers/test_stratified.py::test_left_over_rows_are_of_each_class_by_its_share",),
    ),
    Break(
        "prior-ties",
        "of equal classes the last ranks first",
        "metrics/prior_shift.py",
        (('np.argsort(-values, kind="stable")', 'np.argsort(values, kind="stable")[::-1]'),),
        ("metrics/test_prior_shift.py::test_classes_of_equal_counts_keep_their_order",),
    ),
    Break(
        "trust-units",
        "precision is judged by the places of the true class",
        "metrics/trust.py",
        (
            (
                "share_limit(evidence.right, evidence.predicted_units)",
                "share_limit(evidence.right, evidence.n_units)",
            ),
        ),
        ("metrics/test_trust.py::test_calibration_and_coverage_fail_only_beyond_chance",),
    ),
    Break(
        "trust-f1-limit",
        "an interval that ends at the limit is weak",
        "metrics/trust.py",
        (("if low < limits.f1", "if low <= limits.f1"),),
        ("metrics/test_trust.py::test_a_class_is_trusted_only_if_its_test_can_support_it",),
    ),
    Break(
        "trust-support-limit",
        "as many test samples as asked for are too few",
        "metrics/trust.py",
        (("evidence.n_test < limits.support", "evidence.n_test <= limits.support"),),
        ("metrics/test_trust.py::test_a_class_is_trusted_only_if_its_test_can_support_it",),
    ),
    Break(
        "conformal-rank",
        "thresholds are plain quantiles, a rank too low",
        "metrics/conformal.py",
        (("(len(scores) + 1) * (1 - alpha)", "len(scores) * (1 - alpha)"),),
        ("metrics/test_conformal.py::test_threshold_is_the_exact_rank_worked_by_hand",),
    ),
    Break(
        "conformal-limit",
        "a class whose score is the threshold is not in the set",
        "metrics/conformal.py",
        (
            (
                "_scores(rows, calibrated.score) <= calibrated.thresholds",
                "_scores(rows, calibrated.score) < calibrated.thresholds",
            ),
        ),
        ("metrics/test_conformal.py::test_a_class_at_its_threshold_is_in_the_set",),
    ),
    Break(
        "shots-high",
        "100 samples are many",
        "metrics/shot_accuracy.py",
        (
            (
                "(values > high, (values >= low) & (values <= high)",
                "(values >= high, (values >= low) & (values < high)",
            ),
        ),
        ("metrics/test_shot_accuracy.py::test_the_limits_themselves_are_medium",),
    ),
    Break(
        "shots-low",
        "20 samples are few",
        "metrics/shot_accuracy.py",
        (
            (
                "(values >= low) & (values <= high), values < low)",
                "(values > low) & (values <= high), values <= low)",
            ),
        ),
        ("metrics/test_shot_accuracy.py::test_the_limits_themselves_are_medium",),
    ),
    Break(
        "pull-order",
        "pulls are chosen for the most frequent class first",
        "methods/deblora/chosen_pull.py",
        (("key=lambda c: (counts.values[c], c)", "key=lambda c: (-counts.values[c], c)"),),
        (
            "methods/deblora/test_chosen_pull.py::test_each_class_takes_its_best_pull_after_the_rarer_ones_took_theirs",
        ),
    ),
    Break(
        "penalty-ties",
        "of equal penalties the weakest wins",
        "heads/linear_probe.py",
        (("best = max(heads, key", "best = max(reversed(heads), key"),),
        ("heads/test_linear_probe.py::test_of_equal_scores_the_strongest_penalty_wins",),
    ),
    Break(
        "ncm-center",
        "features are centred on the mean of rows, not of classes",
        "heads/ncm.py",
        (
            (
                "centre = class_means(rows, labels, num_classes).mean(dim=0)",
                "centre = rows.mean(dim=0)",
            ),
        ),
        ("heads/test_ncm.py::test_separated_classes_are_told_apart_whatever_their_size",),
    ),
    Break(
        "split-swap",
        "validation and test take each other's share",
        "data/splits.py",
        (("n_val, n_test = _held_out", "n_test, n_val = _held_out"),),
        ("data/test_splits.py::test_shares_of_a_hundred_are_exact",),
    ),
    Break(
        "shared-pixels",
        "chips that reach into a block of another side are used",
        "data/scenes/blocks.py",
        (("(sides == sides[0]).all(axis=0) & (sides[0] == own)", "sides[0] == own"),),
        ("data/test_scene_dataset.py::test_no_pixel_no_block_and_no_polygon_is_in_two_splits",),
    ),
    Break(
        "thinned-test",
        "the test is thinned along with training",
        "data/imbalance.py",
        (
            ('kept = [dataset.indices("test")]', "kept: list[NDArray[np.int64]] = []"),
            ('for split in ("train", "val"):', 'for split in ("train", "val", "test"):'),
        ),
        ("data/test_imbalance.py::test_training_and_validation_are_thinned_and_the_test_is_whole",),
    ),
    Break(
        "bow-tie",
        "a repaired bow-tie keeps its first part only",
        "data/scenes/labels.py",
        (
            (
                "return mended, int(left.sum())",
                "return shapely.get_geometry(mended, 0), int(left.sum())",
            ),
        ),
        ("data/test_labels.py::test_repaired_polygons_keep_their_ground",),
    ),
    Break(
        "mask-ground",
        "a mask may lie on other ground than its image",
        "data/masks.py",
        (("_APART: Final = 0.5", "_APART: Final = 5000.0"),),
        ("data/test_masks.py::test_bad_masks_are_refused_in_a_line",),
    ),
    Break(
        "holes",
        "mending fills holes that meet the border",
        "data/scenes/labels.py",
        (('method="structure", keep_collapsed=False', 'method="linework"'),),
        ("data/test_labels.py::test_repaired_polygons_keep_their_ground",),
    ),
    Break(
        "band-name",
        "of two band names in a file name the first counts",
        "data/bands/names.py",
        (("found[-1].upper()", "found[0].upper()"),),
        ("data/test_bands.py::test_the_last_of_two_names_counts",),
    ),
    Break(
        "nodata-limit",
        "a chip with exactly the largest share of nodata is left out",
        "data/scenes/places.py",
        (("held >= (1 - most_nodata)", "held > (1 - most_nodata)"),),
        ("data/test_scene_gaps.py::test_exactly_the_largest_share_without_data_is_still_enough",),
    ),
    Break(
        "map-nodata-limit",
        "the same on a map",
        "inference/maps/chip_reader.py",
        (("mask.mean() < 1 - self.most_nodata", "mask.mean() <= 1 - self.most_nodata"),),
        ("data/test_scene_gaps.py::test_exactly_the_largest_share_without_data_is_still_enough",),
    ),
    Break(
        "object-windows",
        "objects of a scene are taken from windows that cut them",
        "inference/maps/object_map.py",
        (("_SLACK: Final = 0.25", "_SLACK: Final = 9.0"),),
        (
            "inference/maps/test_object_map.py::test_objects_cut_by_windows_come_once_at_their_true_place",
        ),
    ),
    Break(
        "object-blocks",
        "an object that two blocks see whole counts in both",
        "data/scenes/object_windows.py",
        (("if (scene, row, split) in counted_in:", "if not counted_in:"),),
        ("data/test_object_formats.py::test_windows_to_evaluate_cover_all_objects",),
    ),
    Break(
        "objects-taken",
        "two detections take one object",
        "metrics/detection_errors.py",
        (("near[(taken_by[near] < 0) & ~hard[near]]", "near[~hard[near]]"),),
        ("metrics/test_detection_errors.py::test_each_error_has_its_place",),
    ),
    Break(
        "common-grid",
        "the common grid begins outside a band",
        "data/scenes/scene.py",
        (
            (
                "first = math.ceil(top - 0.01), math.ceil(left - 0.01)",
                "first = math.floor(top + 0.01), math.floor(left + 0.01)",
            ),
        ),
        (
            "data/test_scene_gaps.py::test_a_band_half_a_pixel_off_is_the_mean_of_four_on_the_ground_of_both",
        ),
    ),
    Break(
        "mixed-nodata",
        "resampling mixes nodata into its neighbours",
        "data/scenes/scene_bands.py",
        (
            (
                "source = np.where(valid, values, np.nan).astype(np.float64)",
                "source = values.astype(np.float64)",
            ),
        ),
        (
            "data/test_scene_gaps.py::test_gaps_of_coarser_bands_lie_where_they_were_and_nothing_of_them_is_mixed_in",
        ),
    ),
    Break(
        "legend",
        "the attribute table counts from 0",
        "inference/maps/class_legend.py",
        (("values = (entry.value, entry.name", "values = (i, entry.name"),),
        (
            "inference/maps/test_cloud_optimised.py::test_gdal_finds_class_names_and_the_attribute_table_beside_the_map",
        ),
    ),
    Break(
        "places",
        "weights of a place never come to be its own",
        "losses/haco.py",
        (("share * own + (1 - share) * overall", "overall + 0 * own"),),
        ("losses/test_haco.py::test_weights_have_the_published_values",),
    ),
    Break(
        "draws",
        "draws of masks are compared with themselves, so that they are too alike",
        "losses/set_distance.py",
        (("(n * (n - 1) if fair else n * n)", "(n * n)"),),
        (
            "losses/test_set_distance.py::test_two_draws_follow_the_raters_where_the_fair_distance_is_smallest",
        ),
    ),
    Break(
        "rater sets",
        "every mask is a set of its own",
        "heads/pulaski.py",
        (("picture = labelled if pictures is None else pictures[labelled]", "picture = labelled"),),
        ("heads/test_pulaski.py::test_raters_of_an_image_are_a_set_and_empty_masks_are_in_none",),
    ),
    Break(
        "corners",
        "cells that meet at a corner are one polygon",
        "inference/maps/map_polygons.py",
        (("connectivity=4", "connectivity=8"),),
        (
            "inference/maps/test_map_polygons.py::test_cells_that_meet_at_a_corner_are_polygons_of_their_own",
        ),
    ),
    Break(
        "fill",
        "gaps are filled with a mean that holds nodata",
        "inference/maps/chip_reader.py",
        (
            (
                "fill_gaps(values.copy(), np.broadcast_to(~valid, values.shape))",
                "np.where(valid, values, values.mean((1, 2))[:, None, None]).astype(int)",
            ),
        ),
        ("data/test_scene_gaps.py::test_gaps_of_chips_on_a_map_get_the_mean_of_what_has_data",),
    ),
    Break(
        "band-order",
        "bands of probabilities are named in sorted order",
        "inference/maps/map_files.py",
        (
            (
                "names = [entry.name for entry in classes]",
                "names = sorted(entry.name for entry in classes)",
            ),
        ),
        (
            "inference/maps/test_scene_map.py::test_bands_values_and_colours_keep_the_order_of_the_classes",
        ),
    ),
    Break(
        "overviews",
        "overviews of classes are averages",
        "inference/maps/cloud_optimised.py",
        (('"MODE" if is_classes else "AVERAGE"', '"AVERAGE"'),),
        (
            "inference/maps/test_cloud_optimised.py::test_overviews_show_the_class_most_cells_have_and_the_mean_of_probabilities",
        ),
    ),
    Break(
        "map-weights",
        "points count as they are, though rare classes were sampled more densely",
        "metrics/map_accuracy.py",
        (
            (
                "weights = sample.areas / sample.areas.sum()",
                "weights = sample.counts.sum(axis=1) / sample.counts.sum()",
            ),
        ),
        ("metrics/test_map_accuracy.py::test_the_golden_values",),
    ),
    Break(
        "wilson",
        "the Wilson interval does not narrow as it should",
        "metrics/map_accuracy.py",
        (("z**2 / (4 * n**2)", "z**2 / (4 * n)"),),
        ("metrics/test_map_accuracy.py::test_the_interval_of_users_accuracy_is_wilsons",),
    ),
    Break(
        "unequal-pixels",
        "errors of large pixels weigh as those of small ones in standard errors",
        "metrics/map_accuracy.py",
        (("self.second * (1 - p) ** 2", "self.first * (1 - p) ** 2"),),
        ("metrics/test_map_accuracy.py::test_pixels_of_unequal_area_count_by_their_area",),
    ),
    Break(
        "producers-limit",
        "the upper limit of producer's accuracy takes the lower limit of what is kept",
        "metrics/map_accuracy.py",
        (("odds(kept.up, missed.down, 1)", "odds(kept.down, missed.down, 1)"),),
        (
            "metrics/test_map_accuracy.py::test_the_other_intervals_add_wilson_distances_in_quadrature",
        ),
    ),
    Break(
        "whole-class",
        "a class labelled whole is as uncertain as a sample",
        "metrics/map_accuracy.py",
        (
            (
                "unseen = 1 - n / np.maximum(population, 1)",
                "unseen = 1 - 0 * n / np.maximum(population, 1)",
            ),
        ),
        ("metrics/test_map_accuracy.py::test_a_class_whose_every_pixel_was_labelled_is_certain",),
    ),
    Break(
        "ellipsoid",
        "the Earth is stretched at the poles",
        "inference/maps/pixel_areas.py",
        (("sine / (1 - squared", "sine / (1 + squared"),),
        ("inference/maps/test_pixel_areas.py::test_a_zone_is_the_integral_over_its_latitudes",),
    ),
    Break(
        "ranks",
        "each window of a map is drawn from as if it were the first",
        "inference/map_sample.py",
        (
            ("[seen[code], seen[code] + counts[code]]", "[0, counts[code]]"),
            ("[first:last] - seen[code]", "[first:last]"),
        ),
        (
            "end_to_end/test_assess.py::test_every_pixel_of_a_class_is_as_likely_wherever_it_is_read",
        ),
    ),
    Break(
        "point-order",
        "points of a sample are in the order of the map",
        "inference/map_sample.py",
        (("rng.permutation(len(rows))", "np.arange(len(rows))"),),
        ("end_to_end/test_assess.py::test_a_sample_is_stratified_hidden_and_at_pixel_centres",),
    ),
    Break(
        "search-standard",
        "the standard deviation of features is that of the last block",
        "features/similar.py",
        (("shift**2 * (count * len(kept) / total)", "0 * shift"),),
        ("features/test_similar.py::test_scores_are_those_of_scikit_learn",),
    ),
    Break(
        "search-whitening",
        "the axes beyond the strongest lose as much as these",
        "features/whitening.py",
        (("(beyond + floor) / (strength", "floor / (strength"),),
        ("features/test_whitening.py::test_axes_beyond_the_strongest_count_as_equally_strong",),
    ),
    Break(
        "label-diverse",
        "a page is far from what was shown, and alike in itself",
        "labelling/acquisition.py",
        (
            (
                "np.maximum(closest, self.space.to(item), out=closest)\n            self._take",
                "self._take",
            ),
        ),
        (
            "labelling/test_acquisition.py::test_the_others_are_the_farthest_from_all_that_were_shown",
        ),
    ),
    Break(
        "search-against",
        "counter-examples count as much as examples",
        "features/similar.py",
        (("AGAINST: Final = 0.25", "AGAINST: Final = 1.0"),),
        ("features/test_similar.py::test_scores_are_those_of_scikit_learn",),
    ),
    Break(
        "search-ties",
        "equal images score by rounding",
        "features/similar.py",
        (("scores.round(_DIGITS)", "scores"),),
        ("features/test_similar.py::test_equal_rows_score_equally_wherever_they_lie",),
    ),
    Break(
        "search-apart",
        "hits in a scene overlap",
        "inference/search.py",
        (("free[windows.overlapping(windows.box(row))] = False", "free.flat[row] = False"),),
        ("end_to_end/test_search.py::test_windows_of_a_scene_lie_apart_in_its_coordinates",),
    ),
    Break(
        "search-measure",
        "examples count among what was found",
        "inference/search.py",
        (("usable & ~copies, relevant", "usable, relevant"),),
        ("end_to_end/test_search.py::test_images_rank_by_cosine_of_the_run_s_features",),
    ),
    Break(
        "search-cache",
        "features of an edited scene are used again",
        "inference/search_pool.py",
        (("repr((scene_facts(scene, side), times, grid.step))", "repr(grid.step)"),),
        ("end_to_end/test_search.py::test_an_edited_scene_is_read_again",),
    ),
)


def main(words: list[str] | None = None, *, root: Path = ROOT) -> int:
    """Break what is asked for; 0 if tests noticed each, else 1."""
    parser = argparse.ArgumentParser(description="Break the code on purpose; tests must notice.")
    parser.add_argument("--only", metavar="NAME", help="one of them")
    parser.add_argument("--list", action="store_true", help="say what there is, and end")
    parser.add_argument("--jobs", type=int, default=2, help="how many at once (2)")
    asked = parser.parse_args(words)
    chosen = [one for one in BREAKS if asked.only in (None, one.name)]
    if not chosen:
        parser.error(f"no break {asked.only!r}; --list names them")
    if asked.list:
        print("\n".join(f"{one.name}: {one.says} ({one.file})" for one in chosen))
        return 0
    return report(chosen, root, jobs=asked.jobs)


def report(breaks: list[Break], root: Path, *, jobs: int = 1) -> int:
    """Try each break in a copy of the project and print what became of it."""
    lost = [f"{one.name}: {text}" for one in breaks for text in misplaced(one, root)]
    if lost:
        print("\n".join(lost))
        return 1
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        whole = copied(root, Path(folder) / "0")
        every = dict.fromkeys(test for one in breaks for test in one.tests)
        answer = run_tests(whole, list(every), keep_compiled=True)
        if answer.returncode:
            print(f"tests fail before anything is broken:\n{answer.stdout}{answer.stderr}")
            return 1
        free: Queue[Path] = Queue()
        for number in range(1, jobs + 1):
            free.put(Path(shutil.copytree(whole, Path(folder) / str(number))))
        with ThreadPoolExecutor(jobs) as pool:
            answers = list(pool.map(lambda one: noticed(one, free), breaks))
    seconds = time.perf_counter() - start
    print(f"{sum(answers)} of {len(breaks)} breaks noticed in {seconds:.0f} s")
    return 0 if all(answers) else 1


def misplaced(one: Break, root: Path) -> list[str]:
    """Say which edits of a break do not fit the file as it is."""
    path = root / "src" / "tailora" / one.file
    if not path.is_file():
        return [f"there is no {one.file}"]
    text = path.read_text("utf-8")
    return [
        f"{old!r} stands {text.count(old)} times in {one.file}, not once"
        for old, _ in one.edits
        if text.count(old) != 1
    ]


def broken(one: Break, text: str) -> str:
    """Put a break into the text of its file."""
    for old, new in one.edits:
        text = text.replace(old, new)
    return text


def copied(root: Path, folder: Path) -> Path:
    """Copy what tests need, with the times of the files."""
    folder.mkdir()
    for name in COPIED:
        if (root / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(root / name, folder / name)
    return folder


def noticed(one: Break, free: "Queue[Path]") -> bool:
    """Whether tests fail under a break in a free copy, which is as before then; prints a line."""
    copy, start = free.get(), time.perf_counter()
    path = copy / "src" / "tailora" / one.file
    before, times = path.read_text("utf-8"), path.stat()
    path.write_text(broken(one, before), "utf-8")
    # a break within a second of the file's own writing, of one length, would pass for the whole
    os.utime(path, (times.st_atime, times.st_mtime + 2))
    try:
        code = run_tests(copy, list(one.tests)).returncode
    except subprocess.TimeoutExpired:
        code = -1
    finally:
        path.write_text(before, "utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        free.put(copy)
    found = {FAILED: "noticed", 0: "SURVIVED"}.get(code, f"NO ANSWER (pytest ended with {code})")
    print(f"{found:9} {time.perf_counter() - start:4.0f} s  {one.name}: {one.says}", flush=True)
    return code == FAILED


def run_tests(
    copy: Path, tests: list[str], *, keep_compiled: bool = False
) -> "subprocess.CompletedProcess[str]":
    """Run tests against the sources of a copy, up to the first that fails.

    Args:
        copy: Folder with `src` and `tests`.
        tests: Node ids below its `tests`.
        keep_compiled: Leave compiled files for later runs. Those of a broken file are never left:
            Python tells them by second and size, which a break may have in common with the whole.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "" if keep_compiled else "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*words, *(f"tests/{test}" for test in tests)],
        cwd=copy, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
