import subprocess
import sys

from gcl_custom.weights.catalogue import CATALOGUE


def test_the_catalogue_names_each_of_its_weights_once_and_says_where_they_are() -> None:
    assert len({(public.choice, public.name) for public in CATALOGUE}) == len(CATALOGUE)
    for public in CATALOGUE:
        assert bool(public.repository) + bool(public.url) + bool(public.page) == 1, public
        assert "/" not in public.file, "so that one command brings it to its place"
        assert public.licence


def test_nothing_heavy_is_imported() -> None:
    code = "import sys, gcl_custom.weights.catalogue; print({'torch', 'numpy', 'huggingface_hub'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
