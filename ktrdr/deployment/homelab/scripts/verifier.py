"""Print the verifier of the password on standard input, in a container of our own image."""

import os
import sys

from ktrdr.deployment.homelab.scram import make_verifier_with_salt
from ktrdr.secret import Secret

password = Secret(sys.stdin.buffer.read().decode())
sys.stdout.write(make_verifier_with_salt(password, os.urandom(16), 4096).reveal())
