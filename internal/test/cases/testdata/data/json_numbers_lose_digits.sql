-- Numbers of which a reader that takes them as doubles loses digits.
-- @legacy
CREATE TABLE t (id bigint PRIMARY KEY, amount numeric(20,10));
INSERT INTO t VALUES (9007199254740993, 1234567890.1234567890);
