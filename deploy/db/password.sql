-- Run once, when the database is made: initdb takes only the first line of a password, this all of it.
\getenv user POSTGRES_USER
\getenv password POSTGRES_PASSWORD
ALTER ROLE :"user" PASSWORD :'password';
