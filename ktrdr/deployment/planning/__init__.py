"""What a deploy will do, and what it needs for it: decided before anything is done."""
