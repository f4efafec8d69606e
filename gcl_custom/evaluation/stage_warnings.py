"""The warnings of finished stages: those that they kept, and those that follow from their facts."""

from collections.abc import Sequence

from gcl_custom.counted import counted
from gcl_custom.measures import collapse
from gcl_custom.runs.stage import Stage


def of_stages(stages: Sequence[Stage]) -> list[str]:
    """A line for each warning, in the order of the stages. Stages that are not finished have none."""
    found = []
    for stage in stages:
        facts = stage.facts if stage.done else {}
        found += [f"{stage.name}: {text}" for text in facts.get("warnings", [])]
        if facts.get("unusable"):
            found.append(
                f"{counted(facts['unusable'], 'file')} could not be used; {stage.path / 'unusable.txt'} says why."
            )
        if facts.get("duplicates_across_splits"):
            found.append(
                f"{facts['duplicates_across_splits']:,} tiles are copies of one another in different splits: "
                "scores on them say too much."
            )
        if "embedding_std" in facts and "effective_rank" in facts:
            collapsing = collapse.warning(facts["embedding_std"], facts["effective_rank"])
            found += [f"{stage.name}: {collapsing}"] if collapsing else []
    return found
