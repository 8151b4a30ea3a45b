"""`make chaos-deploy`: deploys in the lab while something breaks, each looked at afterwards."""
