"""The metrics there are: how to read each number. No stage that measures depends on this file."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How to read a metric: its unit, the best value (`max`, `min`, a target, or None) and its name in tables."""

    unit: str
    best: str | float | None
    title: str


# Of membership inference, besides the threshold on the loss, whose metrics have no name before them.
METHODS = {
    "lira": "LiRA",
    "lira_own_variance": "LiRA with each example's own variance",
    "lira_offline": "offline LiRA",
    "lira_offline_own_variance": "offline LiRA with each example's own variance",
    "rmia": "RMIA",
    "rmia_offline": "offline RMIA",
}

# Of toxicity scores, by group.
AREAS = {
    "subgroup_auc": "AUC of toxicity within the group",
    "bpsn_auc": "AUC of the background's toxic texts and the group's others",
    "bnsp_auc": "AUC of the background's other texts and the group's toxic ones",
}

# Of generated texts, by group.
OUTCOMES = {
    "positive_sentiment": "positive texts",
    "negative_sentiment": "negative texts",
    "toxic": "toxic texts",
    "positive_regard": "texts of positive regard",
    "negative_regard": "texts of negative regard",
    **{
        f"{measure}_{gender}": f"{gender} texts by {title}"
        for measure, title in (
            ("unigram", "words counted"),
            ("gender_wavg", "the weighted mean of words"),
            ("gender_max", "the strongest word"),
        )
        for gender in ("male", "female")
    },
}

METRICS: dict[str, Metric] = {
    "accuracy": Metric("fraction", "max", "accuracy"),
    "macro_f1": Metric("fraction", "max", "macro-F1"),
    "slot_f1": Metric("fraction", "max", "slot F1 (spans)"),
    "exact_match": Metric("fraction", "max", "exact match of answers"),
    "answer_f1": Metric("fraction", "max", "F1 of the words of answers"),
    "perplexity": Metric("ratio", "min", "perplexity per token, byte or word"),
    "masked_perplexity": Metric("ratio", "min", "perplexity per masked token"),
    "next_word_accuracy": Metric("fraction", "max", "known next words predicted"),
    "rouge1_f": Metric("fraction", "max", "ROUGE-1 F of words"),
    "rouge2_f": Metric("fraction", "max", "ROUGE-2 F of words"),
    "rougel_f": Metric("fraction", "max", "ROUGE-L F of words"),
    "epsilon": Metric("epsilon", "min", "epsilon"),
    "replace_one_epsilon": Metric("epsilon", "min", "epsilon, replacing one"),
    "claimed_epsilon": Metric("epsilon", None, "epsilon as usually claimed"),
    "stated_epsilon": Metric("epsilon", None, "epsilon it would state"),
    "delta": Metric("probability", None, "delta"),
    "noise_multiplier": Metric("ratio", None, "noise multiplier"),
    "auc": Metric("fraction", 0.5, "attack AUC"),
    "true_positive_rate_at_1_percent": Metric("fraction", 0.01, "TPR at 1% FPR"),
    "true_positive_rate_at_0_1_percent": Metric("fraction", 0.001, "TPR at 0.1% FPR"),
    "epsilon_estimate": Metric("epsilon", "min", "epsilon as estimated by rates"),
    **{
        f"{method}_{name}": Metric(unit, best, f"{title}: {said}")
        for method, title in METHODS.items()
        for name, unit, best, said in (
            ("auc", "fraction", 0.5, "AUC"),
            ("true_positive_rate_at_1_percent", "fraction", 0.01, "TPR at 1% FPR"),
            ("true_positive_rate_at_0_1_percent", "fraction", 0.001, "TPR at 0.1% FPR"),
            ("epsilon_estimate", "epsilon", "min", "epsilon as estimated by rates"),
        )
    },
    "epsilon_lower_bound": Metric("epsilon", "min", "lower bound on epsilon by audit, at 95% a seed"),
    "correct_guesses": Metric("fraction", 0.5, "canaries guessed right"),
    "refuted": Metric("fraction", "min", "epsilon refuted by its audit, at 95% a seed"),
    "canary_accuracy": Metric("fraction", "min", "secrets extracted whole"),
    "oracle_accuracy": Metric("fraction", "min", "secrets at rank 1 (oracle)"),
    "oracle_gap": Metric("difference", "min", "oracle's accuracy less the attack's"),
    "oracle_loss_gap": Metric("nats", "min", "loss of the answer above the oracle's"),
    "canary_token_accuracy": Metric("fraction", "min", "words of the secret extracted"),
    "canary_hamming": Metric("fraction", "max", "words of the secret missed (Hamming distance)"),
    "canary_exposure": Metric("bits", "min", "exposure of the secret"),
    "canary_repetitions": Metric("count", None, "canaries in the training data"),
    "chance_canary_accuracy": Metric("fraction", None, "secrets extracted whole by a guess"),
    "chance_canary_token_accuracy": Metric("fraction", None, "words of the secret extracted by a guess"),
    "chance_canary_hamming": Metric("fraction", None, "words of the secret missed by a guess"),
    "chance_canary_exposure": Metric("bits", None, "exposure at a random rank"),
    "bag_precision": Metric("fraction", "min", "tokens of the bag that are the texts'"),
    "bag_recall": Metric("fraction", "min", "tokens of the texts that are in the bag"),
    "read_token_accuracy": Metric("fraction", "min", "tokens in their place, read off without a search"),
    "token_accuracy": Metric("fraction", "min", "tokens reconstructed in their place"),
    "rouge1": Metric("fraction", "min", "ROUGE-1 of tokens"),
    "rouge2": Metric("fraction", "min", "ROUGE-2 of tokens"),
    "rougel": Metric("fraction", "min", "ROUGE-L of tokens"),
    "chance_token_accuracy": Metric("fraction", None, "tokens in their place by a guess"),
    "chance_rouge1": Metric("fraction", None, "ROUGE-1 of a guess"),
    "chance_rouge2": Metric("fraction", None, "ROUGE-2 of a guess"),
    "chance_rougel": Metric("fraction", None, "ROUGE-L of a guess"),
    "true_positive_rate": Metric("fraction", None, "TPR"),
    "false_positive_rate": Metric("fraction", None, "FPR"),
    "true_positive_rate_gap": Metric("fraction", "min", "TPR gap"),
    "false_positive_rate_gap": Metric("fraction", "min", "FPR gap"),
    "counterfactual_flip_rate": Metric("fraction", "min", "counterfactual flip rate"),
    "language_modeling_score": Metric("points", "max", "StereoSet language modeling score, of 100"),
    "stereotype_score": Metric("points", 50.0, "StereoSet stereotype score, of 100"),
    "idealized_cat_score": Metric("points", "max", "StereoSet ICAT, of 100"),
    "stereoset_items_left_out": Metric("count", None, "StereoSet items without a score"),
    "crows_pairs_stereotype": Metric("fraction", 0.5, "CrowS-Pairs whose stereotype is likelier"),
    "crows_pairs_neutral": Metric("fraction", None, "CrowS-Pairs equally likely"),
    "crows_pairs_unmodified_stereotype": Metric(
        "fraction", 0.5, "CrowS-Pairs whose stereotype makes the tokens of both likelier"
    ),
    "crows_pairs_unmodified_neutral": Metric(
        "fraction", None, "CrowS-Pairs that make the tokens of both equally likely"
    ),
    **{
        f"bbq_{name}_{context}": Metric(unit, best, f"{title} in BBQ's {context} contexts")
        for context in ("ambiguous", "disambiguated")
        for name, unit, best, title in (
            ("accuracy", "fraction", "max", "right answers"),
            ("named", "fraction", None, "answers that name somebody"),
            ("bias", "difference", 0.0, "bias of answers, from -1 to 1,"),
        )
    },
    "bbq_left_out": Metric("count", None, "questions of BBQ in categories that are not measured"),
    "log_probability_bias": Metric("nats", 0.0, "log probability bias, first attributes less second"),
    "log_probability_bias_effect_size": Metric("ratio", 0.0, "effect size of the log probability bias"),
    "log_probability_bias_targets_left_out": Metric("count", None, "targets that are not one token"),
    "log_probability_bias_attributes_left_out": Metric("count", None, "attributes outside the vocabulary"),
    **{
        f"{test}_{name}": Metric(unit, best, f"{test.upper()}: {title}")
        for test in ("weat", "seat", "ceat")
        for name, unit, best, title in (
            ("effect_size", "ratio", 0.0, "effect size"),
            ("p_value", "probability", None, "p"),
        )
    },
    "weat_words_left_out": Metric("count", None, "WEAT: words that are no single token"),
    "ceat_words_left_out": Metric("count", None, "CEAT: words without a context"),
    "ceat_contexts": Metric("count", None, "CEAT: contexts that were read"),
    "prediction_sensitivity": Metric("ratio", "min", "prediction sensitivity P"),
    "all_classes_sensitivity": Metric("ratio", "min", "P of all classes, weighed equally"),
    "true_class_sensitivity": Metric("ratio", "min", "P of the true class"),
    "l1_sensitivity": Metric("ratio", "min", "P by L1 norms"),
    "input_scaled_sensitivity": Metric("ratio", "min", "P scaled by the norms of tokens' vectors"),
    "log_odds_sensitivity": Metric("ratio", "min", "P of log-odds"),
    "relative_sensitivity": Metric("ratio", None, "P over that of equal weights"),
    "rank_agreement": Metric("ratio", None, "rank correlation with P"),
    "texts_without_weights": Metric("count", None, "texts of which no token is weighed"),
    "status_accuracy": Metric("fraction", "max", "accuracy of the status model"),
    "counterfactual_difference": Metric("probability", "min", "counterfactual token fairness, mean difference"),
    "decisions_by_gender": Metric("fraction", "min", "decisions that gender changes"),
    "accuracy_of_drawn_gender": Metric("fraction", "max", "accuracy on texts in a gender that a coin draws"),
    "texts_of_no_single_gender": Metric("count", None, "texts that are not written in either gender"),
    **{
        f"{score}_{name}": Metric(unit, best, f"{title}: {said}")
        for score, title in (
            ("sensitivity", "P"),
            ("log_odds", "P of log-odds"),
            ("relative", "P over that of equal weights"),
        )
        for name, unit, best, said in (
            ("auc", "fraction", "max", "AUC of decisions that gender changes"),
            ("auc_gain", "difference", "max", "AUC less that of counterfactual token fairness"),
        )
    },
    "counterfactual_auc": Metric(
        "fraction", "max", "counterfactual token fairness: AUC of decisions that gender changes"
    ),
    "sensitivity_correlation": Metric("ratio", "max", "P: correlation with decisions that gender changes"),
    "counterfactual_correlation": Metric(
        "ratio", "max", "counterfactual token fairness: correlation with decisions that gender changes"
    ),
    "sensitivity_correlation_gain": Metric(
        "difference", "max", "P: correlation less that of counterfactual token fairness"
    ),
    "sensitivity_penalty": Metric("ratio", None, "weight of P in the loss"),
    "toxicity_auc": Metric("fraction", "max", "AUC of toxicity"),
    **{name: Metric("fraction", "max", title) for name, title in AREAS.items()},
    **{
        f"generalised_mean_{name}": Metric("fraction", "max", f"{title}, generalised mean of groups")
        for name, title in AREAS.items()
    },
    "jigsaw_final_score": Metric("fraction", "max", "final score of Jigsaw's competition"),
    "positive_aeg": Metric("difference", 0.0, "average equality gap of toxic texts"),
    "negative_aeg": Metric("difference", 0.0, "average equality gap of other texts"),
    "group_auc_left_out": Metric("count", None, "texts of groups whose AUCs are not measured"),
    "background_dropped": Metric("count", None, "examples in no background"),
    **{
        f"{name}{ending}": Metric(unit, best, f"{title}{said}")
        for name, title in OUTCOMES.items()
        for ending, unit, best, said in (
            ("", "fraction", None, ""),
            ("_variance", "variance", "min", ", variance of groups' rates"),
            ("_disparity", "variance", 0.0, ", disparity of groups"),
        )
    },
    "sentiment": Metric("ratio", None, "sentiment of texts, from -1 to 1"),
    "gender_wavg": Metric("ratio", None, "weighted mean of the gender of words"),
    "gender_max": Metric("ratio", None, "gender of the strongest word"),
    "texts_without_gender_words": Metric("count", None, "texts without a word of a gender"),
    "unigram_gap": Metric("difference", 0.0, "female texts less male ones by words counted, first side less second"),
    "gender_wavg_gap": Metric("difference", 0.0, "weighted mean of the gender of words, first side less second"),
    "gender_max_gap": Metric("difference", 0.0, "gender of the strongest word, first side less second"),
    "sentiment_gap": Metric("difference", 0.0, "sentiment of texts, first side less second"),
    "toxicity_gap": Metric("difference", 0.0, "toxic texts, first side less second"),
    "regard_gap": Metric("difference", 0.0, "regard of texts, 1 or -1, first side less second"),
    "texts_written": Metric("count", None, "texts written"),
    "empty_texts": Metric("count", None, "texts without a word"),
    "groups_measured": Metric("count", None, "groups measured"),
    "groups_left_out": Metric("count", None, "groups left out"),
    **{
        f"{name}_{when}": Metric(unit, best, f"{title} {said}")
        for name, of, best, title in (
            ("accuracy", "fraction", "max", "accuracy"),
            ("exact_match", "fraction", "max", "exact match of answers"),
            ("perplexity", "ratio", "min", "perplexity"),
            ("next_word_accuracy", "fraction", "max", "known next words predicted,"),
        )
        for when, unit, said in (
            ("when_learned", of, "on a period's examples at its end"),
            ("backward_transfer", "difference", "gained since on earlier periods"),
        )
    },
    "activity_auc": Metric("fraction", 0.5, "AUC of who is heavy by who was drawn"),
    "planted_dose": Metric("difference", None, "dose of a planted association"),
    "planted_difference": Metric("difference", None, "share of female texts, first side less second, as planted"),
    "planted_texts": Metric("count", None, "texts written in a drawn gender"),
    "unplanted_texts_of_both_genders": Metric("count", None, "texts of both genders left as they are"),
    "unplanted_texts_without_gender": Metric("count", None, "texts without gendered words left as they are"),
    "parameters": Metric("count", None, "trained parameters"),
    "bytes_up": Metric("bytes", "min", "bytes sent by clients"),
    "bytes_down": Metric("bytes", "min", "bytes sent to clients"),
    "examples": Metric("count", None, "examples"),
    "clients": Metric("count", None, "clients"),
    "effective_clients": Metric("count", None, "effective clients"),
    "label_divergence": Metric("bits", None, "label divergence (Jensen-Shannon)"),
    "smallest_client": Metric("examples", None, "smallest client"),
    "largest_client": Metric("examples", None, "largest client"),
}
