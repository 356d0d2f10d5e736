-- A key that begins with a dash is a key, and no flag.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, a text);
INSERT INTO t VALUES (-5, 'v');
