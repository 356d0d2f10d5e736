// Package bench measures the built program on private servers: full and sampled reconcile runs
// and backfills, to Redis and to PostgreSQL, beside the limits of the machine and beside
// common tools, on the same data in the same run. make bench prints the tables.
package bench
