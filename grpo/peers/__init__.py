"""Configurations of other trainers, translated into recipes: tables of what becomes of each key, and what reads them.

``trl.py`` and ``verl.py`` are the tables; ``docs/from_trl.md`` and ``docs/from_verl.md`` are made of them.
"""

from grpo.peers.mapping import Peer
from grpo.peers.translation import Entry, Translation, translate
from grpo.peers.trl import TRL
from grpo.peers.verl import VERL

PEERS: dict[str, Peer] = {peer.name: peer for peer in (TRL, VERL)}

__all__ = ["PEERS", "TRL", "VERL", "Entry", "Peer", "Translation", "translate"]
