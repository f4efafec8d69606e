import pytest

from gcl_custom.recipe.names import folder_name, is_folder_name


@pytest.mark.parametrize("text", ["quickstart", "2024.run_1-b", "mask_probability=0.25,method=a+b", "Größe 3"])
def test_names_stay_as_they_are(text: str) -> None:
    assert is_folder_name(text)
    assert folder_name(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../x", "/x", "a/b", ".hidden", "a\\b", "a\nb", "a\0", "-x", "x" * 300]
)
def test_paths_and_the_like_are_no_names(text: str) -> None:
    assert not is_folder_name(text)
    assert is_folder_name(folder_name(f"root={text}"))


def test_long_texts_that_differ_get_names_that_differ() -> None:
    one, two = (folder_name(f"root={'ä' * 300}{end}") for end in "ab")
    assert one != two
    assert is_folder_name(one)
