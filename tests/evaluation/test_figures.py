from gcl_custom.evaluation.figures import column_title, in_columns, metric_title, share_name, title


def test_names_of_arms_metrics_and_columns_are_those_that_a_reader_sees() -> None:
    assert title("public") == "Public start"
    assert metric_title("finetune@0.1") == "fine-tuned with 10 % of labels"
    assert column_title("all") == "all labels"
    assert [share_name(share) for share in (0.01, 1.0)] == ["0.01", "all"]


def test_fine_tuning_and_supervision_share_the_column_of_their_labels() -> None:
    columns, table = in_columns({"gcl": {"linear": {}, "finetune@0.1": {}}, "supervised": {"supervised@all": {}}})
    assert columns == ["linear", "0.1", "all"]
    assert set(table["gcl"]) == {"linear", "0.1"}
    assert set(table["supervised"]) == {"all"}
