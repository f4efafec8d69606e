"""Stage without output: list the weights that a recipe takes from elsewhere, their state, and how to get them."""

from collections.abc import Sequence

from gcl_custom.console import say, warn
from gcl_custom.counted import either
from gcl_custom.errors import UserError
from gcl_custom.recipe.file import load_recipe
from gcl_custom.weights.fetch import as_safetensors, by_hand, fetch
from gcl_custom.weights.needed import licences, needed
from gcl_custom.weights.on_disk import Found, digest, look, show


def list_weights(recipe: str, overrides: Sequence[str], download: bool, digests: bool) -> None:
    """Show the weights of a recipe as a table.

    Args:
        recipe: a file or a shipped name.
        overrides: texts ``key.path=value``.
        download: first fetch the weights that are missing.
        digests: also print the SHA-256 of each file.

    Raises:
        UserError: weights are missing or damaged. The message says how to get each of them.
    """
    read = load_recipe(recipe, overrides)
    needs = needed(read)
    if not needs:
        say("This recipe takes no weights from elsewhere: its networks start anew, and what measures them is installed")
        return
    found = [(need, look(need)) for need in needs]
    if download:
        for need, state in found:
            if state.state == "missing":
                fetch(need)
            elif need.folder and state.path:
                as_safetensors(state.path, need)
        found = [(need, look(need)) for need in needs]
    show(found)
    for line in licences(read):
        warn(line)
    if digests:
        for need, state in found:
            if value := digest(need, state):
                say(f"{need.given}: SHA-256 {value}")
    lacking = [(need, state) for need, state in found if not state.there]
    if lacking:
        orders = "\n".join(f"  {need.where}: {_order(by_hand(need), state)}" for need, state in lacking)
        all_at_once = f"\nOr all that can be fetched: gcl-custom weights {recipe} --download" if not download else ""
        count = f"{len(lacking)} of {len(found)} weights {either(len(lacking), 'is', 'are')}"
        raise UserError(f"{count} missing or damaged:\n{orders}{all_at_once}")


def _order(get: str, state: Found) -> str:
    return get if state.state == "missing" else f"{state.path}: {state.what}. To get it anew: {get}"
