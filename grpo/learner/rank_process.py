"""One of the learner's processes but the first: ``python -m grpo.learner.rank_process``.

Its parent, the first one, sends the recipe and where to meet; all else comes with the leader's words.
"""

from grpo.learner.team import follow, join, leave
from grpo.processes import parent_connection


def main() -> None:
    connection = parent_connection()
    recipe, membership, device = connection.recv()
    mesh = join(recipe, membership, device=device)
    try:
        follow(recipe, mesh)
    finally:
        leave()


if __name__ == "__main__":
    main()
