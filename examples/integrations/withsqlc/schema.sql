CREATE TABLE accounts (
	id      bigint PRIMARY KEY,
	owner   text NOT NULL,
	cents   bigint NOT NULL,
	changed timestamptz NOT NULL
);
