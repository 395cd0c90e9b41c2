"""What no key of a recipe may hold, whichever it is: characters that no file or path takes, numbers beyond 64 bits."""

from grpo.errors import RecipeError

GREATEST = 2**63 - 1  # of a whole number: what torch, numpy and the engine hold one in
DEEPEST = 50  # sections within sections; the schema's own go four deep


def refuse_odd_values(tree: object, path: str = "", depth: int = 0) -> None:
    """Walk a recipe's tree before its schema is asked.

    Raises:
        RecipeError: a text with a null character or half a surrogate pair, a whole number beyond 64 bits, or sections
            nested beyond all reason.
    """
    if depth > DEEPEST:
        key = ".".join(path.split(".")[:4])
        raise RecipeError(key, "...", f"holds sections within sections, more than {DEEPEST} deep", "Mend the nesting.")
    if isinstance(tree, dict):
        for name, value in tree.items():
            _refuse_text(str(name), str(name))
            refuse_odd_values(value, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(tree, list | tuple):
        for place, value in enumerate(tree):
            refuse_odd_values(value, f"{path}.{place}", depth + 1)
    elif isinstance(tree, str):
        _refuse_text(path, tree)
    elif isinstance(tree, int) and not -GREATEST <= tree <= GREATEST:
        allowed = f"must lie between -{GREATEST} and {GREATEST}"
        raise RecipeError(path, tree, allowed, "Use a smaller number.")


def _refuse_text(path: str, text: str) -> None:
    odd = next((char for char in text if char == "\0" or "\ud800" <= char <= "\udfff"), None)
    if odd is not None:
        allowed = f"holds the character U+{ord(odd):04X}, which no file or path may hold"
        raise RecipeError(path, text, allowed, "Remove it.")
