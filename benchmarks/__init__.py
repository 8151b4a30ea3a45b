"""What is measured, to be repeated: figures of the documentation come from here."""
