-- The target has a unique constraint that legacy has not.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, ch text, d date);
INSERT INTO t VALUES (1, 'google', '2025-04-02'), (2, 'Google', '2025-04-02'), (3, 'x', '2025-04-02');
-- @target
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE t (id int PRIMARY KEY, ch text COLLATE ci, d date, UNIQUE (ch, d));
