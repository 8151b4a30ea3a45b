INSERT INTO shared_directory (directory_id) VALUES (%(directory_id)s) ON CONFLICT DO NOTHING RETURNING directory_id
