"""What `ktrdr deploy init` writes is what was answered, and a person can read it."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from ktrdr.deployment.homelab.inventory_file import parse
from ktrdr.deployment.homelab.inventory_text import Answers, Node, inventory_text
from ktrdr.errors import ConfigurationError

TEXT = """\
# What is deployed where. `ktrdr deploy init` has written this file; now it is yours to edit.
# docs/adding-a-node.md lists every key there is; one that does not stand here has its default.

# The DNS zone of the homelab.
domain: lab.example

# The images that CI builds, without the tags, which name releases.
image: ghcr.io/ann/ktrdr-backend
nfs_image: ghcr.io/ann/ktrdr-nfs-server
# Who logs in to the registry with the secret ghcr_token.
registry_user: ann

# Who keeps the secrets; docs/secrets.md says what each source needs.
secrets:
  source: age
  # Relative to this file's directory.
  file: secrets.age

# The core host, by its name for ssh.
core:
  host: backend.lab.example

# The worker nodes by name. `D: {}` would add workers-d in the domain above.
workers:
  B: {}
  C:
    host: 10.0.0.7
    scale: 2
"""


def test_the_text_is_short_and_says_what_is_what() -> None:
    answers = Answers(
        domain="lab.example",
        nodes=(Node("B"), Node("C", "10.0.0.7", 2)),
        image="ghcr.io/ann/ktrdr-backend",
        registry_user="ann",
        source="age",
        file="secrets.age",
    )
    assert inventory_text(answers) == TEXT
    assert parse(TEXT, shown_as="inventory.yml").workers["C"].scale == 2


def test_no_answer_at_all_is_the_specification() -> None:
    inventory = parse(inventory_text(Answers()), shown_as="inventory.yml")
    assert inventory == parse("", shown_as="inventory.yml")


lines = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=20)
names = lines | st.sampled_from(["B", "N", "1", "no", "null", "1.5", "0x1", "~", "2026-11-24"])


@example(domain="d", host="h", user="u\u2028v", vault="v\x85", nodes=[])
@given(
    domain=names,
    host=names,
    user=lines,
    vault=lines,
    nodes=st.lists(st.builds(Node, names, st.none() | names, st.integers(0, 4)), max_size=3),
)
def test_any_answers_are_read_back_as_they_were_given_or_refused(
    domain: str, host: str, user: str, vault: str, nodes: list[Node]
) -> None:
    answers = Answers(
        domain=domain, core_host=host, registry_user=user, vault=vault, nodes=tuple(nodes)
    )
    try:
        inventory = parse(inventory_text(answers), shown_as="inventory.yml")
    except ConfigurationError:
        return
    assert (inventory.domain, inventory.core.host) == (domain, host)
    assert (inventory.registry_user, inventory.secrets.vault) == (user, vault)
    assert list(inventory.workers) == [node.name for node in nodes]
    for node in nodes:
        found = inventory.workers[node.name]
        assert found.host == node.host or node.host is None
        assert found.scale == node.scale
