-- An integer becomes a decimal: 5 is 5.00.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, c int);
INSERT INTO t VALUES (1, 5), (2, -5);
-- @target
CREATE TABLE t (id int PRIMARY KEY, c numeric(12,2));
