"""The checklist of cityllava: every feature row of its specification (section 14), and the tests that prove it.

What needs the published data, the 34B weights or a GPU beyond these tests is said in the README's limits.
"""

import pytest

from tests.rows import Row, absent_proofs

# Row of the specification -> what it asks for, the tests that prove it (file without `test_` and `.py`: functions without `test_`).
ROWS: dict[int, Row] = {
    1: ("read both data sets' trees, captions, boxes, reference list; report what is missing", {
        "unit/cityllava_annotations": [
            "a_whole_tree_is_read_without_a_finding",
            "either_spelling_of_the_bdd_folder_is_read_and_kept",
            "the_reference_list_has_a_header_and_empty_cells",
            "a_missing_video_keeps_its_captions_and_is_counted",
        ],
        "stages/bad_input_cityllava": ["everything_odd_in_the_trees_is_counted_by_reason_and_the_rest_is_trained_on"],
        "stages/chain_cityllava": ["what_is_missing_or_odd_is_reported_by_reason_and_in_the_record"],
    }),
    2: ("first-frame boxes per video in the published extraction files", {
        "golden/cityllava_data": ["boxes_are_extracted_as_published"],
        "unit/cityllava_boxes": ["an_entry_is_the_published_one_key_by_key"],
        "stages/chain_cityllava": ["boxes_are_extracted_per_data_set_and_split_in_the_published_form"],
    }),
    3: ("green and blue boxes on whole frames, frame numbers by the rate", {
        "golden/cityllava_data": ["frame_numbers_are_the_published_ones", "rectangles_crops_and_paths_are_the_published_ones"],
        "unit/cityllava_frames": [
            "rectangles_are_those_of_opencv_to_the_pixel",
            "a_wrong_rate_in_the_caption_halves_the_numbers_as_the_annotators_counted",
        ],
        "stages/chain_cityllava": ["every_boxed_phase_has_both_pictures_and_the_boxes_colours_are_in_them"],
    }),
    4: ("square crops around both boxes, by parallel workers", {
        "golden/cityllava_data": ["box_arithmetic_is_the_published_one"],
        "unit/cityllava_frames": ["the_worked_example_of_the_specification", "many_workers_write_what_one_writes"],
        "stages/bad_input_cityllava": ["a_box_outside_the_frame_leaves_two_whole_frames"],
    }),
    5: ("records in the LLaVA format for train and val", {
        "golden/cityllava_data": ["records_are_the_published_ones"],
        "stages/chain_cityllava": ["records_are_conversations_about_pictures_that_are_there"],
    }),
    6: ("sentences sorted by a language model or the stand-in, resumable", {
        "golden/cityllava_text": ["prompts_are_the_recorded_ones", "the_messages_are_those_of_the_two_published_services"],
        "unit/services": ["a_killed_run_goes_on_where_it_stopped"],
        "stages/chain_cityllava": ["every_sentence_of_a_caption_was_given_a_letter_by_the_stand_in"],
        "stages/overrides_cityllava": ["an_endpoint_is_asked_once_per_caption_and_what_it_said_is_replayed_without_it"],
    }),
    7: ("short and full questions, tolerant parsing with counts", {
        "golden/cityllava_text": ["answers_are_merged_as_recorded"],
        "unit/cityllava_short_qa": ["answers_are_read_in_all_usual_spellings", "no_answer_ends_the_run_and_every_line_is_accounted_for"],
        "stages/bad_input_cityllava": [
            "an_answer_of_any_shape_costs_short_questions_and_never_the_run",
            "an_endpoint_that_answers_oddly_is_counted",
        ],
    }),
    8: ("filter by tag and view, as many short as full ones, by a seed", {
        "golden/cityllava_text": ["short_questions_are_kept_as_recorded"],
        "unit/cityllava_filters": ["the_tag_says_which_boxes_the_clip_has_in_any_phase", "another_seed_draws_other_short_samples"],
        "stages/chain_cityllava": ["short_and_full_samples_are_as_many_and_of_one_turn"],
    }),
    9: ("stage prompts, the words for boxes and the vehicle that films", {
        "golden/cityllava_text": ["stages_and_boxes_are_worded_as_recorded", "corrected_training_asks_in_the_words_of_inference"],
        "stages/overrides_cityllava": ["corrected_questions_stand_alone_and_speak_of_the_vehicle_that_films_as_at_inference"],
    }),
    10: ("filter by reference camera and area, reasons of what is dropped", {
        "golden/cityllava_text": ["cameras_and_areas_are_filtered_as_recorded"],
        "stages/chain_cityllava": ["samples_left_out_are_counted_by_reason"],
        "stages/overrides_cityllava": [
            "without_the_reference_list_every_camera_is_trained_on",
            "every_box_has_to_exceed_the_area_of_the_settings",
        ],
    }),
    11: ("check both pictures, list of missing ones", {
        "golden/cityllava_text": ["samples_without_a_picture_are_dropped_as_recorded"],
        "unit/cityllava_filters": ["both_pictures_have_to_exist_and_the_missing_ones_are_named"],
        "stages/chain_cityllava": ["every_stage_is_done_and_its_record_names_the_files_it_wrote"],
    }),
    12: ("the best view of a test scenario", {
        "golden/cityllava_data": ["best_views_are_the_published_ones", "a_borrowed_area_is_the_vehicle_views_when_corrected"],
        "unit/cityllava_views": ["two_scenarios_are_seen_from_the_vehicle_whatever_their_boxes_say"],
        "stages/overrides_cityllava": [
            "without_view_selection_the_first_camera_from_above_stands_for_its_scenario",
            "corrected_a_camera_without_boxes_borrows_no_area_and_the_view_is_the_cameras",
        ],
    }),
    13: ("five frames per scenario: nearest phase, raw frames, perspectives", {
        "golden/cityllava_data": ["test_frames_come_from_the_published_sources"],
        "unit/cityllava_views": [
            "missing_phases_are_the_nearest_one_the_earlier_of_two",
            "a_view_without_pictures_takes_raw_frames_at_the_start_of_each_phase",
        ],
        "stages/chain_cityllava": ["every_scenario_is_asked_about_five_times_from_the_view_that_stands_for_it"],
    }),
    14: ("block expansion: any count that works, tower safe, config, shards, identity", {
        "golden/cityllava_blocks": [
            "layers_come_from_where_they_came_from_and_the_same_tensors_are_zero",
            "the_vision_tower_is_left_alone_or_scrambled_as_recorded",
        ],
        "unit/blocks": ["a_llama_is_expanded_and_computes_exactly_the_same", "the_index_lists_the_expanded_shards"],
        "stages/chain_cityllava": ["two_blocks_stand_behind_every_second_layer_and_change_no_logit"],
        "stages/overrides_cityllava": [
            "as_published_the_expansion_scrambles_the_tower_and_the_proof_says_so",
            "weights_of_the_original_layout_stand_for_base_and_training_wherever_they_lie",
        ],
        "stages/bad_input_cityllava": ["a_number_of_blocks_that_cannot_be_spread_is_refused_with_those_that_can"],
    }),
    15: ("what trains and what is frozen, as published and as stated", {
        "golden/cityllava_blocks": [
            "the_trainable_set_is_the_recorded_one",
            "the_published_model_has_the_recorded_sizes_and_trains_seven_billion",
        ],
        "stages/chain_cityllava": ["training_changes_the_new_blocks_and_the_head_and_nothing_else"],
        "stages/overrides_cityllava": ["the_crop_alone_is_seen_and_the_blocks_alone_are_trained"],
    }),
    16: ("crop and whole frame, crop first; padded and tiled baselines", {
        "golden/cityllava_model": [
            "local_and_global_views_have_the_recorded_pixels",
            "padded_pictures_have_the_recorded_pixels",
            "anyres_chooses_the_recorded_grid",
            "the_picture_is_spliced_in_where_its_mark_stands",
        ],
        "stages/chain_cityllava": ["the_trainer_left_its_curves_its_parameters_and_the_samples_it_saw"],
        "stages/overrides_cityllava": ["the_whole_frame_in_tiles_is_seen_and_the_head_alone_is_trained"],
    }),
    17: ("the recipe of the blocks: length groups, resume, TensorBoard", {
        "golden/cityllava_model": ["samples_are_grouped_as_recorded", "prompts_ids_and_labels_are_the_recorded_ones"],
        "stages/chain_cityllava": [
            "the_trainer_left_its_curves_its_parameters_and_the_samples_it_saw",
            "the_run_folder_holds_what_a_person_looks_for",
        ],
        "unit/training": [
            "killed_and_started_again_it_ends_in_the_same_weights",
            "tensorboard_shows_the_same_numbers_and_what_is_said_about_held_out_pictures",
        ],
    }),
    18: ("the recipes of LoRA and of full training", {
        "unit/training": ["adapters_change_linear_layers_and_the_projector", "in_full_everything_changes_but_the_tower"],
        "stages/overrides_cityllava": [
            "a_variant_is_these_changes_of_the_settings",
            "adapters_are_trained_with_the_projector_and_merged_into_the_weights_that_are_asked",
            "full_training_changes_everything_but_the_tower",
        ],
    }),
    19: ("two questions in a row, in every order, in 4 bits or bf16", {
        "golden/cityllava_model": ["inference_asks_in_the_recorded_words"],
        "unit/llava": ["four_bits_are_for_language_model_and_projector_alone"],
        "stages/overrides_cityllava": [
            "the_vehicle_is_asked_about_first_and_its_answer_is_in_the_history_as_published",
            "corrected_the_history_ends_its_answers_once_and_the_stage_no_line",
            "independent_questions_know_nothing_of_each_other",
        ],
        "stages/bad_input_cityllava": ["what_needs_a_gpu_is_refused_on_a_machine_without_one"],
    }),
    20: ("shards, what was answered is kept, tries, failures", {
        "golden/cityllava_model": ["the_shares_of_all_processes_are_together_everything"],
        "stages/overrides_cityllava": ["what_is_drawn_depends_on_its_seed_and_not_on_batches_or_processes"],
        "stages/bad_input_cityllava": [
            "a_phase_whose_picture_is_broken_stays_empty_is_counted_and_takes_nobody_elses_captions",
            "where_nothing_can_be_answered_the_stage_fails_with_the_first_reason",
        ],
    }),
    21: ("submission and validator", {
        "unit/cityllava_official": ["every_problem_of_a_submission_is_listed", "a_written_submission_reads_back_and_has_the_published_form"],
        "stages/chain_cityllava": ["the_submission_is_valid_and_holds_what_was_predicted_for_test"],
    }),
    22: ("the official score, without Java, WordNet offline", {
        "golden/cityllava_metrics": ["scores_of_single_captions", "aggregation"],
        "unit/captions_metrics": ["realistic_captions_score_as_with_nltk_and_rouge_score"],
        "unit/wordnet": ["synonyms_are_those_of_nltk"],
        "stages/chain_cityllava": [
            "the_official_score_is_that_of_a_loop_over_nltk_and_rouge_score",
            "scores_stand_beside_the_base_model_the_wrong_scene_and_chance",
        ],
    }),
    23: ("accuracy of answers to questions", {
        "golden/cityllava_metrics": ["question_answering"],
        "unit/captions_metrics": ["choices_are_right_whatever_their_case_and_missing_ones_count_as_wrong"],
    }),
    24: ("published claims against measured ones, with what cannot be checked here", {
        "stages/chain_cityllava": [
            "the_command_ends_in_the_claims_table",
            "a_tiny_run_turns_no_score_green_and_what_is_computed_is_reproduced",
        ],
    }),
    25: ("quick review: pictures, prompts, answers, references, switches of known defects", {
        "stages/chain_cityllava": [
            "samples_of_val_are_kept_small_with_their_captions",
            "the_report_opens_offline_and_names_no_place_of_this_machine",
            "the_scores_are_computed_again_without_torch",
            "verify_holds_for_the_run_and_finds_a_changed_prediction",
        ],
    }),
    26: ("ablations: views, pictures, short questions, blocks, order", {
        "stages/chain_cityllava": ["every_ablation_is_a_valid_change_of_the_settings"],
        "stages/overrides_cityllava": [
            "without_short_questions_every_sample_is_a_whole_caption_and_nobody_is_asked",
            "another_order_gives_other_captions_through_to_the_score",
        ],
    }),
}  # fmt: skip


def test_the_checklist_has_every_row_of_the_specification():
    assert list(ROWS) == list(range(1, 27))


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_that_prove_a_row_are_there(row):
    _, proofs = ROWS[row]
    assert proofs
    assert absent_proofs(ROWS[row]) == []
