"""The checklist of a3r: every feature row of its specification (section 13), and the tests that prove it.

What needs the published data, weights or a GPU beyond these tests is said in the README's limits.
"""

import pytest

from tests.rows import Row, absent_proofs

# Row of the specification -> what it asks for, the tests that prove it (file without `test_` and `.py`: functions without `test_`).
ROWS: dict[int, Row] = {
    1: ("read `$` label files, report bad lines with numbers", {
        "unit/a3r_labels": ["a_bad_label_line_is_named_with_its_number_and_what_is_right", "further_bad_lines_are_named_by_number"],
        "stages/bad_input": ["a_label_or_query_file_is_refused_with_its_line_and_goes_on_once_repaired"],
    }),
    2: ("split pedestrian and vehicle labels for train and val", {
        "golden/a3r_text": ["label_files_split_into_the_recorded_tables_and_vocabulary"],
        "stages/chain_a3r": ["labels_are_split_for_train_and_val_and_the_vocabulary_is_that_of_the_labels"],
    }),
    3: ("derive, write and read the vocabulary", {
        "unit/a3r_vocabulary": ["the_published_vocabulary_is_derived_from_the_published_phrases", "the_vocabulary_file_is_one_line_in_the_published_order"],
        "stages/chain_a3r": ["labels_are_split_for_train_and_val_and_the_vocabulary_is_that_of_the_labels"],
    }),
    4: ("route test queries, with a word-boundary option", {
        "unit/a3r_vocabulary": ["a_type_or_brand_makes_a_vehicle_query", "routing_loses_and_repeats_no_query"],
        "golden/a3r_text": ["queries_are_routed_and_written_as_recorded"],
        "stages/chain_a3r": ["queries_are_routed_by_class_and_keep_their_place_in_the_query_file"],
        "stages/overrides_a3r": ["whole_words_route_a_query_only_by_words_that_stand_alone"],
    }),
    5: ("route gallery images by file name", {
        "unit/a3r_vocabulary": ["a_gallery_name_tells_the_class"],
        "stages/overrides_a3r": ["a_routed_gallery_answers_vehicle_queries_with_vehicles_only"],
    }),
    6: ("synthetic data in the exact layout", {
        "unit/a3r_toy": [
            "the_files_lie_where_the_published_ones_do",
            "every_label_has_its_picture_and_vehicles_come_first",
            "vehicle_lines_name_parts_in_the_published_shares",
            "both_caption_forms_occur_and_an_stands_exactly_before_orange",
            "pedestrian_captions_are_two_sentences_of_the_published_grammar",
            "test_pictures_are_as_many_as_queries_and_named_as_published",
        ],
    }),
    7: ("find the missing attributes of a caption", {
        "unit/a3r_candidates": ["a_caption_names_these_attributes"],
        "golden/a3r_text": ["missing_attributes_and_candidates_of_the_code_as_shipped"],
    }),
    8: ("candidates of the three conventions", {
        "golden/a3r_text": ["candidates_of_the_two_selectable_rules", "recorded_shipped_rows_are_candidates_of_their_captions"],
        "unit/a3r_augmented": ["every_published_choice_is_a_candidate_and_changes_nothing_known"],
        "stages/overrides_a3r": [
            "the_shipped_convention_completes_every_vehicle_from_the_vocabulary",
            "the_readme_convention_keeps_the_article_and_invents_no_brand",
            "the_published_code_as_it_is_runs_on_where_it_crashed_on_captions_that_name_only_a_type",
        ],
    }),
    9: ("zero-shot choice: one model load, any batch size, resumable, no duplicates", {
        "golden/a3r_text": ["the_zero_shot_choice_is_the_recorded_one"],
        "unit/a3r_augmented": ["a_second_run_adds_nothing", "appending_after_any_cut_gives_the_same_file"],
        "stages/overrides_a3r": ["an_interrupted_augmentation_continues_after_its_last_whole_line"],
    }),
    10: ("augmented file in the shipped format, audit", {
        "unit/a3r_augmented": ["published_files_are_written_back_byte_by_byte", "the_audit_counts_what_was_filled_and_names_what_is_wrong"],
        "stages/overrides_a3r": ["augmentation_off_leaves_every_caption_as_it_is", "the_shipped_convention_completes_every_vehicle_from_the_vocabulary"],
    }),
    11: ("training tables, counts check", {
        "golden/a3r_text": ["tables_are_merged_as_recorded", "training_tables_are_read_as_open_clip_reads_them"],
        "stages/chain_a3r": ["training_tables_put_vehicles_first_and_pedestrians_as_they_are"],
        "stages/overrides_a3r": ["published_data_and_released_weights_make_a_review_without_test_answers"],
    }),
    12: ("square padding, exact and faithful, side by side", {
        "golden/a3r_vectors": ["09_square_padding_gives_the_recorded_pixels", "10_preprocessing_gives_the_recorded_tensor"],
        "unit/plots": ["padding_is_shown_at_one_scale_with_sizes_in_pixels"],
        "stages/overrides_a3r": ["training_without_square_padding_ends_in_other_weights", "inference_without_square_padding_sees_other_pictures"],
    }),
    13: ("fine-tuning by open_clip's trainer, early checkpoint", {
        "unit/a3r_contrastive": ["arguments_are_the_published_ones", "the_export_holds_the_weights_of_the_used_epoch"],
        "unit/a3r_schedule": ["the_learning_rate_has_the_published_values", "epoch_five_of_thirty_is_not_the_end_of_a_five_epoch_plan"],
        "stages/chain_a3r": ["the_trainer_followed_the_schedule_and_its_curves_can_be_read_back"],
        "stages/overrides_a3r": ["an_early_checkpoint_of_a_longer_schedule_is_another_recipe_than_a_short_schedule"],
    }),
    14: ("SigLIP, gradient checkpointing, accumulation, bf16, int8 refused without a GPU", {
        "unit/a3r_contrastive": ["every_variant_trains_and_exports", "values_that_do_not_go_together_are_refused"],
        "stages/overrides_a3r": [
            "the_sigmoid_loss_trains_a_bias_and_starts_at_its_own_temperature",
            "accumulated_batches_make_half_as_many_steps_over_twice_the_pairs",
            "gradient_checkpointing_changes_no_weight",
            "training_without_square_padding_ends_in_other_weights",
        ],
    }),
    15: ("run folder, params.txt, out.log, results.jsonl, TensorBoard", {
        "unit/a3r_contrastive": ["the_run_folder_is_the_published_one", "params_are_sorted_and_name_no_place_of_this_machine", "validations_and_curves_are_recorded"],
        "stages/chain_a3r": ["the_run_folder_holds_what_a_person_looks_for"],
    }),
    16: ("validation ranks, recall by caption, ceilings", {
        "golden/a3r_vectors": ["19_loss_and_validation_ranks_give_the_recorded_values"],
        "unit/retrieval_metrics": ["shipped_vehicle_captions_have_the_specified_ceilings_except_for_the_last_digit_of_the_first"],
        "stages/chain_a3r": [
            "ranks_of_the_validation_pairs_are_those_the_trainer_logged",
            "recall_by_caption_is_at_least_recall_of_the_own_pair_and_stands_beside_its_ceiling",
        ],
    }),
    17: ("checkpoint soup", {
        "golden/a3r_vectors": ["20_soups_give_the_recorded_weights_and_steps"],
        "stages/overrides_a3r": ["a_uniform_soup_is_the_mean_of_its_checkpoints_and_a_greedy_one_never_worse_than_the_best"],
    }),
    18: ("query conventions, both query sets, memory-safe, shards", {
        "golden/a3r_vectors": ["12_ranking_gives_the_recorded_similarities_and_names"],
        "golden/a3r_text": ["query_texts_are_encoded_as_recorded"],
        "unit/a3r_ranking": ["any_memory_gives_the_order_of_a_stable_sort_even_with_many_ties"],
        "stages/chain_a3r": ["predictions_rank_every_query_of_both_benchmarks", "variant_last_runs_infer_and_what_follows_and_adds_the_words_about_cameras"],
        "stages/overrides_a3r": ["plain_queries_keep_their_article", "neither_shards_nor_batches_nor_loader_processes_change_a_ranking"],
    }),
    19: ("result files, ordered submission.json, validator", {
        "golden/a3r_text": ["submissions_are_merged_and_written_as_recorded"],
        "unit/a3r_queries": ["each_fault_of_a_submission_is_named_with_index_and_value"],
        "stages/chain_a3r": ["the_submission_is_valid_and_in_the_order_of_the_query_file"],
    }),
    20: ("adaption re-ranking with fixed sign, both scores, switch, before and after", {
        "golden/a3r_vectors": [
            "14_query_adaption_gives_the_recorded_query_and_sign",
            "16_both_rerank_scores_give_the_recorded_values_and_orders",
            "16_the_whole_reranking_gives_the_recorded_corrected_order",
        ],
        "unit/plots": ["before_and_after_are_two_rows_even_of_different_length"],
        "stages/overrides_a3r": [
            "reranking_reorders_the_first_names_and_its_quirks_change_the_order",
            "reranking_is_shown_before_and_after_where_it_changed_most",
        ],
    }),
    21: ("mAP@10 by class and attribute kind", {
        "golden/a3r_vectors": ["17_map_at_k_gives_the_recorded_values_for_both_denominators"],
        "stages/chain_a3r": [
            "scores_come_by_class_and_attribute_kind_and_by_both_denominators",
            "the_official_score_is_the_task_pages_formula_on_the_written_predictions",
        ],
    }),
    22: ("ablation runner", {
        "stages/chain_a3r": ["ablations_are_run_beside_the_unchanged_run_and_end_in_a_row_each", "every_ablation_is_a_valid_change_of_the_settings"],
    }),
    23: ("quick review of shipped and own runs", {
        "unit/a3r_original": ["the_published_files_give_the_kept_record_again", "every_published_run_folder_tells_its_fate"],
        "unit/plots": ["curves_share_axes_in_epochs_and_name_their_units"],
        "unit/a3r_claims": ["the_validation_claims_are_the_digits_of_the_published_log"],
        "stages/controls_a3r": ["a_tiny_run_turns_no_score_green_and_a_wrong_constant_turns_red"],
        "notebooks/notebooks": ["the_quick_review_scores_again_in_seconds_without_torch"],
    }),
    24: ("one-click notebooks with papermill parameters", {
        "stages/chain_a3r": ["every_stage_is_done_and_its_record_names_the_files_it_wrote"],
        "notebooks/notebooks": ["01_by_plain_papermill_writes_the_record_of_the_runner", "notebook_reproduce_runs_everything_and_ends_in_the_verdicts"],
    }),
    25: ("provenance: files, hashes, versions, seeds", {
        "stages/chain_a3r": ["every_stage_is_done_and_its_record_names_the_files_it_wrote", "records_tell_versions_hardware_seconds_memory_and_digests"],
        "stages/controls_a3r": ["verify_holds_for_the_run_and_finds_a_changed_prediction"],
    }),
}  # fmt: skip


def test_the_checklist_has_every_row_of_the_specification():
    assert list(ROWS) == list(range(1, 26))


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_that_prove_a_row_are_there(row):
    _, proofs = ROWS[row]
    assert proofs
    assert absent_proofs(ROWS[row]) == []
