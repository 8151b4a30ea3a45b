"""A stand-in for the 1Password CLI, which is proprietary and cannot be installed here.

It accepts the arguments of the real program (`op item get ITEM [--vault VAULT] [--account ACCOUNT]
--format json`, `op --version`, `op account list`, `op vault list`), prints the same JSON and error
texts, and exits with 1 on every error. Like the real program, it reads its standard input if that
is a pipe. It reads a vault file, which you may edit:

    {"state": "signed in", "vaults": {"VAULT": {"ITEM": {"FIELD": "value", …}}}}

A field may also be an object with `value`, `type` and `section`. An item may be a list of fields,
objects that also have a `label`, so that a label can occur twice. States other than "signed in"
make every call fail like the real program; see STATES. KTRDR_LAB_VAULT names another file.
"""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

ACCOUNT = "my.1password.com"
STATES = {
    "signed out": "You are not currently signed in. Please run `op signin --help` for instructions",
    "not signed in": "account is not signed in",
    "session expired": "session expired, sign in to create a new session",
    "prompt dismissed": "error initializing client: authorization prompt dismissed",
    "prompt timeout": "error initializing client: authorization timeout",
    "no app": "error initializing client: connecting to desktop app: is it running?",
    "no account": "No accounts configured for use with 1Password CLI.",
    "several accounts": "multiple accounts found. Use the --account flag to select an account.",
    "rate limited": "Too many requests. Your client has been rate-limited.",
    "unknown": "something happened that nobody has seen before",
}


def fail(text: str) -> NoReturn:
    sys.stderr.write(f"[ERROR] {time.strftime('%Y/%m/%d %H:%M:%S')} {text}\n")
    raise SystemExit(1)


def main() -> None:
    path = Path(os.environ.get("KTRDR_LAB_VAULT") or sys.argv[1])
    arguments = sys.argv[2:]
    if arguments == ["--version"]:
        print("2.32.0")
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    state = content.get("state", "signed in")
    if state == "hangs":
        time.sleep(3600)
    if state != "signed in":
        fail(STATES.get(state, state))
    if arguments[:2] == ["item", "get"]:
        get_item(content["vaults"], arguments[2:])
    elif arguments[:2] == ["vault", "list"]:
        print("\n".join(content["vaults"]))
    elif arguments[:2] == ["account", "list"]:
        print(f"{ACCOUNT}  lab@example.org")
    else:
        fail(f'unknown command {" ".join(arguments[:2])!r} for "op"')


def get_item(vaults: dict[str, Any], arguments: list[str]) -> None:
    if stat.S_ISFIFO(os.fstat(0).st_mode):
        fail("invalid JSON in piped input")
    parser = argparse.ArgumentParser(prog="op item get")
    parser.add_argument("item")
    parser.add_argument("--vault")
    parser.add_argument("--account", default=ACCOUNT)
    parser.add_argument("--format", choices=["json"], required=True)
    asked = parser.parse_args(arguments)
    if asked.account != ACCOUNT:
        fail(f'error initializing client: found no accounts for filter "{asked.account}"')
    if asked.vault is None:
        if "OP_SERVICE_ACCOUNT_TOKEN" in os.environ:
            fail("a vault query must be provided when this command is called by a service account")
        holders = [name for name, items in vaults.items() if asked.item in items]
        if not holders:
            fail(f'"{asked.item}" isn\'t an item. Specify the item with its UUID, name, or domain.')
        asked.vault = holders[0]
    if asked.vault not in vaults:
        fail(f'"{asked.vault}" isn\'t a vault in this account.')
    items = vaults[asked.vault]
    if asked.item not in items:
        fail(f'"{asked.item}" isn\'t an item in the "{asked.vault}" vault.')
    listed = items[asked.item]
    entries = (
        listed
        if isinstance(listed, list)
        else [
            {"label": label, **(entry if isinstance(entry, dict) else {"value": entry})}
            for label, entry in listed.items()
        ]
    )
    print(json.dumps(as_item(asked.item, asked.vault, entries), indent=2))


def as_item(title: str, vault: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    fields: list[dict[str, Any]] = [{"id": "notesPlain", "type": "STRING", "label": "notesPlain"}]
    for number, entry in enumerate(entries):
        field = {
            "id": f"field{number}",
            "type": entry.get("type", "CONCEALED"),
            "label": entry["label"],
            "reference": f"op://{vault}/{title}/{entry['label']}",
        }
        if entry.get("value", "") != "":
            field["value"] = entry["value"]
        if "section" in entry:
            field["section"] = {"id": entry["section"].lower(), "label": entry["section"]}
        fields.append(field)
    return {
        "id": "lab",
        "title": title,
        "version": 1,
        "vault": {"id": "labvault", "name": vault},
        "category": "SECURE_NOTE",
        "fields": fields,
    }


if __name__ == "__main__":
    main()
