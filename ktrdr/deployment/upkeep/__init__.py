"""What is done to hosts between deploys; needs no plan and no secret."""
