"""Requests made from the API's own documentation, by the thousand, and answers held against it."""
