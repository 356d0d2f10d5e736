-- The target database reads NULL in an array as a text.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, ta text[]);
INSERT INTO t VALUES (1, ARRAY['a', NULL, 'NULL']);
-- @target
CREATE TABLE t (id int PRIMARY KEY, ta text[]);
ALTER DATABASE :target SET array_nulls = off;
