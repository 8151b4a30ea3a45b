"""Sign the workers' tokens of the development stack; a one-shot service of docker-compose.dev.yml.

    python3 dev_tokens.py DIRECTORY NODE…

On real hosts, `ktrdr deploy workers` does this on the operator's laptop. Workers read their token
from a file, so that only the backend and this service hold JWT_SECRET.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ktrdr.secret import Secret
from ktrdr.tokens import Role, create_token

LIFETIME = timedelta(days=365)


def main() -> None:
    """Write one token file per node, named after the node."""
    directory, *nodes = sys.argv[1:]
    secret = Secret(os.environ["JWT_SECRET"])
    for node in nodes:
        token = create_token(
            secret,
            subject=node,
            role=Role.WORKER,
            lifetime=LIFETIME,
            now=datetime.now(UTC),
            node=node,
        )
        Path(directory, node).write_text(token.reveal(), encoding="utf-8")


if __name__ == "__main__":
    main()
