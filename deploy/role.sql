-- Creates the role of the service, or renews its password and rights. Run as the owner of the tables, after the migration,
-- with SERVICE_PASSWORD in the environment: psql --set=ON_ERROR_STOP=1 --file=deploy/role.sql
\getenv password SERVICE_PASSWORD
SELECT 'CREATE ROLE phone_auth LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'phone_auth') \gexec
ALTER ROLE phone_auth PASSWORD :'password';
GRANT SELECT, INSERT, UPDATE, DELETE ON users, user_addresses TO phone_auth;
GRANT USAGE ON SEQUENCE users_id_seq, user_addresses_id_seq TO phone_auth;
