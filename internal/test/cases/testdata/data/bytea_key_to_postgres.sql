-- A key of bytes, one of which are no UTF-8, goes into a table of PostgreSQL.
-- @legacy
CREATE TABLE t (id bytea PRIMARY KEY, a text);
INSERT INTO t VALUES ('\x00112233445566778899aabbccddeeff', 'a UUID in bytes'), ('\x6162', 'ascii');
-- @target
CREATE TABLE t (id bytea PRIMARY KEY, a text);
