-- A value that names a missing table is about its row, and about no table of ours.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, c regclass);
INSERT INTO t VALUES (1, 0);
-- @target
CREATE TABLE t (id int PRIMARY KEY, c regclass);
