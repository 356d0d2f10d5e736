-- Keys that are equal with blanks behind them: one row must not be two records.
-- @legacy
CREATE TABLE t (id bpchar PRIMARY KEY, a text);
INSERT INTO t VALUES ('a', 'x'), ('b ', 'y');
-- @target
CREATE TABLE t (id bpchar PRIMARY KEY, a text);
-- @change-legacy
UPDATE t SET id = 'a  ' WHERE id = 'a';
