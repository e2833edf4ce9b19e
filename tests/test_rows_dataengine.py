"""The checklist of dataengine: every feature row of its specification (section 12), and the tests that prove it.

What needs the published data, the 7B weights or a GPU beyond these tests is said in the README's limits.
"""

import pytest

from tests.rows import Row, absent_proofs

# Row of the specification -> what it asks for, the tests that prove it (file without `test_` and `.py`: functions without `test_`).
ROWS: dict[int, Row] = {
    1: ("check layout and base mix: pictures, roles, placeholders; a report", {
        "unit/dataengine_mix": [
            "what_cannot_be_trained_is_left_out",
            "the_placeholder_is_put_first",
            "the_toy_mix_is_counted_by_reason_and_folder",
            "a_file_that_is_no_mix_is_one_line_with_row_and_field",
        ],
        "stages/chain_dataengine": ["the_mix_is_checked_and_everything_odd_is_in_the_report_and_in_the_record"],
        "stages/bad_input_dataengine": [
            "a_mix_that_is_not_there_is_refused_in_one_line_by_the_command_too",
            "a_damaged_picture_of_the_mix_drops_its_samples_and_is_counted_by_folder",
        ],
    }),
    2: ("synthetic data in every layout", {
        "unit/dataengine_toy": [
            "the_mix_has_pictures_of_all_folders_texts_and_odd_samples",
            "generated_records_have_the_published_form_and_its_faults",
            "boxes_are_in_coco_form_with_one_picture_without_and_one_with_many",
            "mmbench_rotates_the_options",
            "every_picture_is_known_and_opens",
        ],
        "unit/dataengine_claims": ["the_toy_data_have_every_file_that_the_sources_name"],
    }),
    3: ("read generated records, convert them in five views, merge, manifest", {
        "golden/dataengine_engine": ["views_of_records_are_the_recorded_ones"],
        "unit/dataengine_generated": [
            "the_oddities_of_the_published_example_are_read_and_counted",
            "a_merged_mix_is_the_base_and_what_was_generated",
        ],
        "stages/chain_dataengine": ["the_samples_of_the_engine_stand_behind_the_base_mix"],
        "stages/overrides_dataengine": [
            "a_view_decides_what_is_asked_and_answered",
            "permuted_options_are_in_another_order_and_mixed_views_are_several",
            "what_is_odd_about_the_published_records_is_counted_and_a_lost_picture_is_not_trained_on",
        ],
    }),
    4: ("errors by type: bad cases, weights, plot", {
        "unit/dataengine_weights": ["bad_cases_and_errors_by_type"],
        "unit/plots": ["bars_are_ordered_and_what_is_cut_is_added_up"],
        "stages/chain_dataengine": [
            "bad_cases_and_weights_are_written_for_the_round_that_follows",
            "the_notebook_of_the_engine_shows_errors_prompts_records_and_the_sheet",
        ],
    }),
    5: ("draw types by the published weights, smoothed or alike, by a seed", {
        "golden/dataengine_engine": ["the_draw_keeps_the_recorded_invariants"],
        "unit/dataengine_weights": ["published_weights_are_error_rates_of_three_places_whatever_the_count"],
        "unit/dataengine_queries": ["types_are_drawn_in_proportion_to_their_weights", "draws_depend_on_the_seed_and_on_nothing_else"],
        "stages/chain_dataengine": ["the_second_round_weighs_types_by_what_the_first_answered_wrong"],
        "stages/overrides_dataengine": [
            "equal_weights_draw_every_type_alike",
            "smoothing_draws_the_shares_of_errors_towards_a_half",
            "a_type_of_too_few_questions_has_no_weight",
        ],
    }),
    6: ("features of pictures kept; neighbours and any picture by turns", {
        "unit/dataengine_queries": ["draws_take_turns_between_neighbours_of_the_first_case_and_any_picture"],
        "stages/overrides_dataengine": [
            "with_the_features_of_clip_the_neighbours_are_others",
            "features_that_are_there_are_not_computed_again",
        ],
    }),
    7: ("queries of captions, boxes and two bad cases", {
        "golden/dataengine_engine": ["captions_boxes_and_bad_cases_of_a_prompt_are_the_recorded_ones"],
        "unit/dataengine_queries": ["the_prompt_has_all_parts_in_their_order"],
        "stages/chain_dataengine": ["queries_hold_facts_of_the_picture_and_two_bad_cases_and_each_picture_comes_once"],
    }),
    8: ("an offline writer or an endpoint, resumable", {
        "unit/dataengine_writers": [
            "a_request_holds_the_prompt_and_the_published_parameters",
            "what_is_kept_is_true_of_the_picture_and_of_the_type_asked_for",
        ],
        "unit/services": ["a_killed_run_goes_on_where_it_stopped"],
        "stages/chain_dataengine": ["replies_become_records_and_what_is_dropped_is_counted"],
        "stages/bad_input_dataengine": ["a_writer_that_is_not_set_is_named_with_its_variables"],
    }),
    9: ("aid to improve the prompt: versions, review sheet, accuracy", {
        "unit/dataengine_prompt_review": [
            "a_version_is_a_file_and_its_text_wherever_it_lies",
            "a_reply_on_two_sheets_counts_once_as_it_was_judged",
            "verdicts_are_read_as_a_spreadsheet_saves_them",
            "accuracy_is_measured_by_version_among_what_was_judged",
            "the_program_prints_a_line_per_version",
        ],
        "stages/chain_dataengine": ["the_review_sheet_is_ready_for_verdicts"],
        "stages/overrides_dataengine": ["another_version_of_the_prompt_is_sent_and_what_a_person_judges_of_both_is_in_the_report"],
    }),
    10: ("filter and parse replies, drops counted by reason", {
        "golden/dataengine_engine": ["replies_are_filtered_and_parsed_as_recorded", "corrected_replies_differ_for_the_listed_reasons_only"],
        "unit/dataengine_replies": ["every_reason_is_counted", "no_reply_ends_the_run"],
        "stages/chain_dataengine": ["replies_become_records_and_what_is_dropped_is_counted"],
        "stages/overrides_dataengine": ["as_published_a_reply_of_three_options_is_a_record"],
    }),
    11: ("rounds: the records join, train again, evaluate again; a table round by round", {
        "stages/chain_dataengine": [
            "every_stage_of_both_rounds_is_done_and_its_record_names_the_files_it_wrote",
            "the_second_run_names_its_parent_and_goes_on_by_three_settings",
            "the_second_rounds_baseline_answers_what_the_first_rounds_trained_model_answered",
            "the_readmes_table_has_a_row_per_round",
        ],
        "stages/bad_input_dataengine": ["a_round_before_that_is_not_finished_is_named_with_the_notebook_to_run"],
    }),
    12: ("pictures padded to a square", {
        "golden/dataengine_model": ["padded_pictures_have_the_recorded_pixels", "prepared_pictures_have_the_recorded_values"],
        "unit/llava": ["a_padded_picture_stands_in_the_middle_of_the_mean_colour"],
    }),
    13: ("Vicuna's template, place of the picture, label masks; samples that train nothing are counted", {
        "golden/dataengine_model": ["prompts_are_the_recorded_ones", "ids_and_labels_are_the_recorded_ones"],
        "golden/dataengine_data": ["the_placeholder_goes_where_the_published_code_puts_it"],
        "unit/datasets": ["samples_with_nothing_to_train_are_dropped_and_counted"],
    }),
    14: ("LLaVA of Hugging Face's classes, tiny or 7B; adapters read, converted and merged", {
        "unit/assembly": ["the_parts_become_a_model_that_computes_what_they_are"],
        "unit/llava": ["llava_1_5_has_the_published_size_and_so_have_its_adapters_and_projector"],
        "unit/original_adapters": [
            "an_adapter_of_peft_comes_back_from_the_original_layout_as_it_was",
            "the_original_layout_has_the_documented_files_names_and_entries",
        ],
        "unit/dataengine_released": ["released_weights_answer_as_the_merged_model"],
        "stages/chain_dataengine": ["both_rounds_start_from_the_same_base_and_train_adapters_and_projector_only"],
    }),
    15: ("LoRA with a rate for the projector, schedule, length groups, ZeRO, resume, TensorBoard", {
        "golden/dataengine_model": ["samples_are_grouped_as_recorded"],
        "unit/training": [
            "the_projector_has_its_own_rate_and_norms_do_not_decay",
            "the_rate_warms_up_and_falls_along_half_a_cosine",
            "killed_and_started_again_it_ends_in_the_same_weights",
            "tensorboard_shows_the_same_numbers_and_what_is_said_about_held_out_pictures",
        ],
        "engine/training_processes": ["two_processes_learn_what_one_learns"],
        "stages/chain_dataengine": ["the_trainer_saw_the_whole_mix_and_left_its_curves_and_parameters"],
    }),
    16: ("the projector alone, on pictures and captions without words between", {
        "golden/dataengine_model": ["a_caption_alone_is_trained_as_recorded"],
        "unit/dataengine_toy": ["captions_are_asked_for_before_or_behind_the_placeholder_and_say_what_the_picture_shows"],
        "unit/training": ["a_projector_alone_begins_anew_by_the_seed", "a_projector_alone_is_left_as_llavas_first_stage_leaves_it"],
        "engine/training_processes": ["a_projector_begins_alike_in_all_processes"],
        "stages/overrides_dataengine": [
            "the_projector_alone_is_trained_on_pictures_and_what_was_last_said_about_them",
            "a_projector_is_pretrained_on_captions_but_the_last",
        ],
    }),
    17: ("inference in shards whose merge is safe, answer files of the published form", {
        "golden/dataengine_model": ["the_shares_of_all_processes_are_together_everything"],
        "unit/generation": ["a_part_with_other_conversations_than_its_own_is_refused"],
        "stages/chain_dataengine": ["every_question_has_a_line_in_the_published_form"],
        "stages/overrides_dataengine": ["shards_and_batches_change_no_answer"],
        "stages/bad_input_dataengine": ["a_question_whose_picture_is_broken_stays_empty_is_counted_and_takes_nobody_elses_answer"],
    }),
    18: ("scores and uploads of every benchmark", {
        "golden/dataengine_scores": [
            "seed_bench_is_scored_as_recorded",
            "mmbench_circular_accuracy_is_the_recorded_one",
            "gqa_scores_are_those_of_the_official_evaluator",
            "scienceqa_is_scored_as_recorded",
            "vqav2_upload_is_the_recorded_one",
            "pope_is_scored_as_recorded",
            "vizwiz_and_mm_vet_files_have_the_recorded_form",
            "llava_bench_is_summarised_as_recorded",
        ],
        "unit/yes_no": ["mme_adds_accuracy_and_accuracy_of_images_with_both_right"],
        "unit/vqa_metrics": ["vqa_accuracy_is_the_mean_over_leaving_each_annotator_out", "textvqa_matches_by_image_and_question"],
        "stages/chain_dataengine": [
            "scores_are_those_of_a_plain_count",
            "the_spreadsheet_of_mmbench_reads_back_with_every_prediction",
            "uploads_hold_the_answers_in_the_order_and_form_of_their_servers",
        ],
    }),
    19: ("A-OKVQA by choice and by direct answers", {
        "unit/multiple_choice": [
            "the_published_comparison_never_finds_a_choice_with_a_capital_or_a_dot",
            "direct_answers_count_the_annotators_that_agree",
        ],
        "stages/overrides_dataengine": ["as_published_an_option_with_a_capital_is_never_right"],
    }),
    20: ("claims with verdicts and gains", {
        "unit/dataengine_claims": [
            "both_rows_of_the_readme_are_claimed_digit_for_digit",
            "a_gain_and_its_standard_error_are_those_of_the_claimed_values",
            "the_very_number_of_a_server_is_not_confirmed_by_a_proxy",
            "a_run_answers_the_row_of_the_table_that_it_was_trained_like",
        ],
        "stages/chain_dataengine": [
            "the_command_ends_in_the_claims_table_of_the_last_round",
            "a_tiny_run_turns_no_score_green_and_what_is_computed_is_reproduced",
        ],
    }),
    21: ("quick review: the README's table of the tiny loop, scored again in seconds", {
        "stages/chain_dataengine": [
            "the_readmes_table_has_a_row_per_round",
            "the_reports_open_offline_and_name_no_place_of_this_machine",
            "the_scores_are_computed_again_without_torch",
        ],
    }),
    22: ("views and scorers of MiniGPT4-v2", {
        "golden/dataengine_engine": [
            "texts_are_processed_as_minigpt4_processes_captions",
            "in_its_own_words_a_view_is_what_the_published_loader_of_minigpt4_trains",
            "in_its_own_words_a_permuted_view_is_what_the_published_loader_trains_in_the_same_order",
        ],
        "unit/dataengine_benchmarks": [
            "open_questions_are_asked_in_the_words_of_either_half",
            "the_hint_of_mmbench_stands_before_the_mark",
            "what_that_half_never_asks_has_no_words_there",
        ],
        "unit/dataengine_minigpt4": [
            "answers_are_read_as_that_half_reads_them",
            "open_answers_are_scored",
            "scores_in_the_words_of_the_other_half_answer_no_row_of_llavas_table",
        ],
        "unit/dataengine_uploads": ["what_minigpt4_v2_answered_is_handed_in_as_its_half_reads_it"],
        "stages/overrides_dataengine": [
            "in_the_words_of_minigpt4_v2_the_model_is_trained",
            "in_the_words_of_minigpt4_v2_every_stage_asks_and_scores_as_a_plain_count_says",
            "the_benchmarks_of_minigpt4_v2_are_asked_in_the_words_of_llava_too",
        ],
        "stages/bad_input_dataengine": ["a_question_that_minigpt4_v2_is_asked_is_refused_with_its_row"],
        "unit/vqa_metrics": ["vizwiz_is_lower_cased_only_and_right_from_three_annotators_on", "vsr_compares_true_and_false_in_any_case"],
    }),
}  # fmt: skip


def test_the_checklist_has_every_row_of_the_specification():
    assert list(ROWS) == list(range(1, 23))


@pytest.mark.parametrize("row", ROWS)
def test_the_tests_that_prove_a_row_are_there(row):
    _, proofs = ROWS[row]
    assert proofs
    assert absent_proofs(ROWS[row]) == []
