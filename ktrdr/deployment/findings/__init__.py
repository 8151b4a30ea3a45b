"""What hosts have said, held against what is wanted: judges, and asks nobody."""
