-- The target pads the key with blanks.
-- @legacy
CREATE TABLE t (id text PRIMARY KEY, a text);
INSERT INTO t VALUES ('a', '1'), ('b', '2');
-- @target
CREATE TABLE t (id char(5) PRIMARY KEY, a text);
