-- The target has a unique index whose collation takes two keys as one.
-- @legacy
CREATE TABLE t (id text PRIMARY KEY, a text);
INSERT INTO t VALUES ('google', '10'), ('Google', '100'), ('x', '1');
-- @target
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE t (id text NOT NULL, a text);
CREATE UNIQUE INDEX ON t (id COLLATE ci);
