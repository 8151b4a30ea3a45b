"""The workers as the backend knows them: who is registered, and who is well."""
