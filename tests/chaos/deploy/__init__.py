"""Chaos tests of deploys: `make chaos-deploy` deploys in the lab with injected faults."""
