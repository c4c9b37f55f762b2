"""`make demo`: continue the demo that was interrupted, or make it anew."""

from importlib import metadata
from pathlib import Path

from tailora.cli.main import main
from tailora.config.recipe import AUTO, Recipe
from tailora.errors import RunError
from tailora.methods.auto_training import with_training
from tailora.methods.prepare import with_precision
from tailora.runs.folder import SCHEMA, RunFolder, read_object

OUT = Path("runs/demo")
KEY = "compute.precision"


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
    given = Recipe().override({KEY: AUTO})
    recipe = with_training(with_precision(given))  # as the run records it
    how = "--resume" if is_unfinished(OUT, recipe) else "--force"
    main(["fit", "bluemarble", "--out", str(OUT), "--set", f"{KEY}={AUTO}", how])
