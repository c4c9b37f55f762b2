"""`make demo`: continue the demo that was interrupted, or make it anew."""

from importlib import metadata
from pathlib import Path

from tailora.cli.main import main
from tailora.config.recipe import Recipe
from tailora.errors import RunError
from tailora.runs.folder import SCHEMA, RunFolder, read_object

OUT = Path("runs/demo")


def is_unfinished(run: Path, recipe: Recipe) -> bool:
    """Return whether `run` was interrupted under this recipe and this version.

    Args:
        run: A folder that need not exist.
        recipe: As given; what it leaves open (None) may have been decided in any way.
    """
    folder = RunFolder(run)
    try:
        record, own = read_object(folder.run_file), folder.read_recipe().flat()
    except RunError:
        return False
    begun = {"schema": SCHEMA, "complete": False, "tailora": metadata.version("tailora")}
    if not isinstance(record, dict) or any(record.get(key) != begun[key] for key in begun):
        return False
    return all(own[key] == value for key, value in recipe.flat().items() if value is not None)


if __name__ == "__main__":
    how = "--resume" if is_unfinished(OUT, Recipe()) else "--force"
    main(["fit", "bluemarble", "--out", str(OUT), how])
