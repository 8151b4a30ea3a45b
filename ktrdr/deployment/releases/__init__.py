"""What can be deployed: a release, the checkout that it comes from, and its compose files."""
