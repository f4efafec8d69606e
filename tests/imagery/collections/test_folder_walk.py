from pathlib import Path

from gcl_custom.imagery.collections.folder_walk import walk


def lay_out(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_pictures_of_runs_are_no_imagery(tmp_path: Path) -> None:
    """data.root may be the folder in which commands are typed."""
    root = lay_out(
        tmp_path, "a.jpg", "mine.yaml", "runs/x/recipe.yaml", "runs/x/.lock", "runs/x/pictures/1.png",
        "runs/s/cells/c/2.png", "runs/s/stages/views-1/3.png", "elsewhere/tokenizer/stage.json",
        "elsewhere/tokenizer/4.png", "elsewhere/maskgit/working.json", "elsewhere/maskgit/5.png", "b/recipe.yaml",
        "b/6.png",
    )  # fmt: skip
    assert walk(root).images == ["a.jpg", "b/6.png"]
    assert any(
        "runs of gcl-custom, which are no imagery, passed over: elsewhere/maskgit" in note for note in walk(root).notes
    )
    assert walk(root / "runs" / "x").images == ["pictures/1.png"]  # if somebody points there


def test_arrays_are_scenes_and_no_other_images(tmp_path: Path) -> None:
    root = lay_out(tmp_path, "a.tif", "b/c.NPY")
    assert (walk(root).images, walk(root).others) == (["a.tif"], 1)
    assert (walk(root, scenes=True).images, walk(root, scenes=True).others) == (["a.tif", "b/c.NPY"], 0)
