"""``docs/recipes.md``: the shipped recipes side by side, from the three comment lines that open each."""

from grpo.recipe.load import SHIPPED, load_recipe

TITLES = {False: "On a CPU", True: "On GPUs"}


def recipes_document() -> str:
    """The whole page. The recipes are those of ``recipes/``, in the order of their names."""
    recipes = {path: load_recipe(path) for path in sorted(SHIPPED.glob("*.yaml"))}
    lines = [
        "# Recipes",
        "",
        "What is shipped in `recipes/`. Made by `make docs` from the lines that open each. What was run here is in",
        "[results.md](results.md); of the others, what to expect is their papers'. Copy the nearest and change it:",
        "[quickstart.md](quickstart.md) has one with data and a reward of your own, [keys.md](keys.md) every key.",
    ]
    for on_gpus, title in TITLES.items():
        lines += ["", f"## {title}"]
        for path, recipe in recipes.items():
            if (recipe.num_gpus > 0) == on_gpus:
                lines += ["", f"**`recipes/{path.name}`**: `{recipe.model}`.", ""]
                lines += [f"- {line.removeprefix('# ')}" for line in path.read_text(encoding="utf-8").splitlines()[:3]]
    return "\n".join([*lines, ""])
