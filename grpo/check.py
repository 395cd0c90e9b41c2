"""What ``grpo check`` says of a recipe: resolved keys, the batch in words, evaluation, memory. Imports no torch."""

from collections.abc import Iterator, Mapping, Sequence

from grpo.errors import RecipeError
from grpo.generators import is_generator, make_generator
from grpo.gym_generator import GYM_PREFIX
from grpo.memory import device_of
from grpo.model_shape import ModelShape, read_shape
from grpo.objective.formula import objective_lines
from grpo.parallel_sizes import check_parallel
from grpo.plan import account_lines
from grpo.prompt_outline import prompt_lines, prompt_notes
from grpo.recipe import Recipe, to_yaml
from grpo.row_filter import RowFilter
from grpo.row_function import check_file, is_function
from grpo.scoring import Scorer
from grpo.sources import check_place


def sections(recipe: Recipe) -> dict[str, list[str]]:
    """Everything that can be said of a run before it starts: lines by section, none of them empty.

    Raises:
        ModelError: ``model`` names a folder that holds no model.
        RecipeError: sizes under ``parallel`` do not divide the model or the GPUs; the longest sample is longer than
            the model's window; a reward refuses its arguments; the template's file is no Jinja.
        DataError: a generator refuses its arguments, no data can be at a path, or a filter is no expression.
    """
    _check_arguments(recipe)
    shape = read_shape(recipe.model)
    check_parallel(recipe, shape)
    if shape is not None:
        check_window(recipe, shape)
    said = {
        "recipe": [to_yaml(recipe).rstrip()],
        "batch": list(_batch(recipe)),
        "objective": list(objective_lines(recipe)),
        "evaluation": list(_evaluation(recipe)),
        "memory": list(_memory(recipe, shape)),
        "prompt": list(prompt_lines(recipe)),
        "notes": list(_notes(recipe)),
    }
    return {title: lines for title, lines in said.items() if lines}


def report(recipe: Recipe) -> str:
    """``sections`` for people."""
    return as_text(sections(recipe))


def as_text(said: Mapping[str, Sequence[str]]) -> str:
    """Sections as one text."""
    return "\n\n".join(f"# {title}\n" + "\n".join(lines) for title, lines in said.items())


def _check_arguments(recipe: Recipe) -> None:
    """Make what the recipe names by name, which refuses bad arguments, and let it go."""
    Scorer(recipe.rewards, recipe.scoring).close()
    for key, source in {**recipe.data.train_sources(), **recipe.data.held_out_sources()}.items():
        if source.filter is not None:
            RowFilter(source.filter, key=key)
        if is_function(source.path):
            check_file(source.path, key=key)
        elif source.path.startswith(GYM_PREFIX):
            continue  # its package is slow to import
        elif is_generator(source.path):
            make_generator(source.path, source.args, key=key)
        else:
            check_place(source, key=key)


def check_window(recipe: Recipe, shape: ModelShape) -> None:
    """Refuse samples longer than the positions that the model was made for.

    Raises:
        RecipeError: rollout.max_prompt_length + rollout.max_completion_length exceeds the window.
    """
    rollout, window = recipe.rollout, shape.max_positions
    if window is not None and rollout.max_prompt_length + rollout.max_completion_length > window:
        raise RecipeError(
            "rollout.max_completion_length",
            rollout.max_completion_length,
            f"with rollout.max_prompt_length ({rollout.max_prompt_length}) exceeds the window of {recipe.model}, "
            f"{window} tokens",
            f"Use {window - rollout.max_prompt_length}, or a shorter prompt."
            if window > rollout.max_prompt_length
            else f"Lower rollout.max_prompt_length below {window} first.",
        )


def _batch(recipe: Recipe) -> Iterator[str]:
    rollout, algorithm, steps = recipe.rollout, recipe.algorithm, recipe.max_steps
    answers = recipe.answers_per_step
    yield (
        f"each step: {_count(rollout.problems_per_step, 'problem')} x {rollout.num_generations} answers = "
        f"{answers:,} answers, at most {answers * rollout.max_completion_length:,} tokens sampled "
        f"({rollout.max_completion_length:,} an answer)"
    )
    yield _refill(recipe)
    if rollout.min_pass_rate > 0 or rollout.max_pass_rate < 1:
        yield f"pass rates: groups below {rollout.min_pass_rate:g} or above {rollout.max_pass_rate:g} teach nothing"
    share = answers // algorithm.num_minibatches
    yield (
        f"updates: {algorithm.updates_per_step} a step, "
        + (f"on all {answers:,} answers" if share == answers else f"each on {share:,} answers")
        + f", in packed rows of at most {recipe.learner.row_tokens:,} tokens"
    )
    yield (
        "staleness: 0, so each step samples, learns and publishes before the next samples"
        if rollout.max_staleness == 0
        else f"staleness: at most {rollout.max_staleness}, so answers may come from weights up to "
        f"{_count(rollout.max_staleness, 'version')} old"
    )
    if algorithm.updates_per_step > 1:
        yield "off-policy: the updates after the first in a step train on answers from before that step"
    yield (
        f"whole run: {_count(steps, 'step')}, {steps * answers:,} answers to {steps * rollout.problems_per_step:,} "
        f"problems, {_count(steps * algorithm.updates_per_step, 'update')}"
    )


def _refill(recipe: Recipe) -> str:
    """Which groups are replaced: with baseline=batch those that score alike teach, so they are not among them."""
    rollout = recipe.rollout
    if not rollout.max_refill_groups:
        return "refill: none; a group that teaches nothing is not replaced"
    which = "that teach nothing"
    if recipe.algorithm.baseline == "batch":
        narrowed = rollout.min_pass_rate > 0 or rollout.max_pass_rate < 1
        which = "with fewer than two scored answers" + (" or outside the pass rates" if narrowed else "")
    text = (
        f"refill: at most {_count(rollout.max_refill_groups, 'group')} {which} replaced a step: "
        f"up to {rollout.max_refill_groups * rollout.num_generations:,} answers more"
    )
    if recipe.algorithm.baseline == "batch":
        text += "; groups that score alike do teach, against the step's mean (algorithm.baseline=batch)"
    return text


def _evaluation(recipe: Recipe) -> Iterator[str]:
    evaluation, num_held_out = recipe.evaluation, recipe.data.num_held_out
    when = f", and every {_count(evaluation.every, 'step')}" if evaluation.every else ""
    yield (
        f"{num_held_out:,} held-out problems x {_count(evaluation.num_samples, 'answer')} = "
        f"{num_held_out * evaluation.num_samples:,} answers at the start, at the end{when}"
    )
    yield f"an answer is right where '{recipe.rewards[0].label}', the first reward in the list, says correct"
    yield f"reward = {_reward_formula(recipe)}"
    data = recipe.data
    own = [source.path for source in data.held_out_sources().values()]
    paths = own or [source.path for source in data.train_sources().values()]
    yield f"held-out problems come from {', '.join(paths)}{'' if own else ', set apart'}"


def _reward_formula(recipe: Recipe) -> str:
    gates = [reward.label for reward in recipe.rewards if reward.gate]
    terms = [
        reward.label if reward.weight == 1 else f"{reward.weight:g} x {reward.label}"
        for reward in recipe.rewards
        if not reward.gate
    ]
    total = " + ".join(terms)
    return " x ".join([*gates, f"({total})" if gates and len(terms) > 1 else total])


def _memory(recipe: Recipe, shape: ModelShape | None) -> Iterator[str]:
    if shape is None:
        yield (
            f"unknown: {recipe.model} is not in the hub's cache. Download its config first "
            f"(`hf download {recipe.model} config.json`), or name a local folder"
        )
        return
    yield from account_lines(recipe, shape, device_of(recipe))


def _notes(recipe: Recipe) -> Iterator[str]:
    algorithm, learner = recipe.algorithm, recipe.learner
    if algorithm.old == "behavior":
        yield "algorithm.old=behavior: the ratio's denominator is the engine's log-probability, not the learner's"
    if recipe.engine_dtype != learner.dtype:
        yield (
            f"the engine computes in {recipe.engine_dtype}, the learner in {learner.dtype}: their log-probabilities "
            "differ, so the publish proof allows what it measured at the start"
        )
        if not algorithm.corrects:
            yield "and nothing corrects for that difference: consider old=recompute with importance_sampling_correction"
    elif learner.dtype == "bfloat16" and not algorithm.importance_sampling_correction:
        yield "bfloat16 engine and learner disagree a little: importance_sampling_correction=true corrects for it"
    if any(reward.name == "random" for reward in recipe.rewards):
        yield "the reward 'random' is a control: a run with it must not improve"
    yield from prompt_notes(recipe)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
